package ctrd_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// secretValue is what must not be found on a disk.
const secretValue = "correct-horse-battery-staple"

// TestSecretEnv: a container sees its secret variables, after a restart and in
// what is run in it too, and no file on a disk ever has them.
func TestSecretEnv(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "secrets")
	cfg.Front = buildFront(t)
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{ID: "secretive", Image: registry.Busybox}
	spec.Process.Env = []string{"PASSWORD=default", "PLAIN=1"}
	spec.Process.SecretEnv = container.SecretEnv{"PASSWORD=" + secretValue}
	spec.Process.Command = []string{"sh", "-c", `trap 'exit 3' TERM; [ "${PASSWORD#correct-horse}" = -battery-staple ] || exit 9; sleep 3600 & wait`}
	t.Cleanup(func() { remove(t, rt, spec.ID) })
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	ask := func(rt *ctrd.Runtime, env ...string) string {
		t.Helper()
		var out strings.Builder
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("no answer"))
		defer cancel()
		code, err := rt.Exec(ctx, spec.ID, container.ExecRequest{
			Args: []string{"sh", "-c", `echo $PASSWORD $PLAIN; tr '\0' '\n' </proc/1/environ | grep -c PASSWORD`}, Env: env, Stdout: &out,
		})
		if err != nil || code != 0 {
			t.Fatalf("Exec = %d, %v", code, err)
		}
		return out.String()
	}
	for range 2 { // started, and started again in place
		if _, err := rt.Start(t.Context(), spec.ID); err != nil {
			t.Fatal(err)
		}
		if got := ask(rt); got != secretValue+" 1\n1\n" {
			t.Errorf("a process in the container sees %q", got)
		}
		if got := ask(rt, "PASSWORD=mine"); got != "mine 1\n1\n" {
			t.Errorf("a process that has its own value sees %q", got)
		}
		nothingOnDisk(t, cfg, daemon)
		if err := rt.Signal(t.Context(), spec.ID, 15, false); err != nil {
			t.Fatal(err)
		}
		if st := awaitStopped(t, rt, spec.ID); st.Exit.Code != 3 {
			t.Fatalf("exit %+v, want 3: 9 says that init did not see the secret", st.Exit)
		}
	}

	again := open(t, cfg) // an agent that was killed and started again
	if _, err := again.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if got := ask(again); got != secretValue+" 1\n1\n" {
		t.Errorf("after a restart of the agent: %q", got)
	}
	remove(t, again, spec.ID)
	dir := filepath.Join(cfg.StateDir, "secrets")
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		t.Errorf("the memory for secrets is mounted after the last container: %v, %v", mounted, err)
	}
}

// TestSecretEnvGone: what a reboot took is said, and not left out in silence.
func TestSecretEnvGone(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "gone")
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{ID: "forgetful", Image: registry.Busybox}
	spec.Process.SecretEnv = container.SecretEnv{"PASSWORD=" + secretValue}
	spec.Process.Command = []string{"true"}
	if err := rt.Create(t.Context(), spec); err == nil || container.KindOf(err, "") != container.KindCreate {
		t.Fatalf("created without a front: %v", err)
	}
	cfg.Front = buildFront(t)
	rt = open(t, cfg)
	t.Cleanup(func() { remove(t, rt, spec.ID) })
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.StateDir, "secrets", spec.ID, "env")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Start(t.Context(), spec.ID); err == nil || !strings.Contains(err.Error(), "went with the host's last boot") {
		t.Errorf("Start = %v", err)
	}
	if err := rt.Create(t.Context(), spec); err != nil { // the engine, which has asked for them again
		t.Fatal(err)
	}
	if _, err := rt.Start(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
	// What belongs to no container is swept.
	stray := filepath.Join(cfg.StateDir, "secrets", "stray")
	if err := os.Mkdir(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the secrets of no container are still there: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the secrets of a container were swept: %v", err)
	}
}

// nothingOnDisk reads every file that containerd and the Runtime have, but those
// in memory.
func nothingOnDisk(t *testing.T, cfg ctrd.Config, daemon *runtimetest.Containerd) {
	t.Helper()
	memory := filepath.Join(cfg.StateDir, "secrets")
	seen := 0
	for _, dir := range append(daemon.Dirs(), cfg.StateDir, "/run/containerd/runc/"+cfg.Namespace) {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist), path == memory, path != dir && entry.Name() == "rootfs":
				return filepath.SkipDir
			case err != nil || !entry.Type().IsRegular():
				return err
			}
			content, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			seen++
			if bytes.Contains(content, []byte(secretValue)) {
				t.Errorf("%s has the secret", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 10 {
		t.Errorf("only %d files were looked at", seen)
	}
	if in, err := exec.CommandContext(t.Context(), "stat", "-f", "-c", "%T", memory).Output(); err != nil || strings.TrimSpace(string(in)) != "tmpfs" {
		t.Errorf("secrets are kept on %s, %v", in, err)
	}
}

func buildFront(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "front")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/ocifront").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the front: %v\n%s", err, out)
	}
	return binary
}

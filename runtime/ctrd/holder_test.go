package ctrd_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestHolder: two containers in the namespaces of a holder see each other's
// processes and shared memory; the holder outlives them and the agent, and reaps.
func TestHolder(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "holder")
	cfg.Init = []string{buildInit(t)}
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	holder := container.Spec{
		ID: "holder", Group: "task", Holder: true, IPC: container.Namespace{Mode: "shareable"},
		Labels: map[string]string{"what": "holder"}, Limits: container.Limits{ShmSize: 8 << 20},
	}
	for range 2 { // Both are idempotent.
		if err := rt.Create(t.Context(), holder); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Start(t.Context(), holder.ID); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { remove(t, rt, holder.ID) })
	held := container.Namespace{Mode: "container", Of: holder.ID}
	for _, id := range []string{"one", "two"} {
		spec := container.Spec{ID: id, Group: "task", Image: registry.Busybox, PID: held, IPC: held}
		spec.Process.Command = []string{"sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"}
		if err := rt.Create(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, rt, id) })
	}
	said := func(id, script string) string {
		t.Helper()
		var out bytes.Buffer
		if code, err := rt.Exec(t.Context(), id, container.ExecRequest{Args: []string{"sh", "-c", script}, Stdout: &out}); err != nil || code != 0 {
			t.Fatalf("%s in %s: %d, %v: %s", script, id, code, err, out.String())
		}
		return strings.TrimSpace(out.String())
	}
	if got := said("two", "ps -o args | grep -c 'sleep 3600' | tr -d '\\n'; tr '\\0' ' ' </proc/1/cmdline"); !strings.HasSuffix(got, "/sbin/berth-init --hold") || got[0] < '2' {
		t.Errorf("two sees %q, want both containers and the holder as PID 1", got)
	}
	said("one", "echo hello >/dev/shm/note")
	if got := said("two", "cat /dev/shm/note; df -m /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2"); got != "hello\n8" {
		t.Errorf("two reads %q from the shared memory", got)
	}
	// The agent is killed; the next one finds all of it. The memory that the holder
	// takes for itself is small.
	st := become(t, open(t, cfg), holder.ID, func(st container.Status) bool { return st.Phase == container.Running })
	if st.Labels["what"] != "holder" {
		t.Errorf("the holder's labels are %v", st.Labels)
	}
	if kib := private(t, st.PID); kib > 6<<10 {
		t.Errorf("the holder has %d KiB of memory of its own", kib)
	}
	if err := rt.Signal(t.Context(), "one", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, rt, "one")
	if got := said("two", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"); got != "0" {
		t.Errorf("%s zombies in the namespace", got)
	}
	if err := rt.Remove(t.Context(), holder.ID); err != nil {
		t.Fatal(err)
	}
	if st := awaitStopped(t, rt, "two"); st.Exit.Code != 137 {
		t.Errorf("without the holder two ended with %+v, want 137", st.Exit)
	}
	if _, err := rt.Start(t.Context(), "two"); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("Start without the holder = %v, want ErrNotRunning", err)
	}
	if removed, err := rt.Sweep(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("Sweep = %q, %v", removed, err)
	}
}

// private is the memory of a process that it shares with none, in KiB.
func private(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	return total
}

// TestHolderNeedsInit: without an init of ours there is nothing to hold with.
func TestHolderNeedsInit(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "noinit"))
	if err := rt.Create(t.Context(), container.Spec{ID: "h", Holder: true}); err == nil || !strings.Contains(err.Error(), "no init is configured") {
		t.Errorf("Create = %v", err)
	}
}

// buildInit builds the static init of testdata.
func buildInit(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the init: %v\n%s", err, out)
	}
	return binary
}

var _ container.Runtime = (*ctrd.Runtime)(nil)

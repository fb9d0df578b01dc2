package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthd/berth/runtime/ctrd"
)

// stage is where one story plays.
type stage struct {
	name    string // of the network namespace and the containerd namespace
	run     string // short, because unix socket paths end at 107 bytes
	work    string
	address string
}

var stages atomic.Int32

// newStage makes a story's namespaces and directories, and the programs that
// run in them.
func newStage(e *testscript.Env, binary, containerd string) (*stage, error) {
	s := &stage{
		name: fmt.Sprintf("berth-story-%d-%d", os.Getpid(), stages.Add(1)),
		work: e.WorkDir, address: containerd,
	}
	var err error
	if s.run, err = os.MkdirTemp("/run", "bst"); err != nil {
		return nil, err
	}
	// As all is on a host of systemd: what is mounted there is seen by a program that is shut in.
	if err := errors.Join(syscall.Mount(s.run, s.run, "", syscall.MS_BIND, ""), syscall.Mount("", s.run, "", syscall.MS_SHARED, "")); err != nil {
		return nil, fmt.Errorf("cannot share the mounts of %s: %w", s.run, err)
	}
	s.run = filepath.Join(s.run, "r") // Some stories have it removed.
	if err := os.Mkdir(s.run, 0o755); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"netns", "add", s.name}, {"-n", s.name, "link", "set", "lo", "up"}} {
		if out, err := exec.CommandContext(context.Background(), "ip", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	// As the package has it on a host: no connection takes a port that is the agent's.
	reserve := "echo 51678-51679 >/proc/sys/net/ipv4/ip_local_reserved_ports"
	if out, err := exec.CommandContext(context.Background(), "nsenter", "--net=/run/netns/"+s.name, "sh", "-c", reserve).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", reserve, err, out)
	}
	bin := filepath.Join(s.work, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return nil, err
	}
	push, err := exec.LookPath("push-image")
	if err != nil {
		return nil, err
	}
	standin, err := exec.LookPath("aws-standin")
	if err != nil {
		return nil, err
	}
	const endpoint = "http://127.0.0.1:4580"
	inside := "exec nsenter --net=/run/netns/" + s.name + " -- "
	for name, command := range map[string]string{
		"berth":   binary,
		"aws":     awsCLI + " --endpoint-url " + endpoint,
		"get":     "curl -sS -f -m 20 --retry 5 --retry-delay 1 --retry-connrefused", // RUNNING is not listening yet
		"push":    push,
		"standin": standin,
		"inside":  "",
	} {
		if err := writeScript(filepath.Join(bin, name), `%s%s "$@"`, inside, command); err != nil {
			return nil, err
		}
	}
	for name, script := range scripts() {
		if err := writeScript(filepath.Join(bin, name), "%s", script); err != nil {
			return nil, err
		}
	}
	for k, v := range map[string]string{
		"PATH": bin + ":" + e.Getenv("PATH"), "HOME": s.work, "RUN": s.run,
		"AWS_ACCESS_KEY_ID": "berth", "AWS_SECRET_ACCESS_KEY": "local-secret", "AWS_DEFAULT_REGION": "eu-west-1",
		"AWS_PAGER": "", "AWS_RETRY_MODE": "standard",
		"ECS_CLUSTER": "story", "ECS_BACKEND_HOST": endpoint, "ECS_DATADIR": filepath.Join(s.work, "data"),
		"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "2s",
		"BERTH_RUN_DIR":                         s.run, "BERTH_CONTAINERD_ADDRESS": containerd, "BERTH_CONTAINERD_NAMESPACE": s.name,
		"BERTH_SOCKET": filepath.Join(s.run, "berth.sock"), "BERTH_LOG_SOCKET": filepath.Join(s.run, "logs.sock"),
		"STAGE": s.name, "ECS_AUDIT_LOGFILE": filepath.Join(s.work, "audit.log"),
	} {
		e.Setenv(k, v)
	}
	return s, nil
}

// strike removes everything of a story from the host.
func (s *stage) strike(t *testing.T, story testscript.T) {
	t.Helper()
	if f, ok := story.(interface{ Failed() bool }); ok && f.Failed() {
		s.lastWords(story)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Minute, errors.New("cleaning up takes too long"))
	defer cancel()
	// The agent first: it would put back what is removed.
	s.killInside(t)
	if err := s.removeContainers(ctx); err != nil {
		t.Errorf("cannot remove the story's containers: %v", err)
	}
	s.killInside(t)
	base := filepath.Dir(s.run)
	for _, dir := range []string{base, s.work} {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			t.Error(err)
		}
		for _, m := range slices.Backward(mounts) {
			if err := syscall.Unmount(m.Mountpoint, syscall.MNT_DETACH); err != nil {
				t.Errorf("cannot unmount %s: %v", m.Mountpoint, err)
			}
		}
	}
	s.detachLoops(ctx, t)
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", s.name).CombinedOutput(); err != nil {
		t.Errorf("cannot remove network namespace: %v: %s", err, out)
	}
	if err := os.RemoveAll(base); err != nil {
		t.Error(err)
	}
	removeCgroups(s.work)
}

// detachLoops gives back the loop devices of the story's files.
func (s *stage) detachLoops(ctx context.Context, t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		backing, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(backing), s.work+"/") {
			continue // not ours, or given back meanwhile
		}
		device := "/dev/" + strings.Split(file, "/")[3]
		if out, err := exec.CommandContext(ctx, "losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("cannot detach %s: %v: %s", device, err, out)
		}
	}
}

// lastWords shows what the programs of a failed story said.
func (s *stage) lastWords(story testscript.T) {
	for _, name := range []string{"agent.log", "local.log"} {
		data, err := os.ReadFile(filepath.Join(s.work, name))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		story.Log("the end of " + name + ":\n" + strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

// removeContainers removes what the story left in containerd.
func (s *stage) removeContainers(ctx context.Context) error {
	rt, err := ctrd.New(ctrd.Config{Address: s.address, Namespace: s.name, StateDir: filepath.Join(s.run, "strike")})
	if err != nil {
		return err
	}
	defer func() { _ = rt.Close() }()
	all, err := rt.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := rt.Remove(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// killInside kills the processes that are in the story's network namespace.
func (s *stage) killInside(t *testing.T) {
	t.Helper()
	for range 3000 { // a minute
		pids := s.inside()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // It may have ended by itself.
		}
		<-time.NewTimer(20 * time.Millisecond).C
	}
	t.Errorf("processes %v do not end", s.inside())
}

// inside are the processes in the story's network namespace.
func (s *stage) inside() []int {
	own, err := os.Stat("/run/netns/" + s.name)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if info, err := os.Stat("/proc/" + e.Name() + "/ns/net"); err == nil && os.SameFile(own, info) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeCgroups removes the cgroups of the tasks that the story's cluster had.
func removeCgroups(work string) {
	for _, dir := range taskCgroups(work) {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // Best effort.
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			_ = os.Remove(d) // The next run says so if it stays.
		}
	}
}

// taskCgroups are the cgroups that exist for tasks that the story's cluster
// knows.
func taskCgroups(work string) []string {
	state, err := os.ReadFile(filepath.Join(work, "local", "state.json"))
	if err != nil {
		return nil
	}
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/ecs/*", "/sys/fs/cgroup/ecstasks.slice/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "ecstasks-"), ".slice")
			if len(id) >= 32 && strings.Contains(string(state), id) {
				found = append(found, dir)
			}
		}
	}
	return found
}

package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

// startTimeout bounds the start of containerd; it takes a fraction of a second
// on an idle machine.
const startTimeout = 60 * time.Second

// Containerd is a containerd daemon of one test, with its own socket, root and
// state directories. It ends, with every shim and container that it started,
// when the test does.
type Containerd struct {
	// Address is the path of its socket.
	Address string

	tb     testing.TB
	binary string
	root   string
	dir    string // short: unix socket paths end at 107 bytes
	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd is reaped
	log    *os.File
}

// StartContainerd starts the containerd found in PATH for the test and returns
// its address. The test is skipped, with the reason, where that cannot work.
func StartContainerd(tb testing.TB) (address string) {
	tb.Helper()
	return NewContainerd(tb, "containerd").Address
}

// NewContainerd starts the containerd of the given binary, a name in PATH or a
// path. A containerd-shim-runc-v2 beside the binary is preferred to that in
// PATH.
func NewContainerd(tb testing.TB, binary string) *Containerd {
	tb.Helper()
	return NewContainerdAt(tb, binary, tb.TempDir()) // removed after cleanup
}

// NewContainerdAt is NewContainerd with what outlives the daemon, images among it,
// in a directory of the caller's.
func NewContainerdAt(tb testing.TB, binary, root string) *Containerd {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: containerd mounts file systems")
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		tb.Skipf("needs containerd: %v", err)
	}
	if _, err := exec.LookPath("runc"); err != nil {
		tb.Skipf("needs runc: %v", err)
	}
	// Not tb.TempDir: its path is too long for a socket, and cleaning up must be
	// able to unmount first.
	dir, err := os.MkdirTemp("/run", "berth-test-")
	if err != nil {
		tb.Fatal(err)
	}
	c := &Containerd{Address: filepath.Join(dir, "c.sock"), tb: tb, binary: path, dir: dir}
	tb.Cleanup(c.cleanup)
	c.root = root
	if err := c.configure(root); err != nil {
		tb.Fatal(err)
	}
	c.Start()
	return c
}

// configure writes the daemon's configuration. The root directory holds
// overlayfs layers, which /run (often a tmpfs) may be too small for.
func (c *Containerd) configure(root string) error {
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = %q
[debug]
  level = "info"
`, filepath.Join(root, "containerd"), filepath.Join(c.dir, "state"), c.Address)
	var err error
	if c.log, err = os.Create(filepath.Join(root, "containerd.log")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "config.toml"), []byte(config), 0o600)
}

// Dirs are the directories that the daemon keeps everything in.
func (c *Containerd) Dirs() []string { return []string{c.root, c.dir} }

// Start starts the daemon, after Stop again, and returns once it listens and
// serves.
func (c *Containerd) Start() {
	c.tb.Helper()
	c.cmd = exec.Command(c.binary, "--config", filepath.Join(c.dir, "config.toml")) //nolint:noctx // ended by Stop
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(c.binary)+":"+os.Getenv("PATH"))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		c.tb.Fatalf("cannot start containerd: %v", err)
	}
	c.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(c.cmd, c.exited)
	if err := c.awaitServing(); err != nil {
		c.tb.Fatalf("containerd does not serve: %v\n%s", err, c.tail())
	}
}

// Stop ends the daemon as its service manager would; shims and containers go
// on.
func (c *Containerd) Stop() { c.end(syscall.SIGTERM) }

// Kill ends the daemon with SIGKILL; shims and containers go on.
func (c *Containerd) Kill() { c.end(syscall.SIGKILL) }

func (c *Containerd) end(sig syscall.Signal) {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(sig)
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-c.exited:
	case <-patience.C:
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
	c.cmd = nil
}

// awaitServing waits until the socket accepts: containerd listens once its
// plugins are up.
func (c *Containerd) awaitServing() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), startTimeout, errors.New("not listening in time"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", c.Address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.exited:
			return errors.New("it exited")
		case <-tick.C:
		}
	}
}

// cleanup ends what the daemon started: init processes, shims, the daemon, and
// the mounts that they leave.
func (c *Containerd) cleanup() {
	c.end(syscall.SIGTERM)
	shims := c.shims()
	for _, shim := range shims {
		for _, pid := range descendants(shim) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = syscall.Kill(shim, syscall.SIGKILL)
	}
	awaitGone(shims)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(c.dir))
	if err != nil {
		c.tb.Errorf("cannot read mounts: %v", err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := syscall.Unmount(m.Mountpoint, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			c.tb.Errorf("cannot unmount %s: %v", m.Mountpoint, err)
		}
	}
	if c.tb.Failed() {
		c.tb.Logf("containerd's last words:\n%s", c.tail())
	}
	if c.log != nil {
		_ = c.log.Close()
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.tb.Errorf("cannot remove %s: %v", c.dir, err)
	}
}

// Shims is how many shim processes the daemon has.
func (c *Containerd) Shims() int { return len(c.shims()) }

// KillShims kills every shim of the daemon, and nothing else.
func (c *Containerd) KillShims() { c.SignalShims(syscall.SIGKILL) }

// SignalShims sends every shim of the daemon a signal.
func (c *Containerd) SignalShims(sig syscall.Signal) {
	for _, pid := range c.shims() {
		_ = syscall.Kill(pid, sig) // It may have ended just now.
	}
}

// shims finds the shim processes of this daemon by its address, which stands in
// their command lines.
func (c *Containerd) shims() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range dirs {
		line, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
		if filepath.Base(args[0]) == "containerd-shim-runc-v2" && slices.Contains(args, c.Address) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (c *Containerd) tail() string {
	log, err := os.ReadFile(c.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}

// descendants are the processes below pid, nearest first.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		list, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(list)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
				all = append(all, descendants(child)...)
			}
		}
	}
	return all
}

// awaitGone waits until none of the processes, which are not our children, is
// left.
func awaitGone(pids []int) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if !slices.ContainsFunc(pids, alive) {
			return
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

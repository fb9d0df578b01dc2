package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Gateway is the address of the test on the network of its machines.
const Gateway = "10.213.0.1"

// tidying is how long removing something may take at the end of a test.
const tidying = time.Minute

var (
	errSlow = errors.New("it takes too long")
	// lans counts the networks of this process, for names that differ.
	lans atomic.Int32 //nolint:gochecknoglobals // names in the kernel are the process's too
)

// LAN is a network namespace with a bridge that machines are plugged into. Its methods may be called from many goroutines.
type LAN struct {
	name     string
	tree     string
	machines atomic.Int32
}

// New makes a network for the machines of a test. It skips the test, and says what is missing, where machines cannot be run; tree is
// the directory that tree.sh made.
func New(tb testing.TB, tree string) *LAN {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: machines are made of namespaces, mounts and cgroups")
	}
	for _, program := range []string{"systemd-nspawn", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("needs %s: %v (make deps installs it)", program, err)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, ".done")); tree == "" || err != nil {
		tb.Skip("needs a tree for machines in BERTH_TEST_MACHINE (make test makes it)")
	}
	l := &LAN{name: fmt.Sprintf("berth-lan-%d-%d", os.Getpid(), lans.Add(1)), tree: tree}
	ip(tb, "netns", "add", l.name)
	tb.Cleanup(func() { ipDown(tb, "netns", "del", l.name) })
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "lan0", "type", "bridge"},
		{"addr", "add", Gateway + "/24", "dev", "lan0"},
		{"link", "set", "lan0", "up"},
	} {
		ip(tb, append([]string{"-n", l.name}, args...)...)
	}
	return l
}

// Command prepares a program that runs outside the machines, on their network. It is the host's, with the host's files.
func (l *LAN) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + l.name, "--", program}, args...)...)
}

// Listen opens a TCP port on the network, at an address of the LAN's namespace such as Gateway+":0", for a server that is part of the
// test itself. It is closed when the test ends.
func (l *LAN) Listen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	var listener net.Listener
	err := errors.New("the goroutine ended")
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is the namespace's for good: it ends with the goroutine. The socket stays where it was opened.
		runtime.LockOSThread()
		var namespace *os.File
		if namespace, err = os.Open(filepath.Join("/run/netns", l.name)); err != nil {
			return
		}
		defer func() { _ = namespace.Close() }() // It was only entered.
		if err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		listener, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
	}()
	<-done
	if err != nil {
		tb.Fatalf("cannot listen at %s: %v", address, err)
	}
	tb.Cleanup(func() { _ = listener.Close() }) // The server may have closed it.
	return listener
}

// ip changes networks, and has to succeed.
func ip(tb testing.TB, args ...string) {
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), "ip", args...).CombinedOutput(); err != nil {
		tb.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// ipDown does so at the end of a test, when the test's own context is over.
func ipDown(tb testing.TB, args ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), tidying, errSlow)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		tb.Errorf("ip %v: %v: %s", args, err, out)
	}
}

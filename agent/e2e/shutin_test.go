package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	linuxcap "github.com/containerd/containerd/v2/pkg/cap"
	"golang.org/x/sys/unix"
)

// shutInMain is the program shut-in COMMAND…: it becomes the command, shut in as
// berth.service shuts in the agent where systemd runs: it has mounts of its own in
// which nothing can be written, no disks in /dev, and the unit's capabilities. As its
// standard input it has the mount namespace that it came from. What systemd does
// besides, with filters of system calls and so on, the tests of the packages see to.
func shutInMain() {
	if err := shutIn(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "shut-in:", err)
		os.Exit(1)
	}
}

func shutIn(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: shut-in COMMAND…")
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // It is this thread that becomes the program.
	host, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := unix.Dup3(host, 0, 0); err != nil {
		return err
	}
	if err := ownMounts(); err != nil {
		return fmt.Errorf("cannot make mounts of its own: %w", err)
	}
	kept := strings.Fields(os.Getenv("AGENT_CAPABILITIES"))
	for number := 0; linuxcap.FromNumber(number) != ""; number++ {
		if slices.Contains(kept, linuxcap.FromNumber(number)) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // not of this kernel
			return fmt.Errorf("cannot drop %s: %w", linuxcap.FromNumber(number), err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Exec(program, args, os.Environ())
}

// ownMounts gives the thread mounts that get what is mounted on the host, and nothing
// of which comes out to it.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	dev, err := os.MkdirTemp("", "shut-in-")
	if err != nil {
		return err
	}
	if err := unix.Mount("dev", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "shm"} {
		from, to := filepath.Join("/dev", name), filepath.Join(dev, name)
		made := func() error { return os.WriteFile(to, nil, 0o600) }
		if name == "shm" {
			made = func() error { return os.Mkdir(to, 0o700) }
		}
		if err := errors.Join(made(), unix.Mount(from, to, "", unix.MS_BIND, "")); err != nil {
			return err
		}
	}
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	// Neither the devices nor the processes are read-only.
	for _, dir := range []string{dev, "/proc"} {
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
	}
	return unix.Mount(dev, "/dev", "", unix.MS_MOVE, "")
}

// agentCapabilities are those that berth.service leaves to the agent.
func agentCapabilities(t *testing.T) string {
	t.Helper()
	unit, err := fs.ReadFile(os.DirFS("../../packaging/systemd"), "berth.service")
	if err != nil {
		t.Fatal(err)
	}
	_, set, ok := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	set, _, _ = strings.Cut(set, "\n")
	if !ok || !strings.Contains(set, "CAP_SYS_ADMIN") {
		t.Fatalf("berth.service has CapabilityBoundingSet=%s", set)
	}
	return set
}

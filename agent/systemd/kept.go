package systemd

import (
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Keep hands systemd a copy of an open file. As long as the unit is not stopped for good, also while it is restarted and after a kill,
// systemd keeps it, and the next process has it from Kept. What was kept by that name before is let go of.
func Keep(name string, f *os.File) error {
	if err := Forget(name); err != nil {
		return err
	}
	// A lock of logind is a pipe that has no reader while logind is restarted: systemd is not to look whether it is any good.
	return pass("FDSTORE=1\nFDNAME="+oneLine(name)+"\nFDPOLL=0", f)
}

// Forget has systemd let go of what it keeps by a name.
func Forget(name string) error { return notify("FDSTOREREMOVE=1\nFDNAME=" + oneLine(name)) }

// Kept is what systemd has kept for this process, by name. It belongs to the caller, and is answered once: call it before any other
// process is started, which would inherit it.
func Kept() map[string]*os.File {
	kept := map[string]*os.File{}
	for _, f := range activation.Files(true) {
		if old := kept[f.Name()]; old != nil {
			_ = old.Close() // Two by one name are copies of one.
		}
		kept[f.Name()] = f
	}
	return kept
}

// pass notifies systemd, and sends it a copy of an open file along.
func pass(state string, f *os.File) error {
	path := os.Getenv("NOTIFY_SOCKET") //nolint:forbidigo // as for every notification: it is no setting of ours
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot make a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // All has been said.
	to := &unix.SockaddrUnix{Name: path}
	if err := unix.Sendmsg(fd, []byte(state), unix.UnixRights(int(f.Fd())), to, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("cannot hand systemd a file: %w", err)
	}
	return nil
}

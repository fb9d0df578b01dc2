package ctrd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An agent that is shut in may not send signals to other users' processes
// (CAP_KILL). It may have the kernel kill a version 2 control group, which is on
// hosts too where version 1 does the limiting, and it may put processes into one.
// The kernel does that since Linux 5.14.

// killGroupName is the control group below a container's that processes are put
// into to be killed.
const killGroupName = "berth-kill"

// unifiedRoot is where the version 2 hierarchy is mounted.
func (h host) unifiedRoot() string {
	if h.unified {
		return h.cgroups
	}
	return filepath.Join(h.cgroups, "unified")
}

// killGroup kills what is in a version 2 control group, if there is one.
func (h host) killGroup(path string) error {
	err := setFile(filepath.Join(h.unifiedRoot(), path, "cgroup.kill"), "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// killIn kills processes of the container whose first process is initPID.
func (h host) killIn(initPID int, pids []int) error {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", initPID))
	if err != nil {
		return err
	}
	at := strings.LastIndex("\n"+string(own), "\n0::")
	if at < 0 {
		return errors.New("this host has no version 2 control groups")
	}
	path, _, _ := strings.Cut(string(own[at+len("0::"):]), "\n")
	group := filepath.Join(h.unifiedRoot(), path, killGroupName)
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// It goes once its processes have: with the next that are killed, or with the container.
	defer func() { _ = unix.Rmdir(group) }()
	var errs []error
	for _, pid := range pids {
		if err := setFile(filepath.Join(group, "cgroup.procs"), strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, setFile(filepath.Join(group, "cgroup.kill"), "1"))...)
}

// setFile sets a file of the kernel in one write.
func setFile(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

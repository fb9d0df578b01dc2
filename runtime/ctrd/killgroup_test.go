package ctrd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Processes are killed by their control group where they may not be signalled, those that are meant and no others.
func TestKillByGroup(t *testing.T) {
	h := detectHost("/")
	if _, err := os.Stat(filepath.Join(h.unifiedRoot(), "cgroup.procs")); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and version 2 control groups")
	}
	own, err := os.MkdirTemp(h.unifiedRoot(), "berth-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range []string{filepath.Join(own, killGroupName), own} {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cannot remove %s: %v", dir, err)
			}
		}
	})
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sleep", "3600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // It is dead by then if all is well.
			_ = cmd.Wait()
		})
		if err := setFile(filepath.Join(own, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	killed := func(cmd *exec.Cmd) {
		t.Helper()
		_ = cmd.Wait() // It says how by its state.
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			t.Errorf("it ended by %v", cmd.ProcessState)
		}
	}
	first, second, third := start(), start(), start()
	gone := second.Process.Pid
	for _, meant := range []*exec.Cmd{second, third} {
		if err := h.killIn(first.Process.Pid, []int{meant.Process.Pid}); err != nil {
			t.Fatal(err)
		}
		killed(meant)
	}
	if err := h.killIn(first.Process.Pid, []int{gone}); err != nil {
		t.Errorf("one that has gone: %v", err)
	}
	if err := first.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another one died: %v", err)
	}
	if err := h.killGroup(strings.TrimPrefix(own, h.unifiedRoot())); err != nil {
		t.Fatal(err)
	}
	killed(first)
	if err := h.killGroup("/no/such/group"); err != nil {
		t.Errorf("a group that is not there: %v", err)
	}
}

package cgroups

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernel makes real cgroups, of the version that the host has and with the
// drivers that can work on it; files that look like those of either version are
// tested everywhere.
func TestKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes cgroups")
	}
	if detect("/sys/fs/cgroup") != V2 {
		t.Run("v1", testLegacyKernel)
		return
	}
	drivers := []Driver{Cgroupfs}
	if underSystemd() {
		drivers = append(drivers, Systemd)
	}
	for _, driver := range drivers {
		t.Run(string(driver), func(t *testing.T) {
			m, err := New(Config{Driver: driver})
			if err != nil {
				t.Skipf("needs the controllers cpu and memory: %v", err)
			}
			limitsOfTheKernel(t, m)
		})
	}
}

func limitsOfTheKernel(t *testing.T, m *Manager) {
	t.Helper()
	const hard, soft = "berthtest0hard", "berthtest0soft"
	for _, id := range []string{hard, soft} {
		t.Cleanup(func() {
			if err := m.Remove(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 { // Create is idempotent
		for _, task := range []Task{{ID: hard, CPUs: 0.25, MemoryBytes: 32 << 20, Pids: 50}, {ID: soft, Shares: 512}} {
			if _, err := m.Create(t.Context(), task); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file, want := range map[string]string{
		m.TaskPath(hard) + "/cpu.max":    "25000 100000",
		m.TaskPath(hard) + "/memory.max": "33554432",
		m.TaskPath(hard) + "/pids.max":   "50",
		m.TaskPath(hard) + "/cpu.weight": "100",
		m.TaskPath(soft) + "/cpu.max":    "max 100000",
		m.TaskPath(soft) + "/cpu.weight": strconv.FormatUint(weight(512), 10),
		m.TaskPath(soft) + "/memory.max": "max",
	} {
		if got := read(t, "/sys/fs/cgroup", file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	if ids, err := m.List(t.Context()); err != nil || !slices.Contains(ids, hard) || !slices.Contains(ids, soft) {
		t.Errorf("List = %v, %v", ids, err)
	}

	// A cgroup with a process stays, and so does the process.
	child := filepath.Join("/sys/fs/cgroup", m.TaskPath(hard), "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // Again, if the test fails early.
	if err := write(filepath.Join(child, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), hard); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Remove of a cgroup with a process = %v, want %v", err, unix.EBUSY)
	}
	if err := cmd.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process of a cgroup that could not be removed: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, id := range []string{hard, soft} {
		for range 2 {
			if err := m.Remove(t.Context(), id); err != nil {
				t.Errorf("Remove: %v", err)
			}
		}
		if _, err := os.Stat("/sys/fs/cgroup" + m.TaskPath(id)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", m.TaskPath(id), err)
		}
	}
}

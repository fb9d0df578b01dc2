package ctrd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

// killRounds bounds the search for children: each round kills what the one
// before has left or what was forked meanwhile.
const killRounds = 20

// kill ends the process and everything that came of it, and waits until it is
// reaped.
func (x *execution) kill(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), farewell, errFarewell)
	defer cancel()
	x.killProcesses()
	if _, err := x.r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: x.stored.ID, ExecID: x.id}); err != nil && !errdefs.IsNotFound(native(err)) {
		x.r.log.Warn("a killed process does not end", zap.String("container", x.stored.ID), zap.Error(native(err)))
	}
}

// killProcesses kills the process and everything that came of it. It needs no
// containerd.
func (x *execution) killProcesses() {
	for range killRounds {
		found := x.descendants()
		var foreign []int // Those that we may not signal.
		for _, pid := range found {
			err := syscall.Kill(pid, syscall.SIGKILL)
			if errors.Is(err, syscall.EPERM) {
				foreign = append(foreign, pid)
			} else if err != nil && !errors.Is(err, syscall.ESRCH) {
				x.r.log.Warn("cannot kill a process", zap.String("container", x.stored.ID), zap.Int("pid", pid), zap.Error(err))
			}
		}
		if len(foreign) > 0 {
			err := x.r.cfg.OnHost(func() error { return x.r.host.killIn(x.initPID, foreign) })
			if err != nil {
				x.r.log.Warn("cannot kill processes", zap.String("container", x.stored.ID), zap.Ints("pids", foreign), zap.Error(err))
			}
		}
		if len(found) == 0 {
			return
		}
	}
}

// descendants are the processes of the container's cgroup that carry our mark
// in their environment, or have an ancestor that is the process. The first
// finds those whose parent has gone, the second those that cleared their
// environment.
func (x *execution) descendants() []int {
	var out []int
	mark := []byte(execMark + "=" + x.id + "\x00")
	for _, pid := range processesOf(x.r.host, x.initPID) {
		if pid == x.initPID || zombie(pid) {
			continue
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if (err == nil && bytes.Contains(environ, mark)) || descends(pid, x.pid) {
			out = append(out, pid)
		}
	}
	return out
}

// processesOf are the processes in the cgroup of pid and below it.
func processesOf(h host, pid int) []int {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil
	}
	dir := ""
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case h.unified && f[0] == "0":
			dir = filepath.Join(h.cgroups, f[2])
		case !h.unified && slices.Contains(strings.Split(f[1], ","), "pids"):
			dir = filepath.Join(h.cgroups, "pids", f[2])
		}
	}
	if dir == "" {
		return nil
	}
	var out []int
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // cgroups come and go while we look
		}
		list, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		for word := range strings.FieldsSeq(string(list)) {
			if p, err := strconv.Atoi(word); err == nil && p > 0 {
				out = append(out, p)
			}
		}
		return nil
	})
	return out
}

// descends says whether ancestor is pid or among its parents.
func descends(pid, ancestor int) bool {
	for range 64 {
		if pid == ancestor {
			return ancestor > 1
		}
		if pid <= 1 {
			return false
		}
		pid = parent(pid)
	}
	return false
}

func parent(pid int) int {
	f := stat(pid)
	if len(f) < 2 {
		return 0
	}
	p, err := strconv.Atoi(f[1])
	if err != nil {
		return 0
	}
	return p
}

func zombie(pid int) bool {
	f := stat(pid)
	return len(f) == 0 || f[0] == "Z" || f[0] == "X"
}

// stat are the fields of /proc/PID/stat behind the command's name.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(text, ')')
	return strings.Fields(string(text[i+1:]))
}

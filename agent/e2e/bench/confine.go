package main

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The stages after the first, which the user calls.
const (
	stageInit    = "init"
	stageMeasure = "measure"
)

// What the first process tells the later ones, in their environment: where the
// files of the run are, those that a host keeps on disk and the others, and below
// which cgroup bare containers are.
const (
	envDirectory = "BENCH_DIRECTORY"
	envDisk      = "BENCH_DISK"
	envCgroup    = "BENCH_CGROUP"
)

// fileTasks has the ids of all tasks that were run, a line each: the agent names
// their cgroups after them.
const fileTasks = "tasks"

// confine runs the rest in namespaces of its own and removes what outlives
// them: files and cgroups.
func confine(ctx context.Context, _ options, args []string) (err error) {
	// Below /run, because paths of unix sockets end at 107 bytes.
	dir, err := os.MkdirTemp("/run", "bb")
	if err != nil {
		return err
	}
	disk, err := os.MkdirTemp("/var/tmp", "berth-bench-")
	if err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	cgroup := "/berth-bench-" + strconv.Itoa(os.Getpid())
	defer func() { err = errors.Join(err, cleanUp(dir, cgroup), os.RemoveAll(disk)) }()
	// ctx ends the first process of the namespaces, and the kernel all others in
	// them. It has a process group of its own: a Ctrl-C is ours to act on.
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-stage", stageInit}, args[1:]...)...)
	cmd.Env = append(os.Environ(), envDirectory+"="+dir, envDisk+"="+disk, envCgroup+"="+cgroup)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("the measuring process: %w", err)
	}
	return nil
}

// initProcess is the first process of the namespaces: it gives them their /proc
// and loopback, and buries whatever dies in them until the one that measures
// has ended.
func initProcess(args []string) error {
	if os.Getpid() != 1 {
		return errors.New("-stage is for the command's own use")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	// The shims keep what runc knows here, whatever containerd's own directories.
	if err := os.MkdirAll("/run/containerd", 0o711); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run/containerd", "tmpfs", 0, "mode=0711"); err != nil {
		return fmt.Errorf("cannot mount /run/containerd: %w", err)
	}
	if out, err := exec.CommandContext(context.Background(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot set loopback up: %w: %s", err, out)
	}
	child, err := os.StartProcess("/proc/self/exe", append([]string{args[0], "-stage", stageMeasure}, args[3:]...),
		&os.ProcAttr{Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fmt.Errorf("cannot start the measuring process: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("cannot wait for processes: %w", err)
		case pid == child.Pid && status.ExitStatus() != 0:
			return errors.New("could not measure")
		case pid == child.Pid:
			return nil
		}
	}
}

// cleanUp removes the files and the cgroups of a run whose processes have ended.
func cleanUp(dir, cgroup string) error {
	tasks, err := os.ReadFile(filepath.Join(dir, fileTasks))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	patterns := []string{"/sys/fs/cgroup/*" + cgroup, "/sys/fs/cgroup" + cgroup}
	for id := range strings.FieldsSeq(string(tasks)) {
		patterns = append(patterns, "/sys/fs/cgroup/*/ecs/"+id, "/sys/fs/cgroup/ecstasks.slice/ecstasks-"+id+".slice")
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, errors.New("processes stay in it"))
	defer cancel()
	for _, pattern := range patterns {
		roots, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, root := range roots {
			if err := removeTree(ctx, root); err != nil {
				return fmt.Errorf("cannot remove cgroup %s: %w", root, err)
			}
		}
	}
	return os.RemoveAll(dir)
}

// removeTree removes the directories of a cgroup, deepest first, and tries again
// while the kernel still counts a dying process in one.
func removeTree(ctx context.Context, root string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for _, dir := range slices.Backward(dirs) {
			if rerr := os.Remove(dir); rerr != nil && err == nil {
				err = rerr
			}
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

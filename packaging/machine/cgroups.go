package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const cgroupRoot = "/sys/fs/cgroup"

// makeCgroups makes a cgroup of the name in each hierarchy of the host.
func makeCgroups(name string) ([]string, error) {
	var made []string
	for _, hierarchy := range hierarchies() {
		dir := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		made = append(made, dir)
		// Of v1's cpuset a new cgroup has nothing, and so nothing could run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(hierarchy, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if _, err := os.Stat(filepath.Join(dir, "cpuset.memory_migrate")); err != nil {
				continue // v2 inherits.
			}
			if err := write(filepath.Join(dir, file), string(value)); err != nil {
				return nil, err
			}
			if err := write(filepath.Join(dir, "cgroup.clone_children"), "1"); err != nil {
				return nil, err
			}
		}
	}
	if len(made) == 0 {
		return nil, fmt.Errorf("there are no cgroups at %s", cgroupRoot)
	}
	return made, nil
}

// hierarchies are the mounted ones, each once: cpu and cpuacct are often one that has two names.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.procs")); err == nil {
		return []string{cgroupRoot}
	}
	found, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	if err != nil {
		return nil
	}
	var dirs []string
	for _, procs := range found {
		dir := filepath.Dir(procs)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// removeCgroups kills whatever is in the cgroups of the name, and removes them. It fails while a process ends.
func removeCgroups(name string) error {
	var errs []error
	for _, hierarchy := range hierarchies() {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(hierarchy, name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		errs = append(errs, err)
		for _, dir := range slices.Backward(dirs) {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				killAll(dir)
				errs = append(errs, fmt.Errorf("cannot remove %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// killAll kills the processes of one cgroup.
func killAll(dir string) {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return // It is gone.
	}
	for line := range strings.FieldsSeq(string(procs)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // It may have ended just now.
		}
	}
}

// write writes a file in place. The kernel's cannot be written any other way, and those of a machine are a test's.
func write(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// legacy is cgroup v1: one directory in each controller.
type legacy struct {
	root        string
	period      uint64
	controllers []string
}

// v1Controllers are the controllers mounted below root, without the aliases
// (cpu is a link to cpu,cpuacct on some hosts).
func v1Controllers(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("cannot list cgroup controllers: %w", err)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "unified" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, e.Name(), "cgroup.procs")); err == nil {
			out = append(out, e.Name())
		}
	}
	for _, need := range []string{"cpu", "memory"} {
		if !slices.ContainsFunc(out, func(c string) bool { return slices.Contains(strings.Split(c, ","), need) }) {
			return nil, fmt.Errorf("cannot limit tasks: no cgroup controller %s below %s", need, root)
		}
	}
	return out, nil
}

func (l legacy) create(_ context.Context, t Task) error {
	for _, c := range l.controllers {
		parent := filepath.Join(l.root, c, v1Parent)
		dir := filepath.Join(parent, t.ID)
		for _, d := range []string{parent, dir} {
			if err := mkdirLegacy(c, d); err != nil {
				return err
			}
		}
		names := strings.Split(c, ",")
		for _, f := range l.files(t) {
			if !slices.Contains(names, f.controller) {
				continue
			}
			if err := write(filepath.Join(dir, f.name), f.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirLegacy makes a cgroup of a controller, one that processes can join.
func mkdirLegacy(controller, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	switch controller {
	case "memory":
		return hierarchical(dir)
	case "cpuset":
		// A new cpuset is empty and takes no process until it has its parent's
		// values.
		return inherit(dir, "cpuset.cpus", "cpuset.mems")
	}
	return nil
}

// file is a value for a file of one controller.
type file struct{ controller, name, value string }

func (l legacy) files(t Task) []file {
	var out []file
	if t.CPUs > 0 {
		out = append(out,
			file{"cpu", "cpu.cfs_period_us", strconv.FormatUint(l.period, 10)},
			file{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(quota(t, l.period), 10)})
	} else {
		out = append(out, file{"cpu", "cpu.shares", strconv.FormatUint(shares(t), 10)})
	}
	if t.MemoryBytes > 0 {
		out = append(out, file{"memory", "memory.limit_in_bytes", strconv.FormatInt(t.MemoryBytes, 10)})
	}
	if t.Pids > 0 {
		out = append(out, file{"pids", "pids.max", strconv.FormatInt(t.Pids, 10)})
	}
	return out
}

// hierarchical has a memory cgroup count its children. It cannot be set any
// more once there are some, and then it is.
func hierarchical(dir string) error {
	name := filepath.Join(dir, "memory.use_hierarchy")
	now, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // newer kernels always do
	}
	if err != nil || strings.TrimSpace(string(now)) == "1" {
		return err
	}
	return write(name, "1")
}

// inherit copies the parent's values where there are none.
func inherit(dir string, names ...string) error {
	for _, name := range names {
		own := filepath.Join(dir, name)
		now, err := os.ReadFile(own)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(now)) != "" {
			continue
		}
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := write(own, strings.TrimSpace(string(value))); err != nil {
			return err
		}
	}
	return nil
}

func (l legacy) remove(_ context.Context, id string) error {
	var errs []error
	for _, c := range l.controllers {
		errs = append(errs, removeTree(filepath.Join(l.root, c, v1Parent, id)))
	}
	// Where there is a v2 hierarchy beside those of v1, runc makes its containers' cgroups in it too.
	errs = append(errs, removeTree(filepath.Join(l.root, "unified", v1Parent, id)))
	return errors.Join(errs...)
}

func (l legacy) list(context.Context) ([]string, error) {
	var out []string
	for _, c := range l.controllers {
		names, err := children(filepath.Join(l.root, c, v1Parent))
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	return out, nil
}

// unified is cgroup v2, written by us.
type unified struct {
	root   string
	period uint64
}

// v2Controllers are handed down to tasks, as far as the host has them.
//
//nolint:gochecknoglobals // an immutable table
var v2Controllers = []string{"cpu", "memory", "io", "pids", "cpuset"}

// hasControllers fails where cgroup v2 cannot limit CPU and memory.
func hasControllers(root string) error {
	text, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot read cgroup controllers: %w", err)
	}
	for _, need := range []string{"cpu", "memory"} {
		if !slices.Contains(strings.Fields(string(text)), need) {
			return fmt.Errorf("cannot limit tasks: cgroup controller %s is not enabled", need)
		}
	}
	return nil
}

func (u unified) create(_ context.Context, t Task) error {
	dir := filepath.Join(u.root, slicePath(t.ID))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{u.root, filepath.Dir(dir), dir} {
		if err := handDown(d); err != nil {
			return err
		}
	}
	for _, f := range u.files(t) {
		if err := write(filepath.Join(dir, f.name), f.value); err != nil {
			return err
		}
	}
	return nil
}

// handDown gives the children of a cgroup the controllers that it has.
func handDown(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	has := strings.Fields(string(text))
	for _, c := range v2Controllers {
		if !slices.Contains(has, c) {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
			return err
		}
	}
	return nil
}

func (u unified) files(t Task) []file {
	var out []file
	if t.CPUs > 0 {
		out = append(out, file{"cpu", "cpu.max", fmt.Sprintf("%d %d", quota(t, u.period), u.period)})
	} else {
		out = append(out, file{"cpu", "cpu.weight", strconv.FormatUint(weight(shares(t)), 10)})
	}
	if t.MemoryBytes > 0 {
		out = append(out, file{"memory", "memory.max", strconv.FormatInt(t.MemoryBytes, 10)})
	}
	if t.Pids > 0 {
		out = append(out, file{"pids", "pids.max", strconv.FormatInt(t.Pids, 10)})
	}
	return out
}

func (u unified) remove(_ context.Context, id string) error {
	return removeTree(filepath.Join(u.root, slicePath(id)))
}

func (u unified) list(context.Context) ([]string, error) { return slicesBelow(u.root) }

// slicesBelow are the tasks that have a slice.
func slicesBelow(root string) ([]string, error) {
	names, err := children(filepath.Join(root, slice+".slice"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if id, ok := taskOf(name); ok {
			out = append(out, id)
		}
	}
	return out, nil
}

// children are the cgroups in a cgroup; none when it does not exist.
func children(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// removeTree removes a cgroup and those below it, which must be empty of
// processes.
func removeTree(dir string) error {
	below, err := children(dir)
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := removeTree(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	// Not os.Remove: it would unlink the first file it is given, and a cgroup's
	// files cannot be.
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// write sets a file of the kernel in one write.
func write(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("cannot set %s to %q: %w", name, value, err)
	}
	return nil
}

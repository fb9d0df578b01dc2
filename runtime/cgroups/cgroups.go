package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// v1Parent holds the tasks below each controller of cgroup v1.
	v1Parent = "ecs"
	// slice holds the tasks on cgroup v2.
	slice = "ecstasks"
	// defaultPeriod is the CFS period in microseconds.
	defaultPeriod = 100_000
	// minShares and maxShares are the kernel's bounds of relative CPU weight.
	minShares, maxShares = 2, 262_144
	// scopePrefix is before a container's ID in the name of its systemd scope.
	scopePrefix = "berth"
)

// Driver says who makes cgroups.
type Driver string

// The drivers.
const (
	// Cgroupfs makes directories.
	Cgroupfs Driver = "cgroupfs"
	// Systemd asks systemd over D-Bus; cgroup v2 only.
	Systemd Driver = "systemd"
)

// Mode is the version of the cgroup hierarchy that limits tasks.
type Mode string

// The modes.
const (
	V1 Mode = "v1"
	// Hybrid is V1 with a v2 hierarchy beside it that has no controller we need.
	Hybrid Mode = "hybrid"
	V2     Mode = "v2"
)

// Config is what New needs; the zero value is right for a host.
type Config struct {
	// Driver is "" to choose: Systemd where systemd is PID 1 on cgroup v2, else
	// Cgroupfs.
	Driver Driver
	// Root is where the cgroup file systems are mounted; "" is /sys/fs/cgroup
	// (ECS_CGROUP_PATH).
	Root string
	// Mode is "" to look.
	Mode Mode
	// Period is the CFS period in microseconds; zero is 100000
	// (ECS_CGROUP_CPU_PERIOD).
	Period uint64
	// OnHost calls a function where control groups can be written, for a process that
	// is shut in; nil calls it.
	OnHost func(fn func() error) error
}

// Task is the cgroup that a task is to have. Zero limits nothing, save that
// a task without CPUs is weighed by Shares.
type Task struct {
	// ID is the last part of the task's ARN.
	ID string
	// CPUs is the hard limit in vCPU.
	CPUs float64
	// Shares is the sum of the containers' CPU units, when CPUs is zero.
	Shares uint64
	// MemoryBytes is the hard limit of memory.
	MemoryBytes int64
	// Pids is the largest number of processes.
	Pids int64
}

// Manager makes and removes the cgroups of tasks. Its methods may be called at
// once for different tasks.
type Manager struct {
	cfg     Config
	mode    Mode
	backend backend
}

// backend is how cgroups come to be.
type backend interface {
	create(ctx context.Context, t Task) error
	remove(ctx context.Context, id string) error
	list(ctx context.Context) ([]string, error)
}

// New looks at the host and makes its Manager. It fails where the controllers
// cpu and memory cannot limit tasks.
func New(cfg Config) (*Manager, error) {
	if cfg.Root == "" {
		cfg.Root = "/sys/fs/cgroup"
	}
	if cfg.Period == 0 {
		cfg.Period = defaultPeriod
	}
	if cfg.Mode == "" {
		cfg.Mode = detect(cfg.Root)
	}
	if cfg.Driver == "" {
		cfg.Driver = Cgroupfs
		if cfg.Mode == V2 && underSystemd() {
			cfg.Driver = Systemd
		}
	}
	if cfg.OnHost == nil {
		cfg.OnHost = func(fn func() error) error { return fn() }
	}
	m := &Manager{cfg: cfg, mode: cfg.Mode}
	switch {
	case cfg.Driver == Systemd && cfg.Mode != V2:
		return nil, errors.New("cannot use the systemd cgroup driver: it needs cgroup v2")
	case cfg.Driver == Systemd:
		m.backend = systemdSlices{root: cfg.Root, connect: connectSystemd}
	case cfg.Mode == V2:
		m.backend = unified{root: cfg.Root, period: cfg.Period}
	default:
		controllers, err := v1Controllers(cfg.Root)
		if err != nil {
			return nil, err
		}
		m.backend = legacy{root: cfg.Root, period: cfg.Period, controllers: controllers}
	}
	if cfg.Mode == V2 {
		if err := hasControllers(cfg.Root); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Mode is the hierarchy that limits tasks.
func (m *Manager) Mode() Mode { return m.mode }

// Driver is who makes the cgroups.
func (m *Manager) Driver() Driver { return m.cfg.Driver }

// Create makes the task's cgroup, or sets the limits of the one that is there,
// and returns what belongs into container.Spec.CgroupParent.
func (m *Manager) Create(ctx context.Context, t Task) (parent string, err error) {
	if err := valid(t.ID); err != nil {
		return "", err
	}
	if err := m.cfg.OnHost(func() error { return m.backend.create(ctx, t) }); err != nil {
		return "", fmt.Errorf("cannot create cgroup of task %s: %w", t.ID, err)
	}
	return m.Parent(t.ID), nil
}

// Remove removes the task's cgroup and the empty ones below it. An absent one
// is no error; one with processes is.
func (m *Manager) Remove(ctx context.Context, id string) error {
	if err := valid(id); err != nil {
		return err
	}
	if err := m.cfg.OnHost(func() error { return m.backend.remove(ctx, id) }); err != nil {
		return fmt.Errorf("cannot remove cgroup of task %s: %w", id, err)
	}
	return nil
}

// List has the IDs of the tasks that have a cgroup, sorted. On cgroup v2 a dash
// in an ID comes back as an underscore.
func (m *Manager) List(ctx context.Context) ([]string, error) {
	ids, err := m.backend.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list cgroups of tasks: %w", err)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Parent is what belongs into container.Spec.CgroupParent of the task's
// containers.
func (m *Manager) Parent(id string) string {
	switch {
	case m.cfg.Driver == Systemd:
		return sliceName(id)
	case m.mode == V2:
		return "/" + slicePath(id)
	}
	return "/" + filepath.Join(v1Parent, id)
}

// TaskPath is the task's cgroup relative to a controller's root (v1) or the
// root (v2).
func (m *Manager) TaskPath(id string) string {
	if m.mode == V2 {
		return "/" + slicePath(id)
	}
	return "/" + filepath.Join(v1Parent, id)
}

// ContainerPath is a container's cgroup, relative as TaskPath is.
func (m *Manager) ContainerPath(task, container string) string {
	if m.cfg.Driver == Systemd {
		container = scopePrefix + "-" + container + ".scope"
	}
	return filepath.Join(m.TaskPath(task), container)
}

// sliceName is the systemd slice of a task. A dash nests slices in systemd. The
// IDs of ECS have none; those of other control planes may be UUIDs.
func sliceName(id string) string {
	return slice + "-" + strings.ReplaceAll(id, "-", "_") + ".slice"
}

// slicePath is the directory of a task's slice.
func slicePath(id string) string { return filepath.Join(slice+".slice", sliceName(id)) }

// taskOf is the ID in the name of a task's slice.
func taskOf(name string) (id string, ok bool) {
	id, ok = strings.CutPrefix(name, slice+"-")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(id, ".slice")
}

// valid refuses an ID that is more than a name: it becomes a path.
func valid(id string) error {
	if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" {
		return fmt.Errorf("invalid task ID %q for a cgroup", id)
	}
	return nil
}

// weight is the CPU weight of v2 for shares of v1, as container runtimes
// translate them.
func weight(shares uint64) uint64 { return 1 + (shares-minShares)*9999/(maxShares-minShares) }

// shares are a task's, within the kernel's bounds.
func shares(t Task) uint64 { return min(max(t.Shares, minShares), maxShares) }

// quota is the CPU time in microseconds for each period.
func quota(t Task, period uint64) int64 { return int64(t.CPUs * float64(period)) }

// detect tells the version of the hierarchy mounted at root.
func detect(root string) Mode {
	is2 := func(path string) bool {
		var fs unix.Statfs_t
		return unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	}
	switch {
	case is2(root):
		return V2
	case is2(filepath.Join(root, "unified")):
		return Hybrid
	}
	return V1
}

// underSystemd says whether systemd is PID 1, as sd_booted(3) does.
func underSystemd() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

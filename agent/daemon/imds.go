package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/metrics/cgroup"
	"github.com/berthd/berth/runtime/hostns"
	"github.com/berthd/berth/runtime/network"
)

// imdsGuard tells the network which tasks in host network mode may not reach
// instance metadata (BERTH_BLOCK_IMDS), and which may. A nil one does nothing.
type imdsGuard struct {
	// unified is where the version 2 control groups are mounted, and path a task's
	// in it.
	unified string
	path    func(taskID string) string
	apply   func(ctx context.Context, h network.HostTasks) error
	// mounts is where control groups can be made.
	mounts *hostns.Namespace

	mu sync.Mutex // guards the fields below, and that what is applied last is newest
	// group is the one that all tasks are in, and allowed are those of tasks.
	group   uint64
	allowed map[string]uint64
	// stale says that the network could not be told of what is known.
	stale bool
}

// newIMDSGuard is nil on a host that leaves instance metadata open to tasks.
func newIMDSGuard(h *host, o *Options) *imdsGuard {
	if !o.Config.Network.BlockIMDS {
		return nil
	}
	g := &imdsGuard{path: h.cgroups.TaskPath, apply: h.network.GuardHostTasks, allowed: map[string]uint64{}, mounts: o.Mounts}
	if layout, err := cgroup.Detect(); err == nil {
		g.unified = layout.Unified
	}
	return g
}

// created is called once a task has a control group, and before any container
// of it is made.
func (g *imdsGuard) created(ctx context.Context, t engine.TaskCgroup) error {
	if g == nil || g.unified == "" {
		return nil
	}
	dir := filepath.Join(g.unified, g.path(t.ID))
	// Where version 1 limits tasks, the version 2 group is made when the first
	// container is; the rule must not come later.
	if err := g.mounts.Do(func() error { return os.MkdirAll(dir, 0o755) }); err != nil {
		return fmt.Errorf("cannot close instance metadata to the task: %w", err)
	}
	return g.update(ctx, func() error {
		if t.AllowIMDS {
			id, err := groupID(dir)
			if err != nil {
				return err
			}
			g.allowed[t.ID] = id
		}
		return nil
	})
}

// removed is called once a task's control group is gone.
func (g *imdsGuard) removed(ctx context.Context, id string) error {
	if g == nil || g.unified == "" {
		return nil
	}
	return g.update(ctx, func() error {
		delete(g.allowed, id)
		return nil
	})
}

// restore finds the tasks again that an earlier agent has left running, and says
// what cannot be done on this host.
func (g *imdsGuard) restore(ctx context.Context, tasks []engine.Task, able bool, log *zap.Logger) error {
	if g == nil {
		return nil
	}
	if g.unified == "" || !able {
		log.Error("BERTH_BLOCK_IMDS does not reach tasks in host network mode on this host: instance metadata stays open to them; "+
			"it needs a version 2 hierarchy of control groups and a kernel with nft_socket (Linux 5.13)",
			zap.String("unified", g.unified), zap.Bool("nft_socket", able))
		return nil
	}
	return g.update(ctx, func() error {
		for i := range tasks {
			d := &tasks[i].State.Definition
			if d.Network != task.NetworkHost || !d.AllowsIMDS() {
				continue
			}
			if id, err := groupID(filepath.Join(g.unified, g.path(d.ID))); err == nil {
				g.allowed[d.ID] = id
			}
		}
		return nil
	})
}

// update changes what is known and applies it, if it is new.
func (g *imdsGuard) update(ctx context.Context, change func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, was := g.list(), g.group
	if err := change(); err != nil {
		return err
	}
	// The group of all tasks comes and goes with them where systemd makes it.
	g.group = 0
	if id, err := groupID(filepath.Join(g.unified, filepath.Dir(g.path("0")))); err == nil {
		g.group = id
	}
	if !g.stale && was == g.group && slices.Equal(before, g.list()) {
		return nil
	}
	err := g.apply(ctx, network.HostTasks{Group: g.group, Allowed: g.list()})
	g.stale = err != nil
	return err
}

func (g *imdsGuard) list() []uint64 {
	ids := make([]uint64, 0, len(g.allowed))
	for _, id := range g.allowed {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// groupID is the id that the kernel knows a control group by.
func groupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("cannot look at control group %s: %w", dir, err)
	}
	return st.Ino, nil
}

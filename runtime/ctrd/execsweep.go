package ctrd

import (
	"context"
	"os"
	"path/filepath"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

// sweepExecs ends the processes that an agent which was killed ran by Exec, and
// takes their pipes away: nobody waits for them any more, and they might never
// end. Those that are kept (see keep) have no pipes and stay. It is for the time
// before the first Exec of this Runtime.
func (r *Runtime) sweepExecs(ctx context.Context) {
	dirs, err := os.ReadDir(execDir(r.cfg.StateDir))
	if err != nil {
		return // There has never been one.
	}
	for _, d := range dirs {
		dir := filepath.Join(execDir(r.cfg.StateDir), d.Name())
		owner, err := os.Readlink(filepath.Join(dir, execOwner))
		if err == nil && !r.sweepExec(ctx, owner, d.Name()) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			r.log.Warn("cannot remove the pipes of a process", zap.String("dir", dir), zap.Error(err))
		}
	}
}

// sweepExec ends one process, and says whether it is gone.
func (r *Runtime) sweepExec(ctx context.Context, owner, id string) bool {
	p, err := r.task(ctx, owner)
	if errdefs.IsNotFound(err) || (err == nil && p.GetStatus() == tasktypes.Status_STOPPED) {
		return true // It has gone with its container.
	}
	if err != nil {
		return false
	}
	r.log.Info("ending a process that was run in a container by an agent that is gone", zap.String("container", owner))
	x := &execution{r: r, stored: stored{}, initPID: int(p.GetPid()), id: id}
	x.stored.ID = owner
	x.killProcesses()
	return x.delete(ctx)
}

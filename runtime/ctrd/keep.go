package ctrd

import (
	"context"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/berthd/berth/runtime/container"
)

// keep runs a process that outlives its caller, or joins the one of its name that
// runs. Its id follows from its name, so that it is found again.
func (x *execution) keep(ctx context.Context, req container.ExecRequest) (int, error) {
	x.id = "keep-" + req.Keep
	joined, err := x.join(ctx, req)
	if err != nil {
		return 0, err
	}
	if req.Started != nil {
		req.Started(joined)
	}
	code, err := x.wait(ctx)
	if err == nil {
		x.delete(ctx)
	}
	return code, err
}

// join finds the process, or begins it where it does not run. Of two callers one
// begins and the other one joins.
func (x *execution) join(ctx context.Context, req container.ExecRequest) (joined bool, err error) {
	unlock, err := x.r.ids.lock(ctx, x.stored.ID+"/"+x.id)
	if err != nil {
		return false, err
	}
	defer unlock()
	resp, err := x.r.tasks().Get(ctx, &tasks.GetRequest{ContainerID: x.stored.ID, ExecID: x.id})
	switch err = native(err); {
	case err == nil && resp.GetProcess().GetStatus() == tasktypes.Status_RUNNING:
		return true, nil
	case err == nil:
		// It has ended, or an agent was killed before it could start it.
		if !x.delete(ctx) {
			return false, container.Errorf(container.KindStart, "cannot take away what is left of process %s", req.Keep)
		}
	case !errdefs.IsNotFound(err):
		return false, err
	}
	encoded, err := x.process(req)
	if err != nil {
		return false, err
	}
	return false, x.begin(ctx, &tasks.ExecProcessRequest{ContainerID: x.stored.ID, ExecID: x.id, Spec: encoded})
}

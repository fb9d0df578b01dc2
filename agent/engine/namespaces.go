package engine

import (
	"context"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// HolderName is the container that holds the namespaces which the containers of
// a task share (spec/task-engine.md §5.13). It is made while the task is prepared
// and removed when the task is released, and is neither part of the machine nor
// reported.
const HolderName = "~internal~ecs~pause~namespace"

// shared is the mode of a namespace that the containers of a task share.
const shared = "task"

// holds says whether a task needs a holder.
func holds(d *task.Definition) bool { return d.PID == shared || d.IPC == shared }

// holderID is the holder's id in the runtime.
func holderID(d *task.Definition) string { return RuntimeID(d.ARN, HolderName) }

// hold makes the task's holder run, if it needs one. It is asked again before each
// start: a holder that somebody killed took the processes with it that shared its
// PID namespace, and those may be restarted.
func (e *Engine) hold(ctx context.Context, d *task.Definition) error {
	if !holds(d) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.config.StartTimeout, timeoutError("started", e.config.StartTimeout))
	defer cancel()
	id := holderID(d)
	spec := container.Spec{
		ID: id, Group: d.ID, Holder: true, CgroupParent: e.config.Cgroups.Parent(d.ID),
		Labels: map[string]string{LabelTask: d.ID, LabelTaskARN: d.ARN, LabelContainer: HolderName},
		Limits: container.Limits{ShmSize: sharedMemory(d)},
	}
	if d.IPC == shared {
		spec.IPC.Mode = "shareable"
	}
	return persevere(ctx, func() error {
		if err := e.runtime.Create(ctx, spec); err != nil {
			return err
		}
		_, err := e.runtime.Start(ctx, id)
		return err
	})
}

// sharedMemory is the size of the task's /dev/shm: the largest that one of its
// containers asks for.
func sharedMemory(d *task.Definition) int64 {
	var size int64
	for i := range d.Containers {
		size = max(size, d.Containers[i].Spec.Limits.ShmSize)
	}
	return size
}

// join puts a container of the task into the namespaces that it shares.
func join(d *task.Definition, spec *container.Spec) {
	held := container.Namespace{Mode: "container", Of: holderID(d)}
	if d.PID == shared {
		spec.PID = held
	}
	if d.IPC == shared {
		spec.IPC = held
	}
}

// unhold removes the task's holder, which is the last of it to run.
func (r *runner) unhold(ctx context.Context, d *task.Definition) {
	if holds(d) {
		r.insist(ctx, "cannot remove the holder of the task's namespaces", func() error {
			return r.engine.runtime.Remove(ctx, holderID(d))
		})
	}
}

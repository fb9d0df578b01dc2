package ctrd

import (
	"context"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/berthd/berth/runtime/container"
)

// Signal implements container.Runtime.
func (r *Runtime) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	ctx = r.ns(ctx)
	unlock, err := r.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig), All: all}) // a signal's number
	err = native(err)
	if err == nil {
		return nil
	}
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return r.gone(ctx, container.KindStop, id)
	}
	// runc reports a process that ended just now in words only.
	if p, terr := r.answering(ctx, id); errdefs.IsNotFound(terr) || (terr == nil && p.GetStatus() != tasktypes.Status_RUNNING) {
		return r.gone(ctx, container.KindStop, id)
	}
	return r.fail(ctx, container.KindStop, "signal container "+id, err)
}

// gone tells a container that does not run from one that does not exist.
func (r *Runtime) gone(ctx context.Context, kind container.Kind, id string) error {
	_, err := r.client.ContainerService().Get(ctx, id)
	switch {
	case err == nil:
		return notRunning(kind, id)
	case errdefs.IsNotFound(err):
		return absent(kind, id)
	}
	return r.fail(ctx, kind, "look for container "+id, err)
}

// Remove implements container.Runtime. Cut short anywhere, it can be called
// again.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx = r.ns(ctx)
	unlock, err := r.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return r.fail(ctx, container.KindRemove, "remove container "+id, r.remove(ctx, id))
}

func (r *Runtime) remove(ctx context.Context, id string) error {
	s, err := r.load(ctx, id)
	known := !errdefs.IsNotFound(err)
	if err != nil && known {
		return err
	}
	snapshotter := r.cfg.Snapshotter
	if known {
		if !s.record.Holder {
			snapshotter = s.Snapshotter
		}
		if err := r.kill(ctx, s); err != nil {
			return err
		}
	}
	// The snapshot goes before the record that names it: the other way round, a
	// crash would leave it behind unknown.
	if err := r.client.SnapshotService(snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := r.cfg.OnHost(func() error { return r.removeMounts(id) }); err != nil {
		return err
	}
	if !known {
		return nil
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// removeMounts removes what was made on the host for a container's mounts.
func (r *Runtime) removeMounts(id string) error {
	if err := r.unmountShm(id); err != nil {
		return err
	}
	if err := r.dropSecrets(id); err != nil {
		return err
	}
	return r.dropVolumes(id)
}

// kill ends a container's processes and deletes its task.
func (r *Runtime) kill(ctx context.Context, s stored) error {
	p, err := r.task(ctx, s.ID)
	if errdefs.IsNotFound(err) {
		// One without a process is not found either, but has a shim.
		_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: s.ID})
		if err = native(err); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return r.clearLeftover(ctx, s)
	}
	if err != nil {
		return err
	}
	if p.GetStatus() == tasktypes.Status_PAUSED {
		if _, err := r.tasks().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: s.ID}); err != nil {
			return native(err) // a frozen process does not die
		}
	}
	if p.GetStatus() != tasktypes.Status_STOPPED {
		if err := r.killProcesses(ctx, s.ID); err != nil {
			return err
		}
	}
	return r.deleteTask(ctx, s)
}

// killProcesses kills all processes of a task and waits for the first one's
// end.
func (r *Runtime) killProcesses(ctx context.Context, id string) error {
	_, err := r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL), All: true})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	_, err = r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: id})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

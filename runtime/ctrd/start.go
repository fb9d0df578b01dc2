package ctrd

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/container"
)

// undoPatience bounds the taking back of a start that failed.
const undoPatience = 10 * time.Second

// Start implements container.Runtime. The record is marked as started between
// the making of the process and init's first instruction: a container without
// the mark has certainly never run, whoever was killed when.
func (r *Runtime) Start(ctx context.Context, id string) (container.Status, error) {
	ctx = r.ns(ctx)
	unlock, err := r.ids.lock(ctx, id)
	if err != nil {
		return container.Status{}, err
	}
	defer unlock()
	st, err := r.start(ctx, id)
	return st, r.fail(ctx, container.KindStart, "start container "+id, err)
}

func (r *Runtime) start(ctx context.Context, id string) (container.Status, error) {
	s, err := r.load(ctx, id)
	if errdefs.IsNotFound(err) {
		return container.Status{}, absent(container.KindStart, id)
	}
	if err != nil {
		return container.Status{}, err
	}
	// A container that is not marked has no task, but one of a Start that was cut
	// short: newTask finds that out.
	if !s.started.IsZero() {
		st, running, err := r.clear(ctx, s)
		if err != nil || running {
			return st, err
		}
	}
	if _, err := r.secretNames(s); err != nil {
		return container.Status{}, err
	}
	if err := r.joins(ctx, &s); err != nil {
		return container.Status{}, err
	}
	if err := r.awaitTakeback(ctx, s); err != nil {
		return container.Status{}, err
	}
	leave := r.groups.enter(s.record.Group)
	defer leave()
	now := time.Now().UTC()
	r.ooms.Delete(id) // They were about the last run.
	r.memoryKills.forget(id)
	err = r.newTask(ctx, s)
	if err == nil {
		// Not while the process is being made: a client that is killed then takes
		// containerd's work down with it, and the container never ran.
		err = r.markStarted(ctx, id, now)
	}
	if err != nil {
		r.undo(ctx, s)
		return container.Status{}, err
	}
	started, err := r.tasks().Start(ctx, &tasks.StartRequest{ContainerID: id})
	if err = native(err); err != nil {
		r.undo(ctx, s)
		return container.Status{}, err
	}
	s.started, s.exit = now, nil
	return r.status(s, &tasktypes.Process{ID: id, Pid: started.GetPid(), Status: tasktypes.Status_RUNNING}), nil
}

// clear looks at the task of a container that was started once: a running one
// answers for it, one that has stopped is deleted.
func (r *Runtime) clear(ctx context.Context, s stored) (container.Status, bool, error) {
	p, err := r.task(ctx, s.ID)
	if errdefs.IsNotFound(err) {
		return container.Status{}, false, nil
	}
	if err != nil {
		return container.Status{}, false, err
	}
	switch p.GetStatus() {
	case tasktypes.Status_STOPPED, tasktypes.Status_CREATED:
		if p.GetStatus() == tasktypes.Status_CREATED {
			// It has not run: with the mark and no task it would look lost to whoever
			// comes after a kill.
			if err := r.markBack(ctx, s.ID, "", ""); err != nil {
				return container.Status{}, false, err
			}
		}
		err := r.deleteTask(ctx, s)
		if err == nil {
			return container.Status{}, false, nil
		}
		// The shim may have been told to start it by a containerd that was killed
		// before it could say so.
		if p, look := r.task(ctx, s.ID); look == nil && p.GetStatus() == tasktypes.Status_RUNNING {
			return r.status(s, p), true, r.markStarted(ctx, s.ID, s.started)
		}
		return container.Status{}, false, err
	default:
		return r.status(s, p), true, nil
	}
}

// joins gives the spec the namespaces of other containers, which have a path
// only while those run, and mounts what others may join.
func (r *Runtime) joins(ctx context.Context, s *stored) error {
	if s.record.Shm > 0 {
		if err := r.cfg.OnHost(func() error { return r.mountShm(s.ID, s.record.Shm) }); err != nil {
			return err
		}
	}
	paths := make(map[specs.LinuxNamespaceType]string)
	for kind, of := range map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: s.record.PIDOf,
		specs.IPCNamespace: s.record.IPCOf,
	} {
		if of == "" {
			continue
		}
		p, err := r.answering(ctx, of)
		if errdefs.IsNotFound(err) || (err == nil && p.GetStatus() != tasktypes.Status_RUNNING) {
			return fmt.Errorf("cannot join the %s namespace of container %s: %w", kind, of, container.ErrNotRunning)
		}
		if err != nil {
			return err
		}
		paths[kind] = fmt.Sprintf("/proc/%d/ns/%s", p.GetPid(), kind)
	}
	if len(paths) == 0 {
		return nil
	}
	spec, err := s.spec()
	if err != nil {
		return err
	}
	joinNamespaces(spec, paths)
	encoded, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("cannot encode OCI spec: %w", err)
	}
	updated, err := r.client.ContainerService().Update(ctx, containers.Container{ID: s.ID, Spec: encoded}, "spec")
	if err != nil {
		return err
	}
	s.Container = updated
	return nil
}

// markStarted notes in the record that init runs from now on.
func (r *Runtime) markStarted(ctx context.Context, id string, at time.Time) error {
	_, err := r.client.ContainerService().Update(ctx, containers.Container{
		ID:     id,
		Labels: map[string]string{labelStarted: at.Format(time.RFC3339Nano)},
	}, "labels."+labelStarted, "labels."+labelExit)
	return err
}

// newTask has the OCI runtime make the process, which waits for Start.
func (r *Runtime) newTask(ctx context.Context, s stored) error {
	root, err := r.root(ctx, s)
	if err != nil {
		return err
	}
	spec, err := s.spec()
	if err != nil {
		return err
	}
	request := &tasks.CreateTaskRequest{
		ContainerID: s.ID,
		Terminal:    spec.Process.Terminal,
		Rootfs:      mountTypes(root),
	}
	pipes := complete(s.record.IO, request.Terminal)
	request.Stdin, request.Stdout, request.Stderr = pipes.Stdin, pipes.Stdout, pipes.Stderr
	return r.makeTask(ctx, s, request)
}

// root are the mounts of the container's root file system.
func (r *Runtime) root(ctx context.Context, s stored) ([]mount.Mount, error) {
	if s.record.Holder {
		return nil, r.holderRoot()
	}
	return r.client.SnapshotService(s.Snapshotter).Mounts(ctx, s.SnapshotKey)
}

// complete names /dev/null where a stream is not connected and another is: the
// shim takes nothing but all streams or none.
func complete(pipes container.IO, terminal bool) container.IO {
	if terminal {
		pipes.Stderr = ""
		return pipes
	}
	if pipes == (container.IO{}) {
		return pipes
	}
	for _, path := range []*string{&pipes.Stdout, &pipes.Stderr} {
		if *path == "" {
			*path = os.DevNull
		}
	}
	return pipes
}

func mountTypes(mounts []mount.Mount) []*types.Mount {
	out := make([]*types.Mount, len(mounts))
	for i, m := range mounts {
		out[i] = &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// undo takes back a start that failed: no task, and a record that looks as
// before it was first started.
func (r *Runtime) undo(ctx context.Context, s stored) {
	// Bounded: a process that does not die must not keep the caller, who has his
	// own patience.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), undoPatience, container.ErrTimeout)
	defer cancel()
	if _, err := r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: s.ID, Signal: uint32(syscall.SIGKILL), All: true}); err == nil {
		_, _ = r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: s.ID})
	}
	_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: s.ID})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		r.log.Warn("cannot delete the task of a container that did not start", zap.String("container", s.ID), zap.Error(err))
	}
	if err := r.markBack(ctx, s.ID, s.Labels[labelStarted], s.Labels[labelExit]); err != nil {
		r.log.Warn("cannot take back the mark of a start", zap.String("container", s.ID), zap.Error(err))
	}
}

// markBack sets the marks of start and exit to what they were.
func (r *Runtime) markBack(ctx context.Context, id, started, exit string) error {
	_, err := r.client.ContainerService().Update(ctx, containers.Container{
		ID: id, Labels: map[string]string{labelStarted: started, labelExit: exit},
	}, "labels."+labelStarted, "labels."+labelExit)
	return err
}

// load reads a container's record.
func (r *Runtime) load(ctx context.Context, id string) (stored, error) {
	c, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return stored{}, err
	}
	return load(c)
}

// task reads a container's task; errdefs.ErrNotFound when it has none.
func (r *Runtime) task(ctx context.Context, id string) (*tasktypes.Process, error) {
	resp, err := r.tasks().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return nil, native(err)
	}
	return resp.GetProcess(), nil
}

// answering is task of a shim that says how its container is. containerd gives a shim
// two seconds, which are too few on a host that is short of processors, and then says
// "unknown": that is no answer, and least of all that the container does not run.
func (r *Runtime) answering(ctx context.Context, id string) (*tasktypes.Process, error) {
	ticker := time.NewTicker(returnPause)
	defer ticker.Stop()
	for range shimTries {
		p, err := r.task(ctx, id)
		if err == nil && p.GetStatus() != tasktypes.Status_UNKNOWN || err != nil && !isLate(err) {
			return p, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("its shim does not answer: %w", container.ErrTimeout)
}

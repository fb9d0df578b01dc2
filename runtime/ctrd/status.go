package ctrd

import (
	"context"
	"slices"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/container"
)

// fewIDs is how many containers are asked for one by one rather than by
// listing all.
const fewIDs = 4

// List implements container.Runtime. It is sorted by ID.
func (r *Runtime) List(ctx context.Context, ids ...string) ([]container.Status, error) {
	ctx = r.ns(ctx)
	out, err := r.list(ctx, ids)
	return out, r.fail(ctx, container.KindInspect, "list containers", err)
}

func (r *Runtime) list(ctx context.Context, ids []string) ([]container.Status, error) {
	// Tasks first: a task is deleted only after its exit is in the record, so a
	// record read later always has what a task no longer says.
	processes, err := r.processes(ctx, ids)
	if err != nil {
		return nil, err
	}
	filters := make([]string, len(ids))
	for i, id := range ids {
		filters[i] = "id==" + quote(id)
	}
	all, err := r.client.ContainerService().List(ctx, filters...)
	if err != nil {
		return nil, err
	}
	out := make([]container.Status, 0, len(all))
	for _, c := range all {
		if _, ours := c.Extensions[recordName]; !ours {
			continue // a Stranger
		}
		s, err := load(c)
		if err != nil {
			r.log.Warn("cannot read a container of our namespace", zap.String("container", c.ID), zap.Error(err))
			continue
		}
		p := processes[c.ID]
		if p == nil && !s.started.IsZero() && s.exit == nil {
			st, found, err := r.settled(ctx, c.ID)
			if err != nil {
				return nil, err
			}
			if found {
				out = append(out, st)
			}
			continue
		}
		out = append(out, r.status(s, p))
	}
	slices.SortFunc(out, func(a, b container.Status) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// settled reads one container while nothing changes it. It is for the one that
// looked lost: started, without a task and without an exit. Either it was being
// started as we looked, or it is lost.
func (r *Runtime) settled(ctx context.Context, id string) (container.Status, bool, error) {
	unlock, err := r.ids.lock(ctx, id)
	if err != nil {
		return container.Status{}, false, err
	}
	defer unlock()
	p, err := r.task(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return container.Status{}, false, err
	}
	s, err := r.load(ctx, id)
	if errdefs.IsNotFound(err) {
		return container.Status{}, false, nil
	}
	if err != nil {
		return container.Status{}, false, err
	}
	return r.status(s, p), true, nil
}

// processes are the tasks by container.
func (r *Runtime) processes(ctx context.Context, ids []string) (map[string]*tasktypes.Process, error) {
	out := make(map[string]*tasktypes.Process)
	if len(ids) > 0 && len(ids) <= fewIDs {
		for _, id := range ids {
			p, err := r.task(ctx, id)
			if errdefs.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out[id] = p
		}
		return out, nil
	}
	resp, err := r.tasks().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, native(err)
	}
	for _, p := range resp.GetTasks() {
		out[p.GetID()] = p
	}
	return out, nil
}

// status puts together what record and task say; see the package comment. p is
// nil when there is no task.
func (r *Runtime) status(s stored, p *tasktypes.Process) container.Status {
	st := container.Status{
		ID:        s.ID,
		Labels:    s.record.Labels,
		Phase:     container.Created,
		Image:     s.record.Image,
		CreatedAt: s.CreatedAt,
		StartedAt: s.started,
	}
	switch {
	case p == nil && s.exit != nil:
		exit := *s.exit
		st.Phase, st.Exit = container.Stopped, &exit
	case p == nil && !s.started.IsZero():
		st.Phase, st.Exit = container.Stopped, &container.Exit{}
	case p == nil:
	case p.GetStatus() == tasktypes.Status_CREATED:
		st.StartedAt = time.Time{} // marked already, and not yet running
	case p.GetStatus() == tasktypes.Status_STOPPED && s.started.IsZero():
		// Its process waited for Start, and died with the containerd that was killed:
		// the container never ran, and the next Start buries it.
	case p.GetStatus() == tasktypes.Status_STOPPED:
		exit := r.exit(s, p)
		st.Phase, st.Exit = container.Stopped, &exit
		r.settleLater(s.ID)
	default:
		// A shim that does not answer says "unknown": its container runs until
		// the contrary is known.
		st.Phase, st.PID = container.Running, int(p.GetPid())
	}
	return st
}

// exit is how a container ended whose task has stopped.
func (r *Runtime) exit(s stored, p *tasktypes.Process) container.Exit {
	code := int(p.GetExitStatus())
	return container.Exit{
		Code:      code,
		Known:     true,
		At:        p.GetExitedAt().AsTime(),
		OOMKilled: r.killedForMemory(s, code),
	}
}

// quote makes a filter value of an ID.
func quote(id string) string { return `"` + strings.ReplaceAll(id, `"`, `\"`) + `"` }

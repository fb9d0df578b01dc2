package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/drain"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/wire/ecs"
)

// errNotJoined is why ECS cannot be told a status yet.
var errNotJoined = errors.New("this host has not joined its cluster yet")

// newDrainer takes up the order to drain that the last agent left.
func (a *agent) newDrainer(ctx context.Context) *drain.Drainer {
	log := a.log.Named("drain")
	var saved drain.State
	if text := a.host.store.Meta().Drain; text != "" {
		if err := json.Unmarshal([]byte(text), &saved); err != nil {
			log.Error("cannot read the order to drain that was kept; this host is what ECS holds of it", zap.Error(err))
		}
	}
	c := &a.options.Config
	config := drain.Config{
		Saved: saved, Keep: a.keepDrain, Set: a.setStatus, Get: a.heldStatus, Tasks: drainedTasks{a.engine}, Log: log,
		Tell: func(what, detail string) {
			a.observer.events.Publish(hostapi.Event{Time: time.Now(), What: what, Detail: detail})
		},
		Spot:   c.Instance.SpotDraining,
		Joined: func() bool { return a.host.store.Meta().ContainerInstanceARN != "" },
	}
	// Where there is no instance metadata, and never will be, nobody announces anything.
	if !c.External && (a.metadata.Available(ctx) || a.metadata.MayAppear()) {
		config.Metadata = announcements{a.metadata}
	}
	return drain.New(config)
}

// keepDrain writes the order to drain to the disk.
func (a *agent) keepDrain(s drain.State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot encode: %w", err)
	}
	return a.host.store.Update(func(m *store.Meta) { m.Drain = string(text) })
}

// setStatus asks ECS to hold this host ACTIVE or DRAINING. A failure in the answer is one, too.
func (a *agent) setStatus(ctx context.Context, s drain.Status) error {
	meta := a.host.store.Meta()
	if meta.ContainerInstanceARN == "" {
		return errNotJoined
	}
	answer, err := a.sessions.api.UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateRequest{
		Cluster: meta.Cluster, ContainerInstances: []string{meta.ContainerInstanceARN}, Status: string(s),
	})
	if err != nil {
		return err
	}
	if len(answer.Failures) > 0 {
		f := answer.Failures[0]
		return fmt.Errorf("ECS refuses: %s", strings.TrimSpace(f.Reason+" "+f.Detail))
	}
	if s == drain.Draining {
		tell(a.log, systemd.Status("draining, in cluster "+meta.Cluster))
	} else {
		tell(a.log, systemd.Status("in cluster "+meta.Cluster))
	}
	return nil
}

// heldStatus is what ECS holds of this host, ACTIVE or DRAINING. The role that hosts have may not describe them: ECS says it in its
// answer to a registration, which changes nothing where the host is registered.
func (a *agent) heldStatus(ctx context.Context) (drain.Status, error) {
	if a.host.store.Meta().ContainerInstanceARN == "" {
		return "", errNotJoined
	}
	status, err := a.sessions.held(ctx)
	return drain.Status(status), err
}

// awaitService waits where the settings say so until the Auto Scaling group wants this host.
func (s *sessions) awaitService(ctx context.Context) error {
	a := s.agent
	if !a.options.Config.Instance.WarmPoolsCheck || a.options.Config.External {
		return nil
	}
	if !a.metadata.Available(ctx) && !a.metadata.MayAppear() {
		s.log.Warn("ECS_WARM_POOLS_CHECK is set, and there is no instance metadata: joining at once")
		return nil
	}
	waiting := errors.New("the Auto Scaling group has not put this instance into service (ECS_WARM_POOLS_CHECK)")
	s.acs.Connected(false, waiting)
	s.tcs.Connected(false, waiting)
	tell(s.log, systemd.Status("waiting for the Auto Scaling group to put this instance into service"))
	return drain.InService(ctx, announcements{a.metadata}, a.identity.ContainerInstanceARN != "", s.log)
}

// announcements are instance metadata in the words of agent/drain.
type announcements struct{ metadata *awsapi.Metadata }

var _ drain.Metadata = announcements{}

// Get is a value of instance metadata.
func (m announcements) Get(ctx context.Context, path string) (string, bool, error) {
	value, err := m.metadata.Get(ctx, path)
	if errors.Is(err, awsapi.ErrNotSet) {
		return "", false, nil
	}
	return value, err == nil, err
}

// drainedTasks are the engine's tasks in the words of agent/drain.
type drainedTasks struct{ engine *engine.Engine }

var _ drain.Tasks = drainedTasks{}

// Running are the tasks that nobody has told to stop.
func (d drainedTasks) Running() []string {
	var ids []string
	for _, t := range d.engine.Tasks() {
		if !t.Forgotten && t.State.StoppedAt.IsZero() && t.Desired != task.ReportStopped {
			ids = append(ids, t.ID())
		}
	}
	return ids
}

// Stop begins to stop a task.
func (d drainedTasks) Stop(ctx context.Context, id, reason string) error {
	if err := d.engine.StopTask(ctx, id, reason); err != nil && !errors.Is(err, engine.ErrUnknownTask) {
		return err
	}
	return nil
}

// drainAPI takes the orders of people.
type drainAPI struct{ agent *agent }

var _ hostapi.Drainer = drainAPI{}

// Drain keeps an order and answers how it fares.
func (d drainAPI) Drain(_ context.Context, r hostapi.DrainRequest) (*hostapi.DrainView, error) {
	var err error
	if r.Cancel {
		err = d.agent.drainer.Cancel(r.Reason)
	} else {
		stop := time.Duration(-1)
		if r.StopAfter != nil {
			stop = max(time.Duration(*r.StopAfter*float64(time.Second)), 0)
		}
		err = d.agent.drainer.Drain(r.Reason, stop)
	}
	if err != nil {
		return nil, err
	}
	return d.agent.drainView(), nil
}

// drainView is the order to drain as a person sees it; nil when nothing was ever ordered.
func (a *agent) drainView() *hostapi.DrainView {
	s := a.drainer.State().Effective()
	if s.Status == "" {
		return nil
	}
	v := &hostapi.DrainView{
		Status: string(s.Status), By: string(s.By), Reason: s.Reason, Since: s.Since, Accepted: s.Accepted, Trouble: s.Trouble,
	}
	if !s.StopAt.IsZero() {
		v.StopAt = &s.StopAt
	}
	return v
}

// serviceOf is the name of the service that started a task, or "".
func serviceOf(d *task.Definition) string {
	if d.Service != "" {
		return d.Service
	}
	name, ok := strings.CutPrefix(d.Group, "service:")
	if !ok {
		return ""
	}
	return name
}

package daemon

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/logs"
)

// tasksAPI shows the engine's tasks to the host API.
type tasksAPI struct {
	engine *engine.Engine
	// volumes are the mounts of a container.
	volumes func(d *task.Definition, c *task.Container) []resources.VolumeView
	// logs is how the containers' logs fare; nil does not show it.
	logs func() map[string]logs.Status
}

var _ hostapi.Tasks = tasksAPI{}

// Tasks lists every task.
func (t tasksAPI) Tasks() []hostapi.TaskView {
	tasks := t.engine.Tasks()
	views := make([]hostapi.TaskView, len(tasks))
	var status map[string]logs.Status
	if t.logs != nil {
		status = t.logs()
	}
	for i := range tasks {
		views[i] = taskView(&tasks[i])
		t.addVolumes(&views[i], &tasks[i].State.Definition)
		addLogs(&views[i], status)
	}
	return views
}

// Stop stops a task.
func (t tasksAPI) Stop(ctx context.Context, id, reason string) error {
	if reason == "" {
		reason = "Task stopped at the host"
	}
	return t.engine.StopTask(ctx, id, reason)
}

// Why says what a task waits for.
func (t tasksAPI) Why(id string) ([]hostapi.Wait, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Second, hostapi.ErrUnavailable)
	defer cancel()
	lines, err := t.engine.Why(ctx, id)
	waits := make([]hostapi.Wait, len(lines))
	for i, line := range lines {
		waits[i].What = line
	}
	return waits, err
}

// taskView is a task as a person sees it.
func taskView(t *engine.Task) hostapi.TaskView {
	s, d := &t.State, &t.State.Definition
	v := hostapi.TaskView{
		ID: d.ID, ARN: d.ARN, Family: d.Family, Revision: d.Version, Origin: "ecs",
		KnownStatus: string(known(s.Sent)), DesiredStatus: string(t.Desired), NetworkMode: string(d.Network),
		Reason: s.StopReason, StoppedAt: moment(s.StoppedAt), Service: serviceOf(d),
	}
	for i := range s.Containers {
		c := containerView(t, &s.Containers[i], &d.Containers[i])
		v.Containers = append(v.Containers, c)
		if c.StartedAt != nil && (v.StartedAt == nil || c.StartedAt.After(*v.StartedAt)) {
			v.StartedAt = c.StartedAt
		}
		v.CreatedAt = earlier(v.CreatedAt, moment(s.Containers[i].Pulling.StartedAt))
	}
	return v
}

// known is the task's status in ECS's words: what was reported last.
func known(sent task.ReportStatus) task.ReportStatus {
	if sent == "" {
		return task.ReportPending
	}
	return sent
}

func containerView(t *engine.Task, s *task.ContainerState, d *task.Container) hostapi.ContainerView {
	c := hostapi.ContainerView{
		Name: s.Name, Image: d.Image, Digest: s.Digest, Status: containerStatus(t, s), Essential: d.Essential,
		Reason: s.Failure.String(), CreatedAt: moment(s.CreatedAt), StartedAt: moment(s.StartedAt), FinishedAt: moment(s.EndedAt),
		ImageID: s.ImageID,
	}
	if s.RuntimeID != "" {
		c.ID, c.RuntimeName = s.RuntimeID, t.State.Definition.RuntimeName(s.Name)
	}
	for _, p := range d.Ports {
		c.Asked = append(c.Asked, hostapi.PortView{ContainerPort: p.ContainerPort, HostPort: p.HostPort, Protocol: p.Protocol})
	}
	if d.ReportHealth {
		c.Health = string(s.Health)
	}
	if d.Restart != nil {
		c.RestartCount = &s.Restarts.Count
	}
	switch {
	case s.Exit != nil && s.Exit.Known:
		c.ExitCode = &s.Exit.Code
	case s.ExitCode != nil:
		c.ExitCode = s.ExitCode
	}
	for _, b := range s.Bindings {
		for port := int(b.ContainerPort); port <= int(b.ContainerPortEnd); port++ {
			c.Ports = append(c.Ports, hostapi.PortView{
				ContainerPort: uint16(port), HostPort: b.HostPort + uint16(port) - b.ContainerPort, Protocol: b.Protocol, HostIP: b.BindIP,
			})
		}
	}
	if e, ok := t.Endpoint(s.Name); ok && e.ENI != nil {
		c.Networks = []hostapi.NetworkView{{Mode: string(task.NetworkAWSVPC), IPv4Addresses: texts(e.ENI.IPv4), IPv6Addresses: texts(e.ENI.IPv6)}}
		c.Addresses = slices.Concat(c.Networks[0].IPv4Addresses, c.Networks[0].IPv6Addresses)
	} else if ok && !e.None() {
		if e.IPv4.IsValid() {
			c.Addresses = append(c.Addresses, e.IPv4.String())
		}
		if e.IPv6.IsValid() {
			c.Addresses = append(c.Addresses, e.IPv6.String())
		}
	}
	return c
}

// texts are the addresses of prefixes.
func texts(prefixes []netip.Prefix) []string {
	var all []string
	for _, p := range prefixes {
		all = append(all, p.Addr().String())
	}
	return all
}

// containerStatus is a container's status in ECS's words.
func containerStatus(t *engine.Task, s *task.ContainerState) string {
	switch {
	case t.Settled[s.Name]:
		return "STOPPED"
	case s.Phase == task.PhaseRunning && t.Desired == task.ReportStopped:
		return "STOPPING"
	case s.Phase == task.PhaseRunning:
		return "RUNNING"
	case s.Phase == task.PhaseCreated:
		return "CREATED"
	case s.Phase == task.PhasePulled:
		return "PULLED"
	default:
		return "PENDING"
	}
}

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// earlier is the earlier of two moments, either of which may be missing.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || (b != nil && b.Before(*a)) {
		return b
	}
	return a
}

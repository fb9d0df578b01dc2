package taskmeta

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
)

// The statuses of tasks and containers as ECS calls them (spec/task-engine.md §1.1), in their order.
const (
	statusNone           = "NONE"
	statusManifestPulled = "MANIFEST_PULLED"
	statusPulled         = "PULLED"
	statusCreated        = "CREATED"
	statusRunning        = "RUNNING"
	statusStopped        = "STOPPED"
)

// containerStatus is how far a container has come.
func containerStatus(t *Task, s *task.ContainerState) string {
	if t.Settled[s.Name] {
		return statusStopped
	}
	switch s.Phase {
	case task.PhasePending:
		if s.Digest != "" {
			return statusManifestPulled
		}
		return statusNone
	case task.PhasePulled:
		return statusPulled
	case task.PhaseCreated:
		return statusCreated
	case task.PhaseRunning, task.PhaseStopped: // Stopped and not settled: it is started again.
		return statusRunning
	}
	return statusNone
}

// taskStatus is how far the least advanced container has come
// (spec/task-engine.md §1.2). What ECS was told is never taken back.
func taskStatus(t *Task) string {
	order := []string{statusNone, statusManifestPulled, statusPulled, statusCreated, statusRunning, statusStopped}
	least := len(order) - 1
	for i := range t.State.Containers {
		least = min(least, slices.Index(order, containerStatus(t, &t.State.Containers[i])))
	}
	if t.State.Sent == task.ReportRunning {
		least = max(least, slices.Index(order, statusRunning))
	}
	if order[least] == statusPulled {
		return statusManifestPulled
	}
	return order[least]
}

// describer puts tasks into the shape of one version.
type describer struct {
	host    Host
	volumes func(d *task.Definition, container string) []Volume
	version version
}

// task is a task without its tags.
func (d describer) task(t *Task) taskShape {
	def, s := t.definition(), &t.State
	out := taskShape{
		Cluster: d.host.Cluster, TaskARN: def.ARN, Family: def.Family, Revision: def.Version,
		DesiredStatus: string(t.Desired), KnownStatus: taskStatus(t),
		PullStartedAt: utc(pullStarted(s)), PullStoppedAt: utc(pullStopped(s)), ExecutionStoppedAt: utc(s.ExecutionStoppedAt),
		AvailabilityZone: d.host.Zone,
	}
	if def.CPU != 0 || def.Memory != 0 {
		out.Limits = &taskLimits{CPU: def.CPU, Memory: def.Memory}
	}
	if d.version == v4 {
		out.LaunchType, out.VPCID, out.ServiceName = def.LaunchType, d.host.VPC, def.Service
		out.FaultInjectionEnabled, out.AvailabilityZoneID = &def.FaultInjection, d.host.ZoneID
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		if c.RuntimeID != "" || d.version == v4 && c.Phase != task.PhasePending {
			out.Containers = append(out.Containers, d.container(t, i))
		}
	}
	return out
}

// pullStarted is when the first pull began.
func pullStarted(s *task.State) (first time.Time) {
	for i := range s.Containers {
		at := s.Containers[i].Pulling.StartedAt
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// pullStopped is when the last pull ended; zero while one goes on.
func pullStopped(s *task.State) (last time.Time) {
	for i := range s.Containers {
		p := s.Containers[i].Pulling
		if !p.StartedAt.IsZero() && p.StoppedAt.IsZero() {
			return time.Time{}
		}
		if p.StoppedAt.After(last) {
			last = p.StoppedAt
		}
	}
	return last
}

// container is the i-th container of a task.
func (d describer) container(t *Task, i int) containerShape {
	def, c, s := t.definition(), &t.definition().Containers[i], &t.State.Containers[i]
	out := containerShape{
		DockerID: s.RuntimeID, Name: c.Name, DockerName: def.RuntimeName(c.Name), Image: c.Image, ImageID: s.ImageID,
		DesiredStatus: string(t.Desired), KnownStatus: containerStatus(t, s), ExitCode: exitCode(s),
		Limits:    containerLimits{CPU: max(2, c.CPU), Memory: c.Memory},
		CreatedAt: utc(s.CreatedAt), StartedAt: utc(startedAt(s)), FinishedAt: utc(s.EndedAt), Type: "NORMAL",
		Ports: d.ports(s.Bindings), Health: health(c, s),
	}
	if t.Settled[c.Name] {
		out.DesiredStatus = statusStopped
	}
	if s.RuntimeID != "" {
		out.Labels = c.Spec.Labels
		if d.volumes != nil {
			out.Volumes = d.volumes(def, c.Name)
		}
		if d.version != v2 || def.ENI != nil {
			out.Networks = d.networks(t, c.Name)
		}
	}
	if d.version == v4 {
		out.LogDriver, out.LogOptions, out.ContainerARN = c.Log.Driver, maps.Clone(c.Log.Options), c.ARN
		if c.Restart != nil {
			out.RestartCount = &s.Restarts.Count
		}
	}
	return out
}

// startedAt is when the present run began.
func startedAt(s *task.ContainerState) time.Time {
	if s.Restarts.LastAt.After(s.StartedAt) {
		return s.Restarts.LastAt
	}
	return s.StartedAt
}

func exitCode(s *task.ContainerState) *int {
	if s.Exit != nil && s.Exit.Known {
		return &s.Exit.Code
	}
	return s.ExitCode
}

// health is shown where the task definition has a check.
func health(c *task.Container, s *task.ContainerState) *healthShape {
	if !c.ReportHealth {
		return nil
	}
	out := &healthShape{StatusSince: utc(s.HealthSince), ExitCode: s.Check.ExitCode, Output: s.Check.Output}
	if s.Health != task.HealthUnknown {
		out.Status = string(s.Health)
	}
	return out
}

// ports are a container's bindings, an entry for each port and family.
func (d describer) ports(bindings []task.Binding) []portShape {
	var out []portShape
	for _, b := range bindings {
		for port := int(b.ContainerPort); port <= int(max(b.ContainerPort, b.ContainerPortEnd)); port++ {
			p := portShape{ContainerPort: uint16(port), Protocol: b.Protocol, HostPort: b.HostPort + uint16(port) - b.ContainerPort}
			if d.version == v4 {
				p.HostIP = b.BindIP
			}
			out = append(out, p)
		}
	}
	return out
}

// networks are a container's: its own, or the task's interface.
func (d describer) networks(t *Task, name string) []networkShape {
	if eni := t.definition().ENI; eni != nil {
		return []networkShape{d.eni(eni)}
	}
	e := t.Endpoints[name]
	out := networkShape{NetworkMode: string(t.definition().Network), IPv4Addresses: []string{text(e)}}
	if d.version == v4 && e.IPv6.IsValid() {
		out.IPv6Addresses = []string{e.IPv6.String()}
	}
	return []networkShape{out}
}

// text is an endpoint's IPv4 address, "" where it has none of its own.
func text(e ipam.Endpoint) string {
	if e.IPv4.IsValid() {
		return e.IPv4.String()
	}
	return ""
}

// eni is a network interface of the task's own, spec/host.md §1.10.
func (d describer) eni(eni *task.ENI) networkShape {
	out := networkShape{NetworkMode: string(task.NetworkAWSVPC)}
	for _, p := range eni.IPv4 {
		out.IPv4Addresses = append(out.IPv4Addresses, p.Addr().String())
	}
	for _, p := range eni.IPv6 {
		out.IPv6Addresses = append(out.IPv6Addresses, p.Addr().String())
	}
	if d.version != v4 {
		return out
	}
	out.AttachmentIndex, out.MACAddress = new(int), eni.MAC
	out.DomainNameServers, out.DomainNameSearchList, out.PrivateDNSName = eni.NameServers, eni.Search, eni.PrivateDNSName
	if len(eni.IPv4) > 0 {
		out.IPv4SubnetCIDRBlock = eni.IPv4[0].Masked().String()
	}
	if len(eni.IPv6) > 0 {
		out.IPv6SubnetCIDRBlock = eni.IPv6[0].Masked().String()
	}
	if eni.SubnetIPv4.IsValid() {
		out.SubnetGatewayIPv4Address = eni.SubnetIPv4.String()
	}
	if len(eni.IPv4) == 0 && eni.SubnetIPv6.IsValid() {
		out.SubnetGatewayIPv6Address = eni.SubnetIPv6.String()
	}
	return out
}

// withTags adds the tags of the task and of its host, and in version 4 what kept
// them away (spec/host.md §1.8).
func (d describer) withTags(ctx context.Context, tags *tagCache, out *taskShape, container string) {
	if tags == nil {
		return
	}
	for _, ask := range []struct {
		field, arn string
		to         *map[string]string
		entry      *tagEntry
	}{
		{"ContainerInstanceTags", d.host.ContainerInstanceARN, &out.ContainerInstanceTags, tags.of(ctx, d.host.ContainerInstanceARN, container)},
		{"TaskTags", out.TaskARN, &out.TaskTags, tags.of(ctx, out.TaskARN, container)},
	} {
		<-ask.entry.done // Bounded: see tagCache.
		*ask.to = ask.entry.tags
		if ask.entry.err != nil && d.version == v4 {
			out.Errors = append(out.Errors, tagFailure(ask.field, ask.arn, ask.entry.err))
		}
	}
}

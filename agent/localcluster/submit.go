package localcluster

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/agent/wire/ecs"
)

const acknowledged = "ACK"

// submitTask takes an agent's report of a task. A report may come twice; one of
// a stopped task that would change it is refused with an error that the agent
// does not repeat.
func (s *state) submitTask(in *ecs.SubmitTaskStateChangeRequest) (*ecs.SubmitTaskStateChangeResponse, error) {
	if err := in.Validate(); err != nil {
		return nil, invalid(err.Error())
	}
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	t := s.task(cluster, in.Task)
	if t == nil {
		return nil, invalid("The referenced task was not found.")
	}
	out := &ecs.SubmitTaskStateChangeResponse{Acknowledgment: acknowledged}
	if t.LastStatus == ecs.StatusStopped {
		if in.Status == ecs.StatusStopped {
			return out, nil
		}
		return nil, invalid("The referenced task is stopped and cannot change.")
	}
	for _, c := range in.Containers {
		if t.containerNamed(c.ContainerName) == nil {
			return nil, invalid("The container " + c.ContainerName + " is not part of the task.")
		}
	}
	t.Version++
	t.attachments(in.Attachments)
	if !in.PullStartedAt.IsZero() {
		t.PullStartedAt = in.PullStartedAt
	}
	if !in.PullStoppedAt.IsZero() {
		t.PullStoppedAt = in.PullStoppedAt
	}
	if !in.ExecutionStoppedAt.IsZero() {
		t.ExecutionStoppedAt = in.ExecutionStoppedAt
	}
	for _, c := range in.Containers {
		t.containerNamed(c.ContainerName).change(c)
	}
	for _, m := range in.ManagedAgents {
		if c := t.containerNamed(m.ContainerName); c != nil {
			c.managedAgent(m)
		}
	}
	t.advance(in.Status, in.Reason)
	s.endWithEssential(t)
	return out, nil
}

// containerView lets a container of the public shape take changes in place.
type containerView ecs.Container

func (t *task) containerNamed(name string) *containerView {
	for i := range t.Containers {
		if t.Containers[i].Name == name {
			return (*containerView)(&t.Containers[i])
		}
	}
	return nil
}

func (c *containerView) change(in ecs.ContainerStateChange) {
	if c.LastStatus == ecs.StatusStopped && in.Status != ecs.StatusStopped && in.RuntimeID == c.RuntimeID {
		return // An older report that arrived late.
	}
	c.LastStatus = in.Status
	if in.Status != ecs.StatusStopped {
		c.ExitCode, c.Reason = nil, "" // Restarted in place.
	}
	if in.ExitCode != nil {
		c.ExitCode = in.ExitCode
	}
	if in.Reason != "" {
		c.Reason = in.Reason
	}
	if in.RuntimeID != "" {
		c.RuntimeID = in.RuntimeID
	}
	if in.ImageDigest != "" {
		c.ImageDigest = in.ImageDigest
	}
	if len(in.NetworkBindings) > 0 {
		c.NetworkBindings = in.NetworkBindings
	}
}

func (c *containerView) managedAgent(in ecs.ManagedAgentStateChange) {
	c.ManagedAgents = slices.DeleteFunc(c.ManagedAgents, func(a ecs.ManagedAgent) bool { return a.Name == in.ManagedAgentName })
	agent := ecs.ManagedAgent{Name: in.ManagedAgentName, LastStatus: in.Status, Reason: in.Reason}
	if in.Status == ecs.StatusRunning {
		agent.LastStartedAt = now()
	}
	c.ManagedAgents = append(c.ManagedAgents, agent)
}

func (t *task) attachments(changes []ecs.AttachmentStateChange) {
	for _, change := range changes {
		for i := range t.Attachments {
			if t.Attachments[i].ID == lastPart(change.AttachmentARN) {
				t.Attachments[i].Status = change.Status
				if t.LastStatus == ecs.StatusProvisioning && change.Status == ecs.AttachmentAttached {
					t.LastStatus = ecs.StatusPending
				}
			}
		}
	}
}

// advance moves the task to a status that its agent reported.
func (t *task) advance(status, reason string) {
	switch status {
	case ecs.StatusPending:
		if t.LastStatus == ecs.StatusProvisioning {
			t.LastStatus = ecs.StatusPending
		}
	case ecs.StatusRunning:
		if t.StartedAt.IsZero() {
			t.StartedAt = now()
		}
		if t.DesiredStatus == ecs.StatusRunning {
			t.LastStatus = ecs.StatusRunning
		}
	case ecs.StatusStopped:
		t.end(reason)
	}
}

// end records that a task stopped, and why if nobody asked for it.
func (t *task) end(reason string) {
	exited := slices.ContainsFunc(t.Containers, func(c ecs.Container) bool { return c.ExitCode != nil })
	switch {
	case exited || !t.StartedAt.IsZero():
		// An agent that ended the task itself says why.
		t.wantStopped(ecs.StopEssentialContainerExited, cmp.Or(reason, "Essential container in task exited"))
	case reason != "":
		t.wantStopped(ecs.StopTaskFailedToStart, reason)
	default:
		t.wantStopped(ecs.StopTaskFailedToStart, "Task failed to start")
	}
	t.LastStatus = ecs.StatusStopped
	t.StoppedAt = now()
	if t.ExecutionStoppedAt.IsZero() && exited {
		t.ExecutionStoppedAt = t.StoppedAt
	}
	for i := range t.Containers {
		t.Containers[i].LastStatus = ecs.StatusStopped
	}
	for i := range t.Attachments {
		t.Attachments[i].Status = "DELETED"
	}
}

// endWithEssential makes the rest of a task stop when an essential container did.
func (s *state) endWithEssential(t *task) {
	for _, c := range s.Definitions[t.TaskDefinitionARN].ContainerDefinitions {
		have := t.containerNamed(c.Name)
		if c.IsEssential() && have.LastStatus == ecs.StatusStopped && t.LastStatus != ecs.StatusStopped {
			t.wantStopped(ecs.StopEssentialContainerExited, "Essential container in task exited")
		}
	}
}

// submitContainer takes a report of one container, as old agents send it.
func (s *state) submitContainer(in *ecs.SubmitContainerStateChangeRequest) (*ecs.SubmitContainerStateChangeResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	t := s.task(cluster, in.Task)
	if t == nil || t.containerNamed(in.ContainerName) == nil {
		return nil, client("The referenced container was not found.")
	}
	if t.LastStatus == ecs.StatusStopped {
		return nil, client("The referenced task is stopped and cannot change.")
	}
	t.containerNamed(in.ContainerName).change(ecs.ContainerStateChange{
		ContainerName: in.ContainerName, Status: in.Status, ExitCode: in.ExitCode, Reason: in.Reason,
		RuntimeID: in.RuntimeID, NetworkBindings: in.NetworkBindings,
	})
	t.Version++
	s.endWithEssential(t)
	return &ecs.SubmitContainerStateChangeResponse{Acknowledgment: acknowledged}, nil
}

func (s *state) submitAttachments(in *ecs.SubmitAttachmentStateChangesRequest) (*ecs.SubmitAttachmentStateChangesResponse, error) {
	if err := in.Validate(); err != nil {
		return nil, invalid(err.Error())
	}
	if _, err := s.cluster(in.Cluster); err != nil {
		return nil, err
	}
	for _, t := range s.Tasks {
		t.attachments(in.Attachments)
	}
	return &ecs.SubmitAttachmentStateChangesResponse{Acknowledgment: acknowledged}, nil
}

package task

import (
	"cmp"
	"time"
)

// nextReport answers with the change to report, if there is one.
//
// A task's status is reported when it rises. Container changes ride on it, or,
// where the task's own status stays, on a change of their own when they have
// waited for DrainDue.
func (m *Machine) nextReport(work []Work) []Work {
	s := &m.state
	if s.Sent == ReportStopped {
		return work
	}
	due := m.flying("", flightDrain+"-due")
	m.land("", flightDrain+"-due")
	status := m.status()
	containers, agents := m.unsent(), m.unsentAgents()
	if rank(status) <= rank(s.Sent) {
		if len(containers) == 0 && len(agents) == 0 {
			return work
		}
		if !due {
			return m.armDrain(work)
		}
		status = cmp.Or(s.Sent, ReportPending)
	}
	if status == ReportStopped && s.StoppedAt.IsZero() {
		s.StoppedAt = s.Latest
	}
	for i := range containers {
		m.markSent(containers[i])
	}
	for _, a := range agents {
		m.markAgentSent(a)
	}
	s.Sent = status
	m.dirty = true
	return append(work, Report{Change{
		TaskARN: s.Definition.ARN, Status: status, Reason: m.reason(status), Containers: containers, ManagedAgents: agents,
		PullStartedAt: m.pullStarted(), PullStoppedAt: m.pullStopped(), ExecutionStoppedAt: s.ExecutionStoppedAt,
	}})
}

// armDrain starts the wait for more container changes, once.
func (m *Machine) armDrain(work []Work) []Work {
	if m.fly("", flightDrain) {
		work = append(work, ArmDrain{})
	}
	return work
}

// status is the task's status as ECS sees it, spec/control-plane.md §6.1.
func (m *Machine) status() ReportStatus {
	if m.stopped() {
		return ReportStopped
	}
	if m.stopping() {
		return m.state.Sent
	}
	running, started := false, true
	resolved, asked := true, false
	for i := range m.state.Containers {
		c := &m.state.Containers[i]
		asked = asked || c.DigestByAgent
		resolved = resolved && (c.Digest != "" || c.Phase != PhasePending)
		running = running || m.runs(c)
		started = started && (m.runs(c) || m.settled(c))
	}
	switch {
	case running && started:
		return ReportRunning
	case resolved && asked:
		return ReportPending
	default:
		return m.state.Sent
	}
}

// runs says whether a container counts as running: one that is about to be
// restarted in place does.
func (m *Machine) runs(c *ContainerState) bool { return c.Phase == PhaseRunning || m.mayRestart(c) }

// rank orders what may follow what in reports.
func rank(s ReportStatus) int {
	switch s {
	case ReportPending:
		return 1
	case ReportRunning:
		return 2
	case ReportStopped:
		return 3
	}
	return 0
}

// unsent are the container changes that ECS does not know of.
func (m *Machine) unsent() []ContainerChange {
	var changes []ContainerChange
	for i := range m.state.Containers {
		c := &m.state.Containers[i]
		status := ReportStatus("")
		switch {
		case m.settled(c):
			status = ReportStopped
		case m.runs(c):
			status = ReportRunning
		case c.DigestByAgent && c.Digest != "":
			status = ReportPending
		}
		if rank(status) <= rank(c.Sent) {
			continue
		}
		change := ContainerChange{
			Name: c.Name, Status: status, RuntimeID: c.RuntimeID, Bindings: c.Bindings,
		}
		if c.DigestByAgent {
			change.ImageDigest = c.Digest
		}
		if status == ReportStopped {
			change.ExitCode = c.code()
			change.Reason = m.containerReason(c)
		}
		changes = append(changes, change)
	}
	return changes
}

func (m *Machine) markSent(change ContainerChange) {
	if c := m.find(change.Name); c != nil {
		c.Sent = change.Status
	}
}

// containerReason is why a container stopped, in the words that ECS shows.
func (m *Machine) containerReason(c *ContainerState) string {
	if c.Failure == (Failure{}) && c.Phase == PhasePending && c.Pulling.StartedAt.IsZero() && m.state.StopRequested {
		return Failure{
			"TaskStoppedBeforePullBeginError",
			"Task stopped before image pull could begin for task: " + m.state.Definition.ARN,
		}.String()
	}
	return c.Failure.String()
}

// reason is why the task stopped, where ECS cannot know it from the containers.
func (m *Machine) reason(status ReportStatus) string {
	if status != ReportStopped {
		return ""
	}
	return m.state.StopReason
}

// pullStarted is when the first pull began, pullStopped when the last ended.
func (m *Machine) pullStarted() (first time.Time) {
	for i := range m.state.Containers {
		at := m.state.Containers[i].Pulling.StartedAt
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

func (m *Machine) pullStopped() (last time.Time) {
	for i := range m.state.Containers {
		c := &m.state.Containers[i]
		if !c.Pulling.StartedAt.IsZero() && c.Pulling.StoppedAt.IsZero() {
			return time.Time{}
		}
		if c.Pulling.StoppedAt.After(last) {
			last = c.Pulling.StoppedAt
		}
	}
	return last
}

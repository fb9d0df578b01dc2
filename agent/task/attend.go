package task

import (
	"cmp"
	"slices"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// What goes on beside a container for as long as it runs: its health check is
// probed, its managed agents are kept running. It is begun by Attend and ended by
// Leave, and neither ever stops a container.

// Check is what is known of a container's health check besides the verdict.
type Check struct {
	// Image is the image's own HEALTHCHECK and Shell its SHELL.
	Image *container.Healthcheck `json:",omitempty"`
	Shell []string               `json:",omitempty"`
	// ExitCode and Output are those of the probe that decided.
	ExitCode int    `json:",omitempty"`
	Output   string `json:",omitempty"`
}

// ManagedAgentState is a managed agent of a container. Status is "" until
// something is known of it.
type ManagedAgentState struct {
	Name   string
	Status ReportStatus
	Reason string
	// StartedAt is when it was last seen to begin.
	StartedAt time.Time
	// Reported says that ECS has been told.
	Reported bool
}

// The reasons of managed agents, spec/task-engine.md §5.17.
const (
	AgentStarted          = "ExecuteCommandAgent started"
	AgentRestarted        = "ExecuteCommandAgent restarted"
	AgentNotRestarted     = "ExecuteCommandAgent cannot be restarted"
	AgentNotInitialised   = "ExecuteCommandAgent Initialization failed - " // The error follows.
	AgentContainerStopped = "Received Container Stopped event"
)

// Docker's defaults of a health check, spec/task-engine.md §4.
const (
	defaultCheckInterval = 30 * time.Second
	defaultCheckTimeout  = 30 * time.Second
	defaultCheckRetries  = 3
)

// probe is the check to run for a container: the task definition's, completed by
// the image's as Docker does it, with the command in Test. It is nil where there
// is none.
func (m *Machine) probe(c *ContainerState) *container.Healthcheck {
	var check container.Healthcheck
	own, image := m.definition(c.Name).HealthCheck, c.Check.Image
	if own != nil {
		check = *own
	}
	if image != nil {
		if len(check.Test) == 0 {
			check.Test = image.Test
		}
		check.Interval = cmp.Or(check.Interval, image.Interval)
		check.Timeout = cmp.Or(check.Timeout, image.Timeout)
		check.StartPeriod = cmp.Or(check.StartPeriod, image.StartPeriod)
		check.Retries = cmp.Or(check.Retries, image.Retries)
	}
	if len(check.Test) < 2 {
		return nil // There is none, or it is NONE.
	}
	switch check.Test[0] {
	case "CMD":
		check.Test = check.Test[1:]
	case "CMD-SHELL":
		shell := c.Check.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		check.Test = append(slices.Clone(shell), check.Test[1])
	default:
		return nil
	}
	check.Interval = positive(check.Interval, defaultCheckInterval)
	check.Timeout = positive(check.Timeout, defaultCheckTimeout)
	if check.Retries <= 0 {
		check.Retries = defaultCheckRetries
	}
	return &check
}

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// nextAttendance begins what goes on beside a running container, and ends it.
func (m *Machine) nextAttendance(work []Work, c *ContainerState) []Work {
	running := c.Phase == PhaseRunning && !m.unwanted(c)
	left := m.flying(c.Name, flightLeave) || (!running && m.flying(c.Name, flightAttend))
	if left {
		m.land(c.Name, flightLeave, flightAttend)
		work = append(work, Leave{c.Name})
	}
	if !running || m.flying(c.Name, flightAttend) {
		return work
	}
	a := Attend{Container: c.Name, Run: c.runsSince(), Check: m.probe(c), Health: c.Health}
	for _, agent := range m.definition(c.Name).ManagedAgents {
		if c.managedAgent(agent.Name).Status != ReportStopped {
			a.Agents = append(a.Agents, agent.Name)
		}
	}
	if a.Check == nil && len(a.Agents) == 0 {
		return work
	}
	m.fly(c.Name, flightAttend)
	return append(work, a)
}

// leave has Next end what goes on beside a container, whether or not the same
// answer begins it again for the next run.
func (m *Machine) leave(name string) {
	if m.flying(name, flightAttend) {
		m.land(name, flightAttend)
		m.fly(name, flightLeave)
	}
}

// judged records what the health check says. What is told of an earlier run of
// the container does not count.
func (m *Machine) judged(f HealthChanged) {
	c := m.find(f.Container)
	if c == nil || c.Phase != PhaseRunning || (!f.Run.IsZero() && !f.Run.Equal(c.runsSince())) {
		return
	}
	c.Health, c.HealthSince = f.Health, f.At
	c.Check.ExitCode, c.Check.Output = f.ExitCode, f.Output
}

// unjudged is the health of a run that has just begun.
func (c *ContainerState) unjudged(at time.Time) {
	c.Health, c.HealthSince = HealthUnknown, at
	c.Check.ExitCode, c.Check.Output = 0, ""
}

// managedAgent is what is known of an agent of that name.
func (c *ContainerState) managedAgent(name string) ManagedAgentState {
	for _, a := range c.ManagedAgents {
		if a.Name == name {
			return a
		}
	}
	return ManagedAgentState{Name: name}
}

// keepAgent writes what is known of an agent, into a list of its own: views of
// the task hold the one before.
func (c *ContainerState) keepAgent(a ManagedAgentState) {
	agents := slices.Clone(c.ManagedAgents)
	if i := slices.IndexFunc(agents, func(have ManagedAgentState) bool { return have.Name == a.Name }); i >= 0 {
		agents[i] = a
	} else {
		agents = append(agents, a)
	}
	c.ManagedAgents = agents
}

// agentChanged records what a managed agent does. Nothing can be told of one
// whose container has ended.
func (m *Machine) agentChanged(f ManagedAgentChanged) {
	c := m.find(f.Container)
	if c == nil || c.Phase == PhaseStopped || m.settled(c) {
		return
	}
	a := c.managedAgent(f.Name)
	if f.Status == ReportRunning {
		a.StartedAt = f.At
	}
	if a.Status != f.Status || a.Reason != f.Reason {
		a.Status, a.Reason, a.Reported = f.Status, f.Reason, false
	}
	c.keepAgent(a)
}

// agentsEnded records the end of the managed agents of a container that has
// stopped for good; agentsAgain gives those that were given up another chance in
// one that was restarted.
func (c *ContainerState) agentsEnded(d *Container) {
	for _, agent := range d.ManagedAgents {
		if a := c.managedAgent(agent.Name); a.Status != ReportStopped {
			a.Status, a.Reason, a.Reported = ReportStopped, AgentContainerStopped, false
			c.keepAgent(a)
		}
	}
}

func (c *ContainerState) agentsAgain() {
	for _, a := range c.ManagedAgents {
		if a.Status == ReportStopped {
			a.Status, a.Reason, a.Reported = ReportPending, "", false
			c.keepAgent(a)
		}
	}
}

// unsentAgents are the changes of managed agents that ECS does not know of.
func (m *Machine) unsentAgents() []ManagedAgentChange {
	var changes []ManagedAgentChange
	for i := range m.state.Containers {
		c := &m.state.Containers[i]
		for _, a := range c.ManagedAgents {
			if !a.Reported && a.Status != ReportPending {
				changes = append(changes, ManagedAgentChange{Container: c.Name, Name: a.Name, Status: a.Status, Reason: a.Reason})
			}
		}
	}
	return changes
}

func (m *Machine) markAgentSent(change ManagedAgentChange) {
	if c := m.find(change.Container); c != nil {
		a := c.managedAgent(change.Name)
		a.Reported = true
		c.keepAgent(a)
	}
}

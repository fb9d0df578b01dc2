package task

import (
	"fmt"
	"slices"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// killPatience is how long a container may take to end by SIGKILL before it is
// given up: what a stop may take beyond the container's own time for it
// (spec/task-engine.md §1.8).
const killPatience = 2 * time.Minute

// Options are the settings of the host that the rules depend on.
type Options struct {
	// StopTimeout is the time between the stop signal and SIGKILL for containers
	// that do not say; zero is 30 seconds.
	StopTimeout time.Duration
	// PullUpfront pulls images without waiting for dependencies
	// (ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT).
	PullUpfront bool
}

// Machine is one task's state machine. It belongs to one goroutine.
type Machine struct {
	state   State
	options Options
	// flights are the works under way, by task (container "") and container. They
	// are not persisted: after a restart nothing is under way.
	flights map[flight]bool
	dirty   bool
}

// flight is a kind of work under way for a container ("" is the task).
type flight struct{ container, kind string }

// The kinds of flight.
const (
	flightAdmit   = "admit"
	flightPrepare = "prepare"
	flightRelease = "release"
	flightDrain   = "drain"
	flightCleanup = "cleanup"
	flightRemove  = "remove"
	flightForget  = "forget"
	flightPull    = "pull"
	flightCancel  = "cancel"
	flightCreate  = "create"
	flightStart   = "start"
	flightTerm    = "term"
	flightKill    = "kill"
	flightAttend  = "attend"
	flightLeave   = "leave"
	flightStopAt  = "stop-timer"
	flightStartAt = "start-timer"
)

// New makes the machine of a task that was accepted at the given time. A task
// whose dependencies can never be resolved is stopped from the start.
func New(d Definition, at time.Time, o Options) *Machine {
	s := State{Definition: d, Latest: at}
	for i := range d.Containers {
		s.Containers = append(s.Containers, ContainerState{
			Name: d.Containers[i].Name, Phase: PhasePending, Health: HealthUnknown,
		})
	}
	m := Restore(s, o)
	m.dirty = true
	if err := CheckDependencies(d); err != nil {
		m.state.StopReason = err.Error()
	}
	return m
}

// Restore makes a machine of what was persisted. The caller tells it what it
// finds in the runtime (Started, Exited, Created, Vanished) before it asks Next.
func Restore(s State, o Options) *Machine {
	if o.StopTimeout <= 0 {
		o.StopTimeout = 30 * time.Second
	}
	return &Machine{state: s, options: o, flights: map[flight]bool{}}
}

// State is a copy of what the machine knows, for persisting and showing.
func (m *Machine) State() State {
	s := m.state
	s.Containers = slices.Clone(s.Containers)
	return s
}

// Definition is the task's. It must not be changed.
func (m *Machine) Definition() *Definition { return &m.state.Definition }

// Apply records a fact. A fact about a container that the task does not have is
// ignored.
func (m *Machine) Apply(f Fact) {
	before := m.State()
	m.apply(f)
	if m.state.Latest.Before(factTime(f)) {
		m.state.Latest = factTime(f)
	}
	m.dirty = m.dirty || changed(before, m.state)
}

func (m *Machine) apply(f Fact) {
	s := &m.state
	switch f := f.(type) {
	case StopRequested:
		s.StopRequested = true
		if s.StopReason == "" {
			s.StopReason = f.Reason
		}
	case Admitted:
		m.land("", flightAdmit)
		s.Admitted = true
	case Refused:
		m.land("", flightAdmit, flightPrepare)
		m.refuse(f)
	case Prepared:
		m.land("", flightPrepare)
		s.Prepared = true
	case Released:
		m.land("", flightRelease)
		s.Released = true
	case DrainDue:
		// The drain's flight is over; Next reports what waits.
		m.land("", flightDrain)
		m.flights[flight{"", flightDrain + "-due"}] = true
	case CleanupDue:
		m.land("", flightCleanup)
		s.CleanupDue = true
	case Removed:
		m.land("", flightRemove)
		s.Removed = true
	case Resolved, PullBegan, Pulled, PullFailed, Created, CreateFailed,
		Started, StartFailed, Exited, Vanished, Signalled, SignalFailed,
		StopTimedOut, StartTimedOut, HealthChanged, ManagedAgentChanged:
		m.applyContainer(f)
	}
}

// refuse records why the host cannot run the task.
func (m *Machine) refuse(f Refused) {
	if c := m.find(f.Container); c != nil {
		c.fail(f.Failure)
		m.state.StopRequested = true
		return
	}
	if m.state.StopReason == "" {
		m.state.StopReason = f.Failure.Text
	}
}

func (m *Machine) applyContainer(f Fact) {
	switch f := f.(type) {
	case Resolved, PullBegan, Pulled, PullFailed:
		m.applyPull(f)
	case Created, CreateFailed, Started, StartFailed:
		m.applyStart(f)
	case Exited, Vanished, Signalled, SignalFailed, StopTimedOut:
		m.applyStop(f)
	case StartTimedOut:
		if c := m.find(f.Container); c != nil {
			c.StartTimedOut = true
		}
	case HealthChanged:
		m.judged(f)
	case ManagedAgentChanged:
		m.agentChanged(f)
	case StopRequested, Admitted, Refused, Prepared, Released, DrainDue, CleanupDue, Removed:
		// About the task; handled by apply.
	}
}

func (m *Machine) applyPull(f Fact) {
	switch f := f.(type) {
	case Resolved:
		if c := m.find(f.Container); c != nil {
			c.Digest, c.DigestByAgent = f.Digest, f.ByAgent
		}
	case PullBegan:
		if c := m.find(f.Container); c != nil && c.Pulling.StartedAt.IsZero() {
			c.Pulling.StartedAt = f.At
		}
	case Pulled:
		m.land(f.Container, flightPull, flightCancel)
		if c := m.find(f.Container); c != nil && c.Phase == PhasePending {
			m.pulled(c, f)
		}
	case PullFailed:
		m.land(f.Container, flightPull, flightCancel)
		c := m.find(f.Container)
		if c == nil {
			return
		}
		if !c.Pulling.StartedAt.IsZero() {
			c.Pulling.StoppedAt = f.At
		}
		if f.Cancelled {
			return
		}
		c.fail(f.Failure)
		if f.StopTask {
			m.state.StopRequested = true
		}
		if f.Reason != "" && m.state.StopReason == "" {
			m.state.StopReason = f.Reason
		}
	default:
	}
}

// pulled records what image a container has.
func (m *Machine) pulled(c *ContainerState, f Pulled) {
	if f.Digest != "" {
		c.Digest = f.Digest
	}
	c.ImageID = f.ImageID
	if f.Healthcheck != nil || m.definition(c.Name).HealthCheck != nil {
		c.Check.Image, c.Check.Shell = f.Healthcheck, f.Shell
	}
	if f.Asked {
		c.Pulling.StoppedAt = f.At
	}
	c.enter(PhasePulled)
}

func (m *Machine) applyStart(f Fact) {
	switch f := f.(type) {
	case Created:
		m.land(f.Container, flightCreate)
		c := m.find(f.Container)
		if c == nil || (c.Phase != PhasePending && c.Phase != PhasePulled) {
			return
		}
		c.RuntimeID, c.Bindings, c.CreatedAt = f.RuntimeID, f.Bindings, f.At
		c.enter(PhaseCreated)
	case CreateFailed:
		m.land(f.Container, flightCreate)
		if c := m.find(f.Container); c != nil && !f.Cancelled {
			c.fail(f.Failure)
		}
	case Started:
		asked := m.flying(f.Container, flightStart)
		m.land(f.Container, flightStart)
		if c := m.find(f.Container); c != nil {
			m.started(c, f.At, asked)
		}
	case StartFailed:
		m.land(f.Container, flightStart)
		if c := m.find(f.Container); c != nil {
			c.fail(f.Failure)
		}
	default:
	}
}

// started records that a container runs. One that has ended since is not
// brought back by hearing late of its start: that is the start that is known
// already. A restart that was asked for counts also where the clock was set back
// meanwhile.
func (m *Machine) started(c *ContainerState, at time.Time, asked bool) {
	switch c.Phase {
	case PhaseStopped:
		if c.StartedAt.IsZero() {
			c.StartedAt = at
		}
		if m.definition(c.Name).Restart == nil || c.Exit == nil {
			return
		}
		if !at.After(c.Exit.At) && (!asked || at.Equal(c.runsSince())) {
			return
		}
		c.Restarts = Restarts{Count: c.Restarts.Count + 1, LastAt: at, ExitAt: c.Exit.At}
		c.Exit, c.EndedAt = nil, time.Time{}
		c.unjudged(at)
		c.agentsAgain()
		c.enter(PhaseRunning)
	case PhasePending, PhasePulled, PhaseCreated:
		c.StartedAt = at
		c.unjudged(at)
		c.enter(PhaseRunning)
	case PhaseRunning:
		// Known already.
	}
}

func (m *Machine) applyStop(f Fact) {
	switch f := f.(type) {
	case Exited:
		if c := m.find(f.Container); c != nil && c.Phase != PhaseStopped && !c.told(f.Exit) {
			exit := f.Exit
			m.ended(c, &exit, exit.At)
			m.blame(c, exit)
		}
	case Vanished:
		if c := m.find(f.Container); c != nil && c.Phase != PhaseStopped && c.Phase.existsInRuntime() {
			m.ended(c, nil, f.At)
			c.fail(Failure{"ContainerVanishedError", "No container matching saved ID found"})
		}
	case Signalled:
		m.signalled(f)
	case SignalFailed:
		m.land(f.Container, flightTerm, flightKill)
		if c := m.find(f.Container); c != nil && !f.At.IsZero() {
			c.signalled(f.Kill, f.At)
		}
	case StopTimedOut:
		m.land(f.Container, flightStopAt)
		if c := m.find(f.Container); c != nil {
			m.stopTimedOut(c)
		}
	default:
	}
}

// stopTimedOut follows the stop signal by SIGKILL. A container that SIGKILL does
// not end either (its process hangs in the kernel, or is frozen) counts as
// stopped at last, so that ECS hears of it (spec/task-engine.md §1.6, §1.8); its
// removal goes on trying.
func (m *Machine) stopTimedOut(c *ContainerState) {
	if !c.Stopping.TimedOut || c.Stopping.KilledAt.IsZero() || c.Phase != PhaseRunning {
		c.Stopping.TimedOut = true
		return
	}
	c.fail(Failure{"DockerTimeoutError", fmt.Sprintf(
		"Could not transition to stopped; timed out after waiting %s", m.stopTimeout(c.Name)+killPatience)})
	m.ended(c, nil, c.Stopping.KilledAt.Add(killPatience))
}

// signalled keeps the flight of a signal that was sent: it is not sent again by
// this process.
func (m *Machine) signalled(f Signalled) {
	c := m.find(f.Container)
	if c == nil {
		return
	}
	c.signalled(f.Kill, f.At)
	m.flights[flight{f.Container, flightTerm}] = true
	if f.Kill {
		m.flights[flight{f.Container, flightKill}] = true
	}
}

// signalled begins the time that the container has to stop, and to be killed. It
// runs from the first try: a container that cannot be signalled gets no longer.
func (c *ContainerState) signalled(kill bool, at time.Time) {
	if c.Stopping.SignalledAt.IsZero() {
		c.Stopping.SignalledAt = at
	}
	if kill && c.Stopping.KilledAt.IsZero() {
		c.Stopping.KilledAt = at
	}
}

// ended records that a container has stopped.
func (m *Machine) ended(c *ContainerState, exit *container.Exit, at time.Time) {
	c.Exit, c.EndedAt = exit, at
	c.enter(PhaseStopped)
	m.land(c.Name, flightTerm, flightKill, flightStopAt)
	m.leave(c.Name)
	if !m.mayRestart(c) {
		c.agentsEnded(m.definition(c.Name))
	}
	if m.definition(c.Name).Essential && m.state.ExecutionStoppedAt.IsZero() && !m.mayRestart(c) {
		m.state.ExecutionStoppedAt = at
	}
}

// blame records why a container that will not be restarted has exited, where
// the exit code alone does not say it. An exit code of 0 is no failure, whatever
// was killed inside.
func (m *Machine) blame(c *ContainerState, exit container.Exit) {
	switch {
	case m.mayRestart(c):
	case !exit.Known:
		c.fail(Failure{"DockerStateError", "the container's process was lost: the host restarted, or its shim was killed"})
	case exit.OOMKilled && exit.Code != 0:
		c.fail(Failure{"OutOfMemoryError", "Container killed due to memory usage"})
	}
}

// told says whether this exit is that of the run before, which is known.
func (c *ContainerState) told(exit container.Exit) bool {
	return exit.Known && !c.Restarts.ExitAt.IsZero() && exit.At.Equal(c.Restarts.ExitAt)
}

// runsSince is when the latest run of the container began.
func (c *ContainerState) runsSince() time.Time {
	if c.Restarts.LastAt.IsZero() {
		return c.StartedAt
	}
	return c.Restarts.LastAt
}

// enter is the one door through which a container's phase is written.
func (c *ContainerState) enter(p Phase) { c.Phase = p }

// fail records a failure; the first one stays.
func (c *ContainerState) fail(f Failure) {
	if c.Failure == (Failure{}) {
		c.Failure = f
	}
}

// find is the container of that name, or nil.
func (m *Machine) find(name string) *ContainerState {
	for i := range m.state.Containers {
		if m.state.Containers[i].Name == name {
			return &m.state.Containers[i]
		}
	}
	return nil
}

// definition is the definition of a container that exists.
func (m *Machine) definition(name string) *Container {
	for i := range m.state.Definition.Containers {
		if m.state.Definition.Containers[i].Name == name {
			return &m.state.Definition.Containers[i]
		}
	}
	return &Container{}
}

// fly marks work as under way and says whether it was not before.
func (m *Machine) fly(name, kind string) bool {
	f := flight{name, kind}
	if m.flights[f] {
		return false
	}
	m.flights[f] = true
	return true
}

// land ends the flights of those kinds.
func (m *Machine) land(name string, kinds ...string) {
	for _, kind := range kinds {
		delete(m.flights, flight{name, kind})
	}
}

// flying says whether any of those kinds of work is under way for a container.
func (m *Machine) flying(name string, kinds ...string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return m.flights[flight{name, k}] })
}

// factTime is the time a fact carries, zero for those that carry none.
func factTime(f Fact) time.Time {
	switch f := f.(type) {
	case StopRequested:
		return f.At
	case PullBegan:
		return f.At
	case Pulled:
		return f.At
	case PullFailed:
		return f.At
	case Created:
		return f.At
	case CreateFailed:
		return f.At
	case Started:
		return f.At
	case StartFailed:
		return f.At
	case Exited:
		return f.Exit.At
	case Vanished:
		return f.At
	case Signalled:
		return f.At
	case SignalFailed:
		return f.At
	case HealthChanged:
		return f.At
	case ManagedAgentChanged:
		return f.At
	case Admitted, Refused, Prepared, Released, DrainDue, CleanupDue, Removed, Resolved,
		StopTimedOut, StartTimedOut:
		return time.Time{}
	}
	return time.Time{}
}

// Desired is what the task is meant to be: RUNNING, or STOPPED once it is to
// end.
func (m *Machine) Desired() ReportStatus {
	if m.stopping() {
		return ReportStopped
	}
	return ReportRunning
}

// Settled names the containers that have come to their end.
func (m *Machine) Settled() map[string]bool {
	settled := map[string]bool{}
	for i := range m.state.Containers {
		if m.settled(&m.state.Containers[i]) {
			settled[m.state.Containers[i].Name] = true
		}
	}
	return settled
}

package task

import (
	"reflect"
	"slices"
	"time"
)

// Next answers with the work that all the facts together call for and that is
// not under way. Persist stands first when there is anything to write; Reports
// belong into the same transaction.
func (m *Machine) Next() []Work {
	m.settleDependencies()
	work := m.nextTask(nil)
	for i := range m.state.Containers {
		work = m.nextContainer(work, &m.state.Containers[i])
	}
	work = m.nextReport(work)
	work = m.nextEnd(work)
	if m.dirty {
		m.dirty = false
		work = append([]Work{Persist{}}, work...)
	}
	return work
}

// nextTask admits and prepares.
func (m *Machine) nextTask(work []Work) []Work {
	s := &m.state
	switch {
	case m.stopping():
		if !s.Admitted && m.flying("", flightAdmit) {
			m.land("", flightAdmit)
			work = append(work, CancelAdmit{})
		}
	case !s.Admitted:
		if m.fly("", flightAdmit) {
			work = append(work, Admit{})
		}
	case !s.Prepared:
		if m.fly("", flightPrepare) {
			work = append(work, Prepare{})
		}
	}
	return work
}

// nextContainer answers for one container.
func (m *Machine) nextContainer(work []Work, c *ContainerState) []Work {
	work = m.nextAttendance(work, c)
	if m.unwanted(c) {
		return m.nextStop(work, c)
	}
	if !m.state.Admitted {
		return work
	}
	switch c.Phase {
	case PhasePending:
		if (m.options.PullUpfront || m.ready(c)) && m.fly(c.Name, flightPull) {
			work = append(work, Pull{c.Name})
		}
	case PhasePulled:
		if m.state.Prepared && m.ready(c) && m.fly(c.Name, flightCreate) {
			work = append(work, Create{c.Name})
		}
	case PhaseCreated:
		if m.ready(c) && m.fly(c.Name, flightStart) {
			work = append(work, Start{c.Name})
		}
	case PhaseRunning:
		d := m.definition(c.Name)
		if d.StartTimeout > 0 && m.waitedFor(c.Name) && !c.StartTimedOut && m.fly(c.Name, flightStartAt) {
			work = append(work, ArmStart{c.Name, c.StartedAt, d.StartTimeout})
		}
	case PhaseStopped:
		if m.mayRestart(c) && m.fly(c.Name, flightStart) {
			work = append(work, Start{c.Name})
		}
	}
	return work
}

// nextStop answers for a container that is not wanted any more.
func (m *Machine) nextStop(work []Work, c *ContainerState) []Work {
	if m.flying(c.Name, flightPull) {
		if m.fly(c.Name, flightCancel) {
			work = append(work, CancelPull{c.Name})
		}
		return work
	}
	if c.Phase != PhaseRunning || m.neededBy(c) {
		return work
	}
	if c.Stopping.TimedOut {
		if m.fly(c.Name, flightKill) {
			work = append(work, Signal{c.Name, true})
		}
		if !c.Stopping.KilledAt.IsZero() && m.fly(c.Name, flightStopAt) {
			work = append(work, ArmStop{c.Name, c.Stopping.KilledAt, killPatience})
		}
		return work
	}
	if m.fly(c.Name, flightTerm) {
		work = append(work, Signal{c.Name, false})
	}
	if !c.Stopping.SignalledAt.IsZero() && m.fly(c.Name, flightStopAt) {
		work = append(work, ArmStop{c.Name, c.Stopping.SignalledAt, m.stopTimeout(c.Name)})
	}
	return work
}

// nextEnd releases, keeps for a while, removes and forgets a stopped task.
func (m *Machine) nextEnd(work []Work) []Work {
	s := &m.state
	if !m.stopped() || s.Sent != ReportStopped {
		return work
	}
	switch {
	case !s.Released:
		if m.fly("", flightRelease) {
			work = append(work, Release{})
		}
	case !s.CleanupDue:
		if m.fly("", flightCleanup) {
			work = append(work, ArmCleanup{s.StoppedAt})
		}
	case !s.Removed:
		if m.fly("", flightRemove) {
			work = append(work, Remove{})
		}
	default:
		if m.fly("", flightForget) {
			work = append(work, Forget{})
		}
	}
	return work
}

// stopping says whether the task is to end: ECS or the agent wants it, or an
// essential container is over.
func (m *Machine) stopping() bool {
	if m.state.StopRequested || m.state.StopReason != "" {
		return true
	}
	for i := range m.state.Containers {
		c := &m.state.Containers[i]
		if m.definition(c.Name).Essential && m.over(c) {
			return true
		}
	}
	return false
}

// over says whether a container has ended for good, or failed.
func (m *Machine) over(c *ContainerState) bool {
	if c.ExitCode != nil {
		return true
	}
	if c.Phase == PhaseStopped {
		return !m.restartable(c)
	}
	return c.Failure != Failure{}
}

// unwanted says whether a container is to be stopped, or not to be started.
func (m *Machine) unwanted(c *ContainerState) bool { return m.over(c) || m.stopping() }

// settled says whether a container has come to its end: it stopped, or it is
// not wanted, does not run and nothing is under way for it.
func (m *Machine) settled(c *ContainerState) bool {
	if !m.unwanted(c) || m.flying(c.Name, flightPull, flightCreate, flightStart) {
		return false
	}
	return c.Phase != PhaseRunning
}

// stopped says whether the whole task is over.
func (m *Machine) stopped() bool {
	if m.flying("", flightPrepare) {
		return false
	}
	for i := range m.state.Containers {
		if !m.settled(&m.state.Containers[i]) {
			return false
		}
	}
	return true
}

// restartable says whether the container's own policy restarts it, whatever
// the task does.
func (m *Machine) restartable(c *ContainerState) bool {
	p := m.definition(c.Name).Restart
	if p == nil || c.Exit == nil || !c.Exit.Known || c.Failure != (Failure{}) {
		return false
	}
	if slices.Contains(p.IgnoredExitCodes, c.Exit.Code) {
		return false
	}
	return c.Exit.At.Sub(c.runsSince()) >= p.AttemptPeriod
}

// mayRestart says whether a stopped container is to run again.
func (m *Machine) mayRestart(c *ContainerState) bool {
	return c.Phase == PhaseStopped && m.restartable(c) && !m.state.StopRequested && m.state.StopReason == ""
}

// stopTimeout is the time between the stop signal and SIGKILL.
func (m *Machine) stopTimeout(name string) time.Duration {
	if d := m.definition(name).StopTimeout; d > 0 {
		return d
	}
	return m.options.StopTimeout
}

// changed says whether a fact changed the state. Latest alone is not worth a
// write.
func changed(before, after State) bool {
	before.Latest = after.Latest
	before.Definition, after.Definition = Definition{}, Definition{} // It never changes.
	return !reflect.DeepEqual(before, after)
}

package task

import (
	"fmt"
	"time"
)

// Why says, in a person's words and in order, what the task waits for at the
// time now. It is empty for a task that is where it should be.
func (m *Machine) Why(now time.Time) []string {
	s := &m.state
	var why []string
	if !m.stopping() && !s.Admitted {
		why = append(why, "the task waits for free host resources")
	}
	for i := range s.Containers {
		if text := m.whyContainer(&s.Containers[i], now); text != "" {
			why = append(why, s.Containers[i].Name+": "+text)
		}
	}
	if m.stopped() && !s.Removed && s.Sent == ReportStopped {
		why = append(why, fmt.Sprintf("the task stopped %s ago and is kept for a while", now.Sub(s.StoppedAt).Round(time.Second)))
	}
	return why
}

func (m *Machine) whyContainer(c *ContainerState, now time.Time) string {
	switch {
	case c.Phase == PhaseRunning && m.unwanted(c):
		return m.whyStopping(c, now)
	case m.settled(c):
		if reason := m.containerReason(c); reason != "" {
			return "stopped: " + reason
		}
		if code := c.code(); code != nil {
			return fmt.Sprintf("stopped with exit code %d", *code)
		}
		return ""
	case m.flying(c.Name, flightCancel):
		return "the pull of " + m.definition(c.Name).Image + " is being cancelled"
	case m.flying(c.Name, flightPull):
		return "pulls " + m.definition(c.Name).Image
	case m.flying(c.Name, flightCreate):
		return "is being created"
	case m.flying(c.Name, flightStart):
		return "is being started"
	case c.Phase == PhaseRunning || !m.state.Admitted:
		return ""
	case !m.state.Prepared:
		return "waits for the task's cgroup and network"
	}
	for _, dep := range m.definition(c.Name).DependsOn {
		if other := m.find(dep.Container); other != nil && !m.fulfilled(other, dep.Condition) {
			return fmt.Sprintf("waits for %s to be %s (it is %s)", other.Name, conditionWords(dep.Condition), other.Phase)
		}
	}
	return ""
}

func (m *Machine) whyStopping(c *ContainerState, now time.Time) string {
	switch {
	case c.Stopping.SignalledAt.IsZero() && m.neededBy(c):
		return "is to stop once the containers that depend on it have"
	case c.Stopping.SignalledAt.IsZero():
		return "is being told to stop"
	case c.Stopping.TimedOut:
		return "was given SIGKILL"
	}
	left := m.stopTimeout(c.Name) - now.Sub(c.Stopping.SignalledAt)
	return fmt.Sprintf("was told to stop %s ago; SIGKILL follows in %s",
		now.Sub(c.Stopping.SignalledAt).Round(time.Second), max(left, 0).Round(time.Second))
}

func conditionWords(c Condition) string {
	switch c {
	case ConditionCreate:
		return "created"
	case ConditionStart:
		return "started"
	case ConditionComplete:
		return "finished"
	case ConditionSuccess:
		return "finished with exit code 0"
	case ConditionHealthy:
		return "healthy"
	}
	return string(c)
}

package task

import (
	"errors"
	"fmt"
	"slices"
)

// CheckDependencies says whether the dependencies of a task's containers can
// ever be fulfilled: no cycle, no HEALTHY on a container without a health check
// (spec/task-engine.md §2.3). A dependency on a container that does not exist is
// not its matter: it is a failure of the one that names it.
func CheckDependencies(d Definition) error {
	resolved := map[string]bool{}
	for range d.Containers {
		progress := false
		for i := range d.Containers {
			c := &d.Containers[i]
			if !resolved[c.Name] && canResolve(d, c, resolved) {
				resolved[c.Name] = true
				progress = true
			}
		}
		if !progress {
			break
		}
	}
	if len(resolved) < len(d.Containers) {
		return errors.New("Task dependencies cannot be resolved, taskArn: " + d.ARN) // The text is what ECS shows.
	}
	return nil
}

func canResolve(d Definition, c *Container, resolved map[string]bool) bool {
	for _, dep := range c.DependsOn {
		i := slices.IndexFunc(d.Containers, func(o Container) bool { return o.Name == dep.Container })
		if i < 0 {
			continue
		}
		if !resolved[dep.Container] || (dep.Condition == ConditionHealthy && !d.Containers[i].ReportHealth) {
			return false
		}
	}
	return true
}

// ready says whether all that a container depends on is fulfilled.
func (m *Machine) ready(c *ContainerState) bool {
	for _, dep := range m.definition(c.Name).DependsOn {
		other := m.find(dep.Container)
		if other == nil || !m.fulfilled(other, dep.Condition) {
			return false
		}
	}
	return true
}

// fulfilled is the table of spec/task-engine.md §2.2.
func (m *Machine) fulfilled(c *ContainerState, condition Condition) bool {
	switch condition {
	case ConditionCreate:
		return c.Phase.existsInRuntime()
	case ConditionStart:
		return c.Phase == PhaseRunning || c.Phase == PhaseStopped
	case ConditionComplete:
		return c.Phase == PhaseStopped && m.over(c) && c.code() != nil
	case ConditionSuccess:
		return c.Phase == PhaseStopped && m.over(c) && c.code() != nil && *c.code() == 0
	case ConditionHealthy:
		return c.Phase == PhaseRunning && c.Health == HealthHealthy
	}
	return false
}

// settleDependencies ends the containers that can never start because of what
// they depend on. One may bring down the next, so it looks until nothing changes.
func (m *Machine) settleDependencies() {
	for again := true; again; {
		again = false
		for i := range m.state.Containers {
			again = m.settleImpossible(&m.state.Containers[i]) || again
		}
	}
}

// settleImpossible ends a container whose dependency can never be fulfilled:
// exit code 143 and the reason of spec/task-engine.md §2.3.
func (m *Machine) settleImpossible(c *ContainerState) bool {
	if c.Phase == PhaseRunning || c.Phase == PhaseStopped || m.unwanted(c) {
		return false
	}
	for _, dep := range m.definition(c.Name).DependsOn {
		text := m.impossible(c, dep)
		if text == "" {
			continue
		}
		code := 143
		c.ExitCode = &code
		c.fail(Failure{"CannotStartContainerError", "dependency graph: " + text})
		if m.definition(c.Name).Essential && m.state.ExecutionStoppedAt.IsZero() {
			m.state.ExecutionStoppedAt = m.state.Latest
		}
		m.dirty = true
		return true
	}
	return false
}

// impossible says why a dependency can never be fulfilled, or "".
func (m *Machine) impossible(c *ContainerState, dep Dependency) string {
	target := m.describe(c)
	other := m.find(dep.Container)
	if other == nil {
		return fmt.Sprintf("container ordering dependency [<nil>] for target [%s] does not exist.", target)
	}
	if m.fulfilled(other, dep.Condition) {
		return ""
	}
	of := m.describe(other)
	done := other.Phase == PhaseStopped && m.over(other)
	switch {
	case dep.Condition == ConditionSuccess && done:
		return fmt.Sprintf("failed to resolve container ordering dependency [%s] for target [%s] as dependency did not exit successfully.", of, target)
	case other.Phase != PhaseRunning && m.settled(other):
		return fmt.Sprintf("failed to resolve container ordering dependency [%s] for target [%s] because dependency will never start", of, target)
	case other.StartTimedOut && dep.Condition != ConditionStart && !c.Phase.existsInRuntime():
		return fmt.Sprintf("container ordering dependency [%s] for target [%s] has timed out.", of, target)
	default:
		return ""
	}
}

// describe renders a container as the reasons of spec/task-engine.md §2.3 do.
func (m *Machine) describe(c *ContainerState) string {
	desired := "RUNNING"
	if m.stopping() || c.ExitCode != nil || (c.Failure != Failure{} && c.StartedAt.IsZero()) {
		desired = "STOPPED" // One that only ended by itself was still wanted.
	}
	text := fmt.Sprintf("%s(%s) (%s->%s)", c.Name, m.definition(c.Name).Image, c.known(), desired)
	if code := c.code(); code != nil {
		text += fmt.Sprintf(" - Exit: %d", *code)
	}
	return text
}

// known is the phase in the words of ECS's own agent.
func (c *ContainerState) known() string {
	switch c.Phase {
	case PhasePending:
		if c.Digest != "" {
			return "MANIFEST_PULLED"
		}
		return "NONE"
	case PhasePulled:
		return "PULLED"
	case PhaseCreated:
		return "CREATED"
	case PhaseRunning:
		return "RUNNING"
	case PhaseStopped:
		return "STOPPED"
	}
	return "NONE"
}

// code is the exit code to report, or nil.
func (c *ContainerState) code() *int {
	if c.Exit != nil && c.Exit.Known {
		return &c.Exit.Code
	}
	return c.ExitCode
}

// waitedFor says whether any container waits for a condition of this one that
// a start timeout can end.
func (m *Machine) waitedFor(name string) bool {
	for i := range m.state.Definition.Containers {
		for _, dep := range m.state.Definition.Containers[i].DependsOn {
			if dep.Container == name && dep.Condition != ConditionStart && dep.Condition != ConditionCreate {
				return true
			}
		}
	}
	return false
}

// neededBy says whether a container that depends on this one has yet to stop:
// tasks stop in the reverse order of their dependencies. It may depend on this one
// through others, some of which have long ended by themselves.
func (m *Machine) neededBy(c *ContainerState) bool {
	return slices.ContainsFunc(m.state.Containers, func(other ContainerState) bool {
		running := other.Phase == PhaseRunning || m.flying(other.Name, flightStart)
		return running && m.leads(other.Name, c.Name, map[string]bool{})
	})
}

// leads says whether the dependencies of a container lead to another one.
func (m *Machine) leads(from, to string, seen map[string]bool) bool {
	seen[from] = true
	for _, dep := range m.definition(from).DependsOn {
		if dep.Container == to || (!seen[dep.Container] && m.leads(dep.Container, to, seen)) {
			return true
		}
	}
	return false
}

package daemon

import (
	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
)

// judged gives the health of running containers to TCS: of those whose health is
// to be reported, not of those that only their image has a check for
// (spec/control-plane.md §5.6).
func judged(tasks []engine.Task) []tcs.TaskHealth {
	var all []tcs.TaskHealth
	for i := range tasks {
		s, d := &tasks[i].State, &tasks[i].State.Definition
		h := tcs.TaskHealth{ARN: d.ARN, Family: d.Family, Version: d.Version}
		for j := range s.Containers {
			if c := &s.Containers[j]; d.Containers[j].ReportHealth && c.Phase == task.PhaseRunning {
				h.Containers = append(h.Containers, tcs.ContainerHealth{Name: c.Name, Status: string(c.Health), Since: c.HealthSince})
			}
		}
		if len(h.Containers) > 0 {
			all = append(all, h)
		}
	}
	return all
}

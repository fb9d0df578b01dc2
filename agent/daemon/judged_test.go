package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
)

func TestJudged(t *testing.T) {
	since := time.Unix(1_740_830_301, 0)
	made := func(arn string, report bool, phase task.Phase) engine.Task {
		return engine.Task{State: task.State{
			Definition: task.Definition{ARN: arn, Family: "shop", Version: "7", Containers: []task.Container{{Name: "web", Lifecycle: task.Lifecycle{ReportHealth: report}}, {Name: "side"}}},
			Containers: []task.ContainerState{
				{Name: "web", Phase: phase, Health: task.HealthUnhealthy, HealthSince: since},
				{Name: "side", Phase: task.PhaseRunning, Health: task.HealthHealthy},
			},
		}}
	}
	got := judged([]engine.Task{
		made("a", true, task.PhaseRunning), made("b", false, task.PhaseRunning), made("c", true, task.PhaseStopped),
	})
	want := []tcs.TaskHealth{{ARN: "a", Family: "shop", Version: "7", Containers: []tcs.ContainerHealth{{Name: "web", Status: "UNHEALTHY", Since: since}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

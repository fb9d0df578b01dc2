package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/metrics/sampler"
)

// TestObserverKeepsRestartedContainers: what a restart policy starts again is
// measured as one container, across agents too; what has come to its end is not.
func TestObserverKeepsRestartedContainers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "figures")
	observing := func() *observer {
		a := &agent{log: zaptest.NewLogger(t)}
		return &observer{
			meta: newMeta(a), events: &hostapi.Events{}, sampler: sampler.New(sampler.Config{}),
			cgroup: func(task, id string) string { return task + "/" + id }, netns: func(id string) string { return id },
			bases: bases{dir, a.log}, tracked: map[string]time.Time{}, pulls: map[string]hostapi.PullView{},
		}
	}
	view := engine.Task{State: task.State{
		Definition: task.Definition{ARN: "arn:task/t", ID: "t", Containers: []task.Container{{Name: "c", Lifecycle: task.Lifecycle{Restart: &task.RestartPolicy{}}}}},
		Containers: []task.ContainerState{{Name: "c", Phase: task.PhaseRunning, Times: task.Times{StartedAt: time.Now()}}},
	}}
	id := view.ContainerID("c")
	measured := func(o *observer) bool { _, ok := o.sampler.Latest(id); return ok }
	as := func(phase task.Phase, settled bool) engine.Task {
		v := view
		v.State.Containers = []task.ContainerState{{Name: "c", Phase: phase, Times: task.Times{StartedAt: view.State.Containers[0].StartedAt}}}
		v.Settled = map[string]bool{"c": settled}
		return v
	}
	first := observing()
	base := metrics.Base{Peak: 7}
	base.CPU.Usage = 1234
	first.bases.keep(id, base) // of lives before an earlier agent
	first.Changed(as(task.PhaseCreated, false))
	if measured(first) {
		t.Error("a container is measured before it runs")
	}
	first.Changed(as(task.PhaseRunning, false))
	first.bases.forget(id)
	first.Changed(as(task.PhaseStopped, false))
	if !measured(first) {
		t.Error("a container that is about to be started again is not measured any more")
	}

	next := observing()
	if got := next.bases.of(id); got != base {
		t.Errorf("the next agent goes on from %+v, want %+v", got, base)
	}
	next.Changed(as(task.PhaseRunning, false))
	if err := os.WriteFile(filepath.Join(dir, "gone.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := next.bases.sweep(func(known string) bool { return known == id }); err != nil {
		t.Fatal(err)
	}
	left := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if got := left(); len(got) != 1 || got[0] != filepath.Join(dir, id+".json") {
		t.Errorf("the sweep leaves %q", got)
	}
	next.Changed(as(task.PhaseStopped, true))
	if measured(next) {
		t.Error("a container that has come to its end is still measured")
	}
	if got := left(); len(got) != 0 {
		t.Errorf("a container that has come to its end leaves %q", got)
	}
}

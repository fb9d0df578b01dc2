package localcluster_test

import (
	"testing"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// TestMilestones: each step of a task is noted once, in the order in which it
// was seen on the wire, and a report that is refused is not.
func TestMilestones(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, noPorts)
	arn := runOne(t, s, ecs.RunTaskRequest{})
	milestones := func() localcluster.Milestones {
		t.Helper()
		return getJSON[map[string]localcluster.Milestones](t, s.URL()+"/_berth/milestones")[arn]
	}
	a.payload()
	if m := milestones(); m.RunSent.IsZero() || !m.Running.IsZero() || !m.StopSent.IsZero() {
		t.Errorf("after the payload: %+v", m)
	}
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web"})
	running := milestones().Running
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web"})
	if again := milestones().Running; running.IsZero() || !again.Equal(running) {
		t.Errorf("running noted at %v, and again at %v", running, again)
	}
	must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: arn})
	a.payload()
	a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web"})
	m := milestones()
	if m.RunSent.After(m.Running) || m.Running.After(m.StopSent) || m.StopSent.After(m.Stopped) || m.StopSent.IsZero() {
		t.Errorf("after the end: %+v", m)
	}
}

package localcluster_test

import (
	"strings"
	"testing"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// TestExecuteCommand: the errors are those of ECS, but for the last: there is no
// Session Manager here, and what there is instead is said.
func TestExecuteCommand(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	register(t, s).connect()
	web(t, s, noPorts)
	without := runOne(t, s, ecs.RunTaskRequest{})
	with := runOne(t, s, ecs.RunTaskRequest{EnableExecuteCommand: true})
	report := func(status string) {
		must[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{
			Task: with, Status: "RUNNING",
			ManagedAgents: []ecs.ManagedAgentStateChange{{ContainerName: "web", ManagedAgentName: "ExecuteCommandAgent", Status: status}},
		})
	}
	fails := func(in ecs.ExecuteCommandRequest, kind, says string) {
		t.Helper()
		in.Command = "sh"
		_, err := call[struct{}](t, s, ecs.OpExecuteCommand, in)
		if err == nil || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %s: %s", in, err, kind, says)
		}
	}
	const bad = "InvalidParameterException"
	fails(ecs.ExecuteCommandRequest{Task: "none", Interactive: true}, bad, "The task provided in the request was invalid.")
	fails(ecs.ExecuteCommandRequest{Task: with, Container: "none", Interactive: true}, bad, "The container provided in the request was invalid.")
	fails(ecs.ExecuteCommandRequest{Task: with}, bad, "Interactive is the only mode supported currently.")
	fails(ecs.ExecuteCommandRequest{Task: without, Interactive: true}, bad, "execute command was not enabled when the task was run")
	fails(ecs.ExecuteCommandRequest{Task: with, Interactive: true}, bad, "or the execute command agent isn’t running.")
	report("RUNNING")
	id := with[strings.LastIndexByte(with, '/')+1:]
	fails(ecs.ExecuteCommandRequest{Task: with, Container: "web", Interactive: true}, "TargetNotConnectedException", "berth exec -it "+id+"/web -- sh")
	report("STOPPED")
	fails(ecs.ExecuteCommandRequest{Task: with, Interactive: true}, bad, "or the execute command agent isn’t running.")
}

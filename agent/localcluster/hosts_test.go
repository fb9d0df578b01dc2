package localcluster_test

import (
	"testing"
	"time"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// TestPlacementStrategies runs tasks on two hosts and looks where they went.
func TestPlacementStrategies(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	register(t, s).connect()
	register(t, s).connect()
	web(t, s, noPorts)
	place := func(in ecs.RunTaskRequest) []int {
		t.Helper()
		out := run(t, s, in)
		hosts := map[string]int{}
		for _, task := range out.Tasks {
			hosts[task.ContainerInstanceARN]++
		}
		for _, task := range out.Tasks {
			must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: task.TaskARN})
		}
		var counts []int
		for _, n := range hosts {
			counts = append(counts, n)
		}
		return counts
	}
	binpack := []ecs.PlacementStrategy{{Type: "binpack", Field: "memory"}}
	if got := place(ecs.RunTaskRequest{Count: new(4)}); len(got) != 2 || got[0] != 2 {
		t.Errorf("spread is the default: %v", got)
	}
	if got := place(ecs.RunTaskRequest{Count: new(4), PlacementStrategy: binpack}); len(got) != 1 {
		t.Errorf("binpack: %v", got)
	}
	if got := place(ecs.RunTaskRequest{Count: new(3), PlacementStrategy: binpack, PlacementConstraints: []ecs.PlacementConstraint{{Type: "distinctInstance"}}}); len(got) != 2 {
		t.Errorf("distinct instances: %v", got)
	}
	if got := place(ecs.RunTaskRequest{Count: new(4), PlacementStrategy: []ecs.PlacementStrategy{{Type: "random"}}}); len(got) == 0 {
		t.Errorf("random: %v", got)
	}
	if _, err := call[ecs.RunTaskResponse](t, s, ecs.OpRunTask, ecs.RunTaskRequest{TaskDefinition: "web", PlacementStrategy: []ecs.PlacementStrategy{{Type: "best"}}}); err == nil {
		t.Error("an unknown strategy was taken")
	}
}

// TestGPUs: each GPU goes to one container, comes back, and is named in the payload.
func TestGPUs(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	in := registration()
	in.PlatformDevices = []ecs.PlatformDevice{{ID: "GPU-0", Type: "GPU"}, {ID: "GPU-1", Type: "GPU"}}
	a := &standIn{t: t, s: s, arn: must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in).ContainerInstance.ContainerInstanceARN}
	a.connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.ContainerDefinitions[0].ResourceRequirements = []ecs.ResourceRequirement{{Type: "GPU", Value: "1"}}
	})
	first := runOne(t, s, ecs.RunTaskRequest{})
	got := describe(t, s, first).Containers[0].GPUIDs
	p := a.payload().Tasks[0]
	if len(got) != 1 || len(p.Associations) != 1 || p.Associations[0].Name != got[0] || p.Associations[0].Containers[0] != "web" {
		t.Errorf("GPU %v, associations %+v", got, p.Associations)
	}
	second := describe(t, s, runOne(t, s, ecs.RunTaskRequest{})).Containers[0].GPUIDs
	if len(second) != 1 || second[0] == got[0] {
		t.Errorf("GPUs %v and %v", got, second)
	}
	if out := run(t, s, ecs.RunTaskRequest{}); len(out.Failures) != 1 || out.Failures[0].Reason != "RESOURCE:GPU" {
		t.Errorf("a third: %+v", out.Failures)
	}
	if left := resource(a.instance(), "GPU"); left != "" {
		t.Errorf("left: %q", left)
	}
	must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: first})
	if left := resource(a.instance(), "GPU"); left != got[0] {
		t.Errorf("left after a stop: %q, want %q", left, got[0])
	}
}

// TestOtherReports are the reports that are not about a task's status.
func TestOtherReports(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, noPorts)
	arn := runOne(t, s, ecs.RunTaskRequest{EnableExecuteCommand: true})
	must[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{
		Task: arn, Status: "RUNNING",
		ManagedAgents: []ecs.ManagedAgentStateChange{{ContainerName: "web", ManagedAgentName: "ExecuteCommandAgent", Status: "RUNNING", Reason: "started"}},
	})
	if agents := describe(t, s, arn).Containers[0].ManagedAgents; len(agents) != 1 || agents[0].LastStatus != "RUNNING" || agents[0].LastStartedAt.IsZero() {
		t.Errorf("managed agents: %+v", agents)
	}
	must[ecs.SubmitContainerStateChangeResponse](t, s, ecs.OpSubmitContainerStateChange, ecs.SubmitContainerStateChangeRequest{
		Task: arn, ContainerName: "web", Status: "RUNNING", RuntimeID: "r9",
	})
	if got := describe(t, s, arn).Containers[0].RuntimeID; got != "r9" {
		t.Errorf("runtime id %q", got)
	}
	must[ecs.SubmitAttachmentStateChangesResponse](t, s, ecs.OpSubmitAttachmentStateChanges, ecs.SubmitAttachmentStateChangesRequest{
		Attachments: []ecs.AttachmentStateChange{{AttachmentARN: "arn:aws:ecs:us-east-1:000000000000:attachment/x", Status: "ATTACHED"}},
	})
	health := getJSON[localcluster.Health](t, s.URL()+"/_berth/health")
	if health.Instances != 1 || health.Connected != 1 || health.Tasks != 1 || health.Endpoint != s.URL() {
		t.Errorf("health: %+v", health)
	}
	// A host that is gone for good takes its tasks along.
	if _, err := call[ecs.DeregisterContainerInstanceResponse](t, s, ecs.OpDeregisterContainerInstance, ecs.DeregisterContainerInstanceRequest{ContainerInstance: a.arn}); err == nil {
		t.Error("an instance with tasks was deregistered without force")
	}
	must[ecs.DeregisterContainerInstanceResponse](t, s, ecs.OpDeregisterContainerInstance, ecs.DeregisterContainerInstanceRequest{ContainerInstance: a.arn, Force: true})
	if task := describe(t, s, arn); task.LastStatus != "STOPPED" || task.Containers[0].LastStatus != "STOPPED" || task.StoppedReason == "" {
		t.Errorf("orphan: %+v", task)
	}
}

// TestCredentialRenewal: before role credentials expire the agent gets new ones
// under the same id.
func TestCredentialRenewal(t *testing.T) {
	s, _ := start(t, localcluster.Config{Timing: localcluster.Timing{Credentials: 200 * time.Millisecond}})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.ExecutionRoleARN = "arn:aws:iam::000000000000:role/exec"
	})
	runOne(t, s, ecs.RunTaskRequest{})
	first := a.payload().Tasks[0].ExecutionRoleCredentials
	for {
		m := expect[*acs.IAMRoleCredentialsMessage](a)
		a.ack(m)
		if m.RoleType != acs.RoleExecution || m.RoleCredentials.CredentialsID != first.CredentialsID {
			t.Fatalf("got %s for %s", m.RoleType, m.RoleCredentials.CredentialsID)
		}
		if m.RoleCredentials.AccessKeyID != first.AccessKeyID {
			return
		}
	}
}

// TestReplacedConnection: a second connection of the same instance ends the first.
func TestReplacedConnection(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s)
	first := a.connect().conn
	a.connect()
	ended := &standIn{t: t, s: s, arn: a.arn, conn: first}
	for {
		if _, err := ended.read(); err != nil {
			break
		}
	}
	expect[*acs.TaskManifestMessage](a)
	if !a.instance().AgentConnected {
		t.Error("the end of the first connection took the second one along")
	}
}

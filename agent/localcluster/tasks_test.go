package localcluster_test

import (
	"errors"
	"testing"
	"time"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/await"
)

// TestTaskLife follows a task from run-task to its end, with what the agent sees,
// what the user sees, and what the host has left at each step.
func TestTaskLife(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, nil)
	arn := runOne(t, s, ecs.RunTaskRequest{StartedBy: "test", Tags: []ecs.Tag{{Key: "team", Value: "shop"}}})

	if i := a.instance(); resource(i, "CPU") != "1792" || resource(i, "MEMORY") != "3488" || resource(i, "PORTS") != "22,8080,51678" || i.PendingTasksCount != 1 {
		t.Errorf("after placement: %+v", i)
	}
	p := a.payload()
	if len(p.Tasks) != 1 || p.Tasks[0].ARN != arn || p.Tasks[0].DesiredStatus != acs.DesiredRunning || p.Tasks[0].Containers[0].Image != "127.0.0.1/web:1" {
		t.Fatalf("payload: %+v", p)
	}
	a.submit(arn, "PENDING", ecs.ContainerStateChange{ContainerName: "web", ImageDigest: "sha256:aa"})
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{
		ContainerName: "web", RuntimeID: "f3a1", ImageDigest: "sha256:aa",
		NetworkBindings: []ecs.NetworkBinding{{BindIP: "0.0.0.0", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}},
	})
	task := describe(t, s, arn)
	c := task.Containers[0]
	if task.LastStatus != "RUNNING" || task.StartedAt.IsZero() || task.Connectivity != "CONNECTED" || task.StartedBy != "test" ||
		c.RuntimeID != "f3a1" || c.ImageDigest != "sha256:aa" || c.NetworkBindings[0].HostPort != 8080 || task.Tags[0].Value != "shop" {
		t.Errorf("running: %+v", task)
	}
	if i := a.instance(); i.RunningTasksCount != 1 || i.PendingTasksCount != 0 || !i.AgentConnected {
		t.Errorf("instance: %+v", i)
	}
	before := task.Version

	stopped := must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: arn, Reason: "enough"}).Task
	if stopped.DesiredStatus != "STOPPED" || stopped.LastStatus != "RUNNING" || stopped.StoppingAt.IsZero() {
		t.Errorf("stop-task answered %+v", stopped)
	}
	if i := a.instance(); resource(i, "PORTS") != "22,51678" || resource(i, "CPU") != "2048" {
		t.Errorf("a task that is told to stop still holds resources: %+v", i.RemainingResources)
	}
	p = expect[*acs.PayloadMessage](a)
	if len(p.Tasks) != 1 || p.Tasks[0].ARN != arn || p.Tasks[0].DesiredStatus != acs.DesiredStopped {
		t.Fatalf("stop payload: %+v", p)
	}
	if got := describe(t, s, arn).LastStatus; got != "DEACTIVATING" {
		t.Errorf("stop is sent: %s", got)
	}
	a.ack(p)
	await.That(t, "STOPPING after the ack", func() bool { return describe(t, s, arn).LastStatus == "STOPPING" })
	a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "f3a1", ExitCode: new(143)})
	task = describe(t, s, arn)
	if task.LastStatus != "STOPPED" || task.StopCode != "UserInitiated" || task.StoppedReason != "enough" ||
		*task.Containers[0].ExitCode != 143 || task.StoppedAt.IsZero() || task.Version <= before {
		t.Errorf("stopped: %+v", task)
	}
	if got := must[ecs.ListTasksResponse](t, s, ecs.OpListTasks, ecs.ListTasksRequest{DesiredStatus: "STOPPED"}); len(got.TaskARNs) != 1 {
		t.Errorf("stopped tasks: %v", got.TaskARNs)
	}
}

// TestReports holds what the service makes of reports that are late, repeated or
// about an end that nobody asked for.
func TestReports(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) { in.ContainerDefinitions[0].PortMappings = nil })

	t.Run("essential container exits", func(t *testing.T) {
		arn := runOne(t, s, ecs.RunTaskRequest{})
		a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "r1"})
		a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "r1", ExitCode: new(0)})
		task := describe(t, s, arn)
		if task.StopCode != "EssentialContainerExited" || task.StoppedReason != "Essential container in task exited" || *task.Containers[0].ExitCode != 0 {
			t.Errorf("got %+v", task)
		}
		a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", ExitCode: new(1)})
		if again := describe(t, s, arn); again.Version != task.Version || *again.Containers[0].ExitCode != 0 {
			t.Error("a repeated STOPPED changed the task")
		}
		_, err := call[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{Task: arn, Status: "RUNNING"})
		if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeInvalidParameter}) {
			t.Errorf("a report after STOPPED: %v", err)
		}
	})
	t.Run("never started", func(t *testing.T) {
		arn := runOne(t, s, ecs.RunTaskRequest{})
		a.submit(arn, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", Reason: "CannotPullContainerError: no"})
		if task := describe(t, s, arn); task.StopCode != "TaskFailedToStart" || task.Containers[0].Reason != "CannotPullContainerError: no" {
			t.Errorf("got %+v", task)
		}
	})
	t.Run("unknown task", func(t *testing.T) {
		_, err := call[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{Task: "arn:none", Status: "RUNNING"})
		if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeInvalidParameter, Message: "The referenced task was not found."}) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refused by a fault", func(t *testing.T) {
		arn := runOne(t, s, ecs.RunTaskRequest{})
		s.Fault(localcluster.Faults{RefuseSubmits: new(1), SubmitDelayMS: new(20)})
		before := time.Now()
		_, err := call[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{Task: arn, Status: "RUNNING"})
		if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeServer}) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(before); took < 20*time.Millisecond {
			t.Errorf("delayed by %v", took)
		}
		a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web"})
	})
}

// TestPlacementFailures is why tasks are not placed, in the words of ECS.
func TestPlacementFailures(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	web(t, s, nil)
	_, err := call[ecs.RunTaskResponse](t, s, ecs.OpRunTask, ecs.RunTaskRequest{TaskDefinition: "web"})
	if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeInvalidParameter, Message: "No Container Instances were found in your cluster."}) {
		t.Errorf("an empty cluster: %v", err)
	}
	a := register(t, s)
	reason := func(change func(*ecs.RegisterTaskDefinitionRequest), in ecs.RunTaskRequest) string {
		t.Helper()
		in.TaskDefinition = web(t, s, change).TaskDefinitionARN
		out := run(t, s, in)
		if len(out.Failures) == 0 {
			must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: out.Tasks[0].TaskARN})
			return ""
		}
		if out.Failures[0].ARN != a.arn {
			t.Errorf("failure names %s", out.Failures[0].ARN)
		}
		return out.Failures[0].Reason
	}
	if got := reason(nil, ecs.RunTaskRequest{}); got != "AGENT" {
		t.Errorf("without a connection: %q", got)
	}
	a.connect()
	await.That(t, "connected", func() bool { return a.instance().AgentConnected })
	for _, tc := range []struct {
		want   string
		change func(*ecs.RegisterTaskDefinitionRequest)
		in     ecs.RunTaskRequest
	}{
		{want: ""},
		{want: "RESOURCE:CPU", change: func(in *ecs.RegisterTaskDefinitionRequest) { in.ContainerDefinitions[0].CPU = 4096 }},
		{want: "RESOURCE:MEMORY", change: func(in *ecs.RegisterTaskDefinitionRequest) { in.Memory = "8 GB" }},
		{want: "RESOURCE:PORTS", change: func(in *ecs.RegisterTaskDefinitionRequest) { in.ContainerDefinitions[0].PortMappings[0].HostPort = 22 }},
		{want: "ATTRIBUTE", change: func(in *ecs.RegisterTaskDefinitionRequest) { in.PIDMode = "task" }},
		{want: "RESOURCE:GPU", change: func(in *ecs.RegisterTaskDefinitionRequest) {
			in.ContainerDefinitions[0].ResourceRequirements = []ecs.ResourceRequirement{{Type: "GPU", Value: "1"}}
		}},
		{want: "MemberOf placement constraint unsatisfied.", in: ecs.RunTaskRequest{
			PlacementConstraints: []ecs.PlacementConstraint{{Type: "memberOf", Expression: "attribute:ecs.os-type == windows"}},
		}},
		{want: "", in: ecs.RunTaskRequest{
			PlacementConstraints: []ecs.PlacementConstraint{{Type: "memberOf", Expression: "attribute:ecs.os-type in [linux, bsd] and attribute:stack !exists"}},
		}},
		{want: "RESOURCE:MEMORY", in: ecs.RunTaskRequest{Overrides: &ecs.TaskOverride{Memory: "4096"}}},
		{want: "RESOURCE:CPU", in: ecs.RunTaskRequest{Overrides: &ecs.TaskOverride{
			ContainerOverrides: []ecs.ContainerOverride{{Name: "web", CPU: new(3000)}},
		}}},
	} {
		if got := reason(tc.change, tc.in); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	must[ecs.UpdateContainerInstancesStateResponse](t, s, ecs.OpUpdateContainerInstancesState,
		ecs.UpdateContainerInstancesStateRequest{ContainerInstances: []string{a.arn}, Status: "DRAINING"})
	if got := reason(nil, ecs.RunTaskRequest{}); got != "INACTIVE" {
		t.Errorf("draining: %q", got)
	}
}

// TestRegistration: clusters that are missing, tokens that come twice, and hosts
// that come back.
func TestRegistration(t *testing.T) {
	s, _ := start(t, localcluster.Config{NoDefaultCluster: true})
	in := registration()
	in.ClientToken = "6a3d1c0e"
	_, err := call[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in)
	if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClient, Message: "Cluster not found."}) {
		t.Errorf("without a cluster: %v", err)
	}
	must[ecs.CreateClusterResponse](t, s, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: "default"})
	first := must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in).ContainerInstance
	again := must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in).ContainerInstance
	if first.ContainerInstanceARN != again.ContainerInstanceARN {
		t.Error("a retry with the same client token made another instance")
	}
	added := map[string]string{}
	for _, a := range first.Attributes {
		added[a.Name] = a.Value
	}
	if added["ecs.availability-zone"] != "us-east-1a" || added["ecs.instance-type"] == "" || added["ecs.ami-id"] == "" || added["ecs.os-type"] != "linux" {
		t.Errorf("attributes: %v", added)
	}
	in.ContainerInstanceARN = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/none"
	if _, err := call[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClient}) {
		t.Errorf("an unknown ARN: %v", err)
	}
	if _, err := call[ecs.DeleteClusterResponse](t, s, ecs.OpDeleteCluster, ecs.DeleteClusterRequest{Cluster: "default"}); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClusterContainsInstances}) {
		t.Errorf("deleting a cluster with an instance: %v", err)
	}
	must[ecs.DeregisterContainerInstanceResponse](t, s, ecs.OpDeregisterContainerInstance, ecs.DeregisterContainerInstanceRequest{ContainerInstance: first.ContainerInstanceARN})
	must[ecs.DeleteClusterResponse](t, s, ecs.OpDeleteCluster, ecs.DeleteClusterRequest{Cluster: "default"})
	if _, err := call[ecs.ListTasksResponse](t, s, ecs.OpListTasks, ecs.ListTasksRequest{}); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClusterNotFound, Message: "Cluster not found."}) {
		t.Errorf("a deleted cluster: %v", err)
	}
}

// TestTagsAndProtection are the calls that agents make for their containers.
func TestTagsAndProtection(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	register(t, s).connect()
	web(t, s, nil)
	arn := runOne(t, s, ecs.RunTaskRequest{Tags: []ecs.Tag{{Key: "a", Value: "1"}}})
	must[ecs.TagResourceResponse](t, s, ecs.OpTagResource, ecs.TagResourceRequest{ResourceARN: arn, Tags: []ecs.Tag{{Key: "a", Value: "2"}, {Key: "b", Value: "3"}}})
	must[ecs.UntagResourceResponse](t, s, ecs.OpUntagResource, ecs.UntagResourceRequest{ResourceARN: arn, TagKeys: []string{"b"}})
	if got := must[ecs.ListTagsForResourceResponse](t, s, ecs.OpListTagsForResource, ecs.ListTagsForResourceRequest{ResourceARN: arn}); len(got.Tags) != 1 || got.Tags[0].Value != "2" {
		t.Errorf("tags: %+v", got)
	}
	on := must[ecs.UpdateTaskProtectionResponse](t, s, ecs.OpUpdateTaskProtection, ecs.UpdateTaskProtectionRequest{Cluster: "default", Tasks: []string{arn}, ProtectionEnabled: true, ExpiresInMinutes: new(5)})
	if p := on.ProtectedTasks[0]; !p.ProtectionEnabled || p.ExpirationDate.IsZero() {
		t.Errorf("protected: %+v", p)
	}
	got := must[ecs.GetTaskProtectionResponse](t, s, ecs.OpGetTaskProtection, ecs.GetTaskProtectionRequest{Cluster: "default", Tasks: []string{arn, "none"}})
	if len(got.ProtectedTasks) != 1 || !got.ProtectedTasks[0].ProtectionEnabled || len(got.Failures) != 1 {
		t.Errorf("protection: %+v", got)
	}
	if _, err := call[ecs.UpdateTaskProtectionResponse](t, s, ecs.OpUpdateTaskProtection, ecs.UpdateTaskProtectionRequest{Tasks: []string{arn}, ProtectionEnabled: true, ExpiresInMinutes: new(0)}); err == nil {
		t.Error("protection for no time was taken")
	}
}

func TestRunTaskRules(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) { in.ContainerDefinitions[0].PortMappings = nil })

	first := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"})
	if again := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"}); again != first {
		t.Errorf("the same client token gave %s and %s", first, again)
	}
	for want, in := range map[string]ecs.RunTaskRequest{
		ecs.ErrTypeConflict:         {ClientToken: "once", Group: "other", TaskDefinition: "web"},
		ecs.ErrTypeClusterNotFound:  {Cluster: "none", TaskDefinition: "web"},
		ecs.ErrTypeClient:           {TaskDefinition: "none"},
		ecs.ErrTypeInvalidParameter: {TaskDefinition: "web", Count: new(11)},
	} {
		if _, err := call[ecs.RunTaskResponse](t, s, ecs.OpRunTask, in); !errors.Is(err, &ecs.Error{Type: want}) {
			t.Errorf("%+v: got %v, want %s", in, err, want)
		}
	}
	out := run(t, s, ecs.RunTaskRequest{Count: new(10)})
	if len(out.Tasks) != 6 || len(out.Failures) != 4 || out.Failures[0].Reason != "RESOURCE:MEMORY" {
		t.Errorf("10 tasks of 512 MiB beside one on 4000 MiB: %d placed, %+v", len(out.Tasks), out.Failures)
	}
	started := must[ecs.StartTaskResponse](t, s, ecs.OpStartTask, ecs.StartTaskRequest{TaskDefinition: "web", ContainerInstances: []string{a.arn, "ffff"}})
	if len(started.Failures) != 2 || started.Failures[0].Reason != "RESOURCE:MEMORY" || started.Failures[1].Reason != "MISSING" {
		t.Errorf("start-task: %+v", started.Failures)
	}
	if missing := must[ecs.DescribeTasksResponse](t, s, ecs.OpDescribeTasks, ecs.DescribeTasksRequest{Tasks: []string{"abc"}}); len(missing.Failures) != 1 || missing.Failures[0].Reason != "MISSING" {
		t.Errorf("an unknown task: %+v", missing)
	}
}

package localcluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/agent/wire/tcs"
	"github.com/berthd/berth/runtime/await"
)

// noPorts lets many tasks of the definition run beside each other.
func noPorts(in *ecs.RegisterTaskDefinitionRequest) {
	in.ContainerDefinitions[0].PortMappings, in.ContainerDefinitions[0].Memory = nil, 64
	in.ContainerDefinitions[0].CPU = 1
}

// TestRedelivery: a payload without an ack comes again with the same id, and one
// with an ack does not.
func TestRedelivery(t *testing.T) {
	s, _ := start(t, localcluster.Config{Timing: localcluster.Timing{Redeliver: 20 * time.Millisecond}})
	a := register(t, s).connect()
	web(t, s, noPorts)
	runOne(t, s, ecs.RunTaskRequest{})
	first := expect[*acs.PayloadMessage](a)
	second := expect[*acs.PayloadMessage](a)
	if first.MessageID != second.MessageID || first.Tasks[0].ARN != second.Tasks[0].ARN {
		t.Errorf("redelivered as another message: %s, %s", first.MessageID, second.MessageID)
	}
	a.ack(second)
	// The next payload is about the next task, not a third try.
	arn := runOne(t, s, ecs.RunTaskRequest{})
	for {
		p := expect[*acs.PayloadMessage](a)
		if p.MessageID == first.MessageID {
			continue // Sent before the ack arrived.
		}
		if len(p.Tasks) != 1 || p.Tasks[0].ARN != arn {
			t.Errorf("got %+v", p.Tasks)
		}
		a.ack(p)
		return
	}
}

// TestRedeliveryForgetsTheDead: a task that the agent reported as stopped is not
// sent again, though its payload was never acknowledged.
func TestRedeliveryForgetsTheDead(t *testing.T) {
	s, _ := start(t, localcluster.Config{Timing: localcluster.Timing{Redeliver: 20 * time.Millisecond}})
	a := register(t, s).connect()
	web(t, s, noPorts)
	s.Fault(localcluster.Faults{HoldPayloads: new(true)})
	dead, alive := runOne(t, s, ecs.RunTaskRequest{}), runOne(t, s, ecs.RunTaskRequest{})
	s.Fault(localcluster.Faults{HoldPayloads: new(false)})
	if p := expect[*acs.PayloadMessage](a); len(p.Tasks) != 2 {
		t.Fatalf("got %d tasks", len(p.Tasks))
	}
	a.submit(dead, "STOPPED", ecs.ContainerStateChange{ContainerName: "web", Reason: "cannot be loaded"})
	for {
		p := expect[*acs.PayloadMessage](a)
		if len(p.Tasks) == 1 {
			if p.Tasks[0].ARN != alive {
				t.Error("the wrong task is sent again")
			}
			return
		}
	}
}

// TestAWSVPC: a task with an interface of its own is announced before it is sent,
// and is PENDING once the interface is there.
func TestAWSVPC(t *testing.T) {
	s, _ := start(t, localcluster.Config{Interfaces: func(string) (*acs.ENI, error) {
		return &acs.ENI{
			EC2ID: "eni-1", MACAddress: "0a:11:22:33:44:55", SubnetGatewayIPv4Address: "10.0.4.1/24",
			IPv4Addresses: []acs.IPv4Address{{PrivateAddress: "10.0.4.17", Primary: true}},
		}, nil
	}})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.NetworkMode = "awsvpc"
	})
	if _, err := call[ecs.RunTaskResponse](t, s, ecs.OpRunTask, ecs.RunTaskRequest{TaskDefinition: "web"}); err == nil {
		t.Error("awsvpc without a network configuration was run")
	}
	arn := runOne(t, s, ecs.RunTaskRequest{NetworkConfiguration: &ecs.NetworkConfiguration{AWSVPCConfiguration: &ecs.AWSVPCConfiguration{Subnets: []string{"subnet-1"}}}})
	if task := describe(t, s, arn); task.LastStatus != "PROVISIONING" || task.Attachments[0].Status != "ATTACHING" {
		t.Errorf("placed: %+v", task)
	}
	m := expect[*acs.AttachTaskNetworkInterfacesMessage](a)
	if err := m.Validate(); err != nil || m.TaskARN != arn {
		t.Errorf("attach message: %+v, %v", m, err)
	}
	if p := a.payload(); p.Tasks[0].ElasticNetworkInterfaces[0].MACAddress != "0a:11:22:33:44:55" || p.Tasks[0].Validate("t") != nil {
		t.Errorf("payload: %+v", p.Tasks[0])
	}
	must[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{
		Task: arn, Attachments: []ecs.AttachmentStateChange{{AttachmentARN: m.ElasticNetworkInterfaces[0].AttachmentARN, Status: "ATTACHED"}},
	})
	task := describe(t, s, arn)
	if task.LastStatus != "PENDING" || task.Attachments[0].Status != "ATTACHED" || task.Containers[0].NetworkInterfaces[0].PrivateIPv4Address != "10.0.4.17" {
		t.Errorf("attached: %+v", task)
	}
	if got := s.InterfaceOwners(); len(got) != 1 || got[0] != arn {
		t.Errorf("owners of interfaces: %q", got)
	}
	must[ecs.SubmitTaskStateChangeResponse](t, s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{Task: arn, Status: "STOPPED"})
	if got := s.InterfaceOwners(); len(got) != 0 {
		t.Errorf("a task that has stopped owns an interface: %q", got)
	}
}

// TestReconnect: a new connection is told everything again, and gets a manifest
// with a higher timeline and the credentials.
func TestReconnect(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.TaskRoleARN = "arn:aws:iam::000000000000:role/task"
	})
	m1 := expect[*acs.TaskManifestMessage](a)
	a.ack(m1)
	running := runOne(t, s, ecs.RunTaskRequest{})
	ending := runOne(t, s, ecs.RunTaskRequest{})
	seen := map[string]*acs.Task{}
	for len(seen) < 2 {
		for _, task := range a.payload().Tasks {
			seen[task.ARN] = task
		}
	}
	if c := seen[running].RoleCredentials; c == nil || c.AccessKeyID == "" || c.SecretAccessKey == "" || c.RoleARN == "" {
		t.Error("no role credentials in the payload")
	}
	for arn := range seen {
		a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web"})
	}
	_ = a.conn.CloseNow()
	await.That(t, "disconnected", func() bool { return !a.instance().AgentConnected })
	task := describe(t, s, running)
	if task.LastStatus != "RUNNING" || task.Connectivity != "DISCONNECTED" {
		t.Errorf("without its agent: %s %s", task.LastStatus, task.Connectivity)
	}
	must[ecs.StopTaskResponse](t, s, ecs.OpStopTask, ecs.StopTaskRequest{Task: ending})

	a.connect()
	c := expect[*acs.IAMRoleCredentialsMessage](a)
	if c.RoleType != acs.RoleApplication || c.RoleCredentials.CredentialsID != seen[c.TaskARN].RoleCredentials.CredentialsID {
		t.Errorf("credentials: %+v", c)
	}
	p := a.payload()
	desired := map[string]string{}
	for _, task := range p.Tasks {
		desired[task.ARN] = task.DesiredStatus
	}
	if desired[running] != "RUNNING" || desired[ending] != "STOPPED" || len(desired) != 2 {
		t.Errorf("after a reconnect: %v", desired)
	}
	m2 := expect[*acs.TaskManifestMessage](a)
	if m2.Timeline <= m1.Timeline || m2.Timeline <= p.SeqNum || len(m2.Tasks) != 2 {
		t.Errorf("manifest: %+v after timeline %d and payload %d", m2, m1.Timeline, p.SeqNum)
	}
}

// TestStopVerification: of the tasks the agent asks about, those that are meant
// to run stay.
func TestStopVerification(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, noPorts)
	arn := runOne(t, s, ecs.RunTaskRequest{})
	m := expect[*acs.TaskManifestMessage](a)
	a.send(&acs.TaskStopVerificationMessage{MessageID: m.MessageID, StopCandidates: []acs.ManifestTask{
		{TaskARN: arn, DesiredStatus: "STOPPED"}, {TaskARN: "arn:ghost", DesiredStatus: "STOPPED"},
	}})
	got := expect[*acs.TaskStopVerificationAck](a)
	if got.MessageID != m.MessageID || len(got.StopTasks) != 1 || got.StopTasks[0].TaskARN != "arn:ghost" {
		t.Errorf("got %+v", got)
	}
}

func TestHeartbeats(t *testing.T) {
	s, _ := start(t, localcluster.Config{Timing: localcluster.Timing{Heartbeat: 10 * time.Millisecond, HeartbeatAck: 150 * time.Millisecond}})
	a := register(t, s).connect()
	for range 3 {
		expect[*acs.HeartbeatMessage](a) // Answers them.
	}
	for {
		if _, err := a.read(); err != nil { // Answers none.
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("closed with %v", err)
			}
			return
		}
	}
}

func TestLifetime(t *testing.T) {
	s, _ := start(t, localcluster.Config{Timing: localcluster.Timing{Lifetime: 30 * time.Millisecond}})
	a := register(t, s).connect()
	expect[*acs.CloseMessage](a)
	if _, err := a.read(); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("closed with %v", err)
	}
}

// TestFaults drives every fault that is about the ACS connection by HTTP, as a
// story against the built binary does.
func TestFaults(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, noPorts)
	fault := func(body string) {
		t.Helper()
		postFault(t, s, body)
	}
	fault(`{"garbage":"{not json"}`)
	for {
		text, err := a.read()
		if err != nil {
			t.Fatal(err)
		}
		if string(text) == "{not json" {
			break
		}
	}
	fault(`{"holdPayloads":true}`)
	for range 4 {
		runOne(t, s, ecs.RunTaskRequest{})
	}
	fault(`{"holdPayloads":false}`)
	p := a.payload()
	if len(p.Tasks) != 4 {
		t.Errorf("held tasks came as %d in the first payload", len(p.Tasks))
	}
	fault(`{"redeliver":true}`)
	if again := a.payload(); again.MessageID != p.MessageID || len(again.Tasks) != 4 {
		t.Errorf("redelivered: %+v", again)
	}
	fault(`{"manifest":true}`)
	if m := expect[*acs.TaskManifestMessage](a); len(m.Tasks) != 4 {
		t.Errorf("manifest: %+v", m)
	}
	fault(`{"closeAcs":1011}`)
	for {
		if _, err := a.read(); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusInternalError {
				t.Errorf("closed with %v", err)
			}
			break
		}
	}
	a.connect()
	fault(`{"dropAcs":true}`)
	for {
		if _, err := a.read(); err != nil {
			if !errors.Is(err, io.EOF) && websocket.CloseStatus(err) != -1 {
				t.Errorf("dropped with %v", err)
			}
			break
		}
	}
	fault(`{"refuseConnections":"InactiveInstanceException"}`)
	_, body := refusal(t, s, "/acs/ws?"+a.query().Encode())
	if e := acs.DecodeRefusal(body); e == nil || e.Kind != acs.InactiveInstanceException {
		t.Errorf("refused with %s", body)
	}
}

func TestUpgradeRefusals(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s)
	for _, tc := range []struct{ key, value, want string }{
		{"clusterArn", "none", acs.InvalidClusterException},
		{"containerInstanceArn", "arn:none", acs.InvalidInstanceException},
		{"agentVersion", "", acs.BadRequestException},
		{"protocolVersion", "", acs.BadRequestException},
	} {
		query := a.query()
		query.Set(tc.key, tc.value)
		if _, body := refusal(t, s, "/acs/ws?"+query.Encode()); acs.DecodeRefusal(body) == nil || acs.DecodeRefusal(body).Kind != tc.want {
			t.Errorf("%s=%q: %s, want %s", tc.key, tc.value, body, tc.want)
		}
	}
	must[ecs.DeregisterContainerInstanceResponse](t, s, ecs.OpDeregisterContainerInstance, ecs.DeregisterContainerInstanceRequest{ContainerInstance: a.arn})
	if _, body := refusal(t, s, "/acs/ws?"+a.query().Encode()); acs.DecodeRefusal(body).Kind != acs.InactiveInstanceException {
		t.Errorf("inactive: %s", body)
	}
}

// refusal dials a websocket that has to be refused, and gives the answer.
func refusal(t *testing.T, s *localcluster.Server, path string) (int, []byte) {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), s.URL()+path, nil)
	if err == nil {
		_ = conn.CloseNow()
		t.Fatalf("%s was accepted", path)
	}
	if resp == nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestTelemetry sends metrics, health and status as an agent does, header block
// and all, and looks for them where a user looks.
func TestTelemetry(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.ContainerDefinitions[0].HealthCheck = &ecs.HealthCheck{Command: []string{"CMD", "true"}}
	})
	arn := runOne(t, s, ecs.RunTaskRequest{})
	query := url.Values{"agentHash": {"0f"}, "agentVersion": {"1.105.1"}, "cluster": {"default"}, "containerInstance": {a.arn}}
	conn, _, err := websocket.Dial(t.Context(), s.URL()+"/tcs/ws?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	publish := func(m tcs.Message, want string) {
		t.Helper()
		body, err := tcs.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, append([]byte("Host: x\r\nX-Amz-Date: y\r\n\r\n"), body...)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("no ack"))
		defer cancel()
		_, text, err := conn.Read(ctx)
		if err != nil || !strings.Contains(string(text), `"`+want+`"`) {
			t.Fatalf("answer to %s: %s, %v", m.MessageType(), text, err)
		}
	}
	publish(&tcs.PublishMetricsRequest{
		Metadata: tcs.MetricsMetadata{Fin: true},
		TaskMetrics: []tcs.TaskMetric{{TaskARN: arn, ContainerMetrics: []tcs.ContainerMetric{
			{ContainerName: "web", CPU: &tcs.Doubles{Max: 3.5, SampleCount: 20, Sum: 21.5}},
		}}},
	}, tcs.TypeAckMetric)
	publish(&tcs.PublishHealthRequest{Tasks: []tcs.TaskHealth{
		{TaskARN: arn, Containers: []tcs.ContainerHealth{{ContainerName: "web", HealthStatus: "HEALTHY"}}},
	}}, tcs.TypeAckHealth)
	postFault(t, s, `{"ackDelayMs":1}`)
	publish(&tcs.PublishInstanceStatusRequest{Statuses: []tcs.InstanceStatus{{Type: tcs.CheckContainerRuntime, Status: tcs.StatusImpaired}}}, tcs.TypeAckInstanceStatus)

	m := getJSON[localcluster.Metrics](t, s.URL()+"/_berth/metrics")
	if got := m.Tasks[arn].Metrics.ContainerMetrics[0].CPU.Max; got != 3.5 || m.Received[tcs.TypePublishMetrics] != 1 {
		t.Errorf("metrics: %+v", m)
	}
	if task := describe(t, s, arn); task.HealthStatus != "HEALTHY" || task.Containers[0].HealthStatus != "HEALTHY" {
		t.Errorf("health: %+v", task)
	}
	out := must[ecs.DescribeContainerInstancesResponse](t, s, ecs.OpDescribeContainerInstances,
		ecs.DescribeContainerInstancesRequest{ContainerInstances: []string{a.arn}, Include: []string{"CONTAINER_INSTANCE_HEALTH"}})
	if h := out.ContainerInstances[0].HealthStatus; h == nil || h.OverallStatus != "IMPAIRED" || h.Details[0].Type != "CONTAINER_RUNTIME" {
		t.Errorf("instance health: %+v", h)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("\r\n\r\n{broken")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(text), tcs.BadRequestException) {
		t.Errorf("a broken frame: %s, %v", text, err)
	}
}

// TestFramesMaskKeys: what can be looked up over HTTP has no keys in it.
func TestFramesMaskKeys(t *testing.T) {
	s, _ := start(t, localcluster.Config{})
	a := register(t, s).connect()
	web(t, s, func(in *ecs.RegisterTaskDefinitionRequest) {
		noPorts(in)
		in.TaskRoleARN = "arn:aws:iam::000000000000:role/task"
	})
	runOne(t, s, ecs.RunTaskRequest{})
	p := a.payload()
	raw, err := json.Marshal(getJSON[[]localcluster.Frame](t, s.URL()+"/_berth/frames?n=50"))
	if err != nil {
		t.Fatal(err)
	}
	c := p.Tasks[0].RoleCredentials
	if strings.Contains(string(raw), c.SecretAccessKey) || strings.Contains(string(raw), c.SessionToken) || !strings.Contains(string(raw), c.AccessKeyID) {
		t.Error("frames show keys, or not the frame that had them")
	}
}

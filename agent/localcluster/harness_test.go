package localcluster_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap/zaptest"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// start makes a server and serves it.
func start(t *testing.T, conf localcluster.Config) (*localcluster.Server, func()) {
	t.Helper()
	if conf.Log == nil {
		conf.Log = zaptest.NewLogger(t)
	}
	s, err := localcluster.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	return s, serve(t, s)
}

// serve runs a server until the test ends, or until the returned stop is called.
func serve(t testing.TB, s *localcluster.Server) func() {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel(errors.New("test ends"))
		if err := <-done; err != nil {
			t.Errorf("server ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// call makes an unsigned call of the API and gives its answer or its *ecs.Error.
func call[Out any](t testing.TB, s *localcluster.Server, operation string, in any) (*Out, error) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	return answer[Out](t, r)
}

func answer[Out any](t testing.TB, r *http.Request) (*Out, error) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, ecs.ParseError(resp.Header.Get(ecs.ErrorTypeHeader), raw)
	}
	out := new(Out)
	if err := ecs.Decode(raw, out); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out, nil
}

// must is call for what has to go well.
func must[Out any](t testing.TB, s *localcluster.Server, operation string, in any) *Out {
	t.Helper()
	out, err := call[Out](t, s, operation, in)
	if err != nil {
		t.Fatalf("%s: %v", operation, err)
	}
	return out
}

// standIn is a scripted agent: it registers, connects and does as the test says.
type standIn struct {
	t    testing.TB
	s    *localcluster.Server
	arn  string
	hash string // which agent it says it is; empty for a usual one
	conn *websocket.Conn
}

// capabilities are what the stand-in says it can do.
func capabilities() []string {
	return []string{
		"com.amazonaws.ecs.capability.docker-remote-api.1.18", "com.amazonaws.ecs.capability.docker-remote-api.1.19",
		"com.amazonaws.ecs.capability.docker-remote-api.1.24", "com.amazonaws.ecs.capability.docker-remote-api.1.25",
		"com.amazonaws.ecs.capability.docker-remote-api.1.29", "com.amazonaws.ecs.capability.logging-driver.awslogs",
		"com.amazonaws.ecs.capability.logging-driver.json-file", "com.amazonaws.ecs.capability.task-iam-role",
		"com.amazonaws.ecs.capability.ecr-auth", "ecs.capability.execution-role-ecr-pull", "ecs.capability.execution-role-awslogs",
		"ecs.capability.container-health-check", "ecs.capability.container-ordering", "com.amazonaws.ecs.capability.privileged-container",
		"ecs.capability.secrets.ssm.environment-variables", "ecs.capability.secrets.asm.environment-variables", "ecs.capability.task-eni",
		"ecs.capability.secrets.ssm.bootstrap.log-driver", "ecs.capability.env-files.s3", "ecs.capability.container-restart-policy",
		"ecs.capability.private-registry-authentication.secretsmanager", "ecs.capability.docker-plugin.local", "ecs.capability.efs",
		"ecs.capability.network.container-port-range", "ecs.capability.efsAuth", "ecs.capability.storage.s3-files",
	}
}

func registration() *ecs.RegisterContainerInstanceRequest {
	in := &ecs.RegisterContainerInstanceRequest{
		Cluster: "default",
		TotalResources: []ecs.Resource{
			{Name: "CPU", Type: "INTEGER", IntegerValue: 2048},
			{Name: "MEMORY", Type: "INTEGER", IntegerValue: 4000},
			{Name: "PORTS", Type: "STRINGSET", StringSetValue: []string{"22", "51678"}},
			{Name: "PORTS_UDP", Type: "STRINGSET", StringSetValue: []string{}},
		},
		Attributes: []ecs.Attribute{{Name: "ecs.os-type", Value: "linux"}},
	}
	for _, name := range capabilities() {
		in.Attributes = append(in.Attributes, ecs.Attribute{Name: name})
	}
	return in
}

func register(t testing.TB, s *localcluster.Server) *standIn {
	t.Helper()
	out := must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, registration())
	return &standIn{t: t, s: s, arn: out.ContainerInstance.ContainerInstanceARN}
}

func (a *standIn) query() url.Values {
	return url.Values{
		"agentHash": {cmp.Or(a.hash, "0f1e2d3c")}, "agentVersion": {"1.105.1"}, "clusterArn": {"default"}, "containerInstanceArn": {a.arn},
		"dockerVersion": {"DockerVersion: 25.0.8"}, "protocolVersion": {"2"}, "sendCredentials": {"true"}, "seqNum": {"1"},
	}
}

// connect opens the ACS connection by way of DiscoverPollEndpoint.
func (a *standIn) connect() *standIn {
	a.t.Helper()
	found := must[ecs.DiscoverPollEndpointResponse](a.t, a.s, ecs.OpDiscoverPollEndpoint, ecs.DiscoverPollEndpointRequest{ContainerInstance: a.arn, Cluster: "default"})
	conn, resp, err := websocket.Dial(a.t.Context(), found.Endpoint+"ws?"+a.query().Encode(), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	conn.SetReadLimit(1 << 22)
	a.t.Cleanup(func() { _ = conn.CloseNow() })
	a.conn = conn
	return a
}

func (a *standIn) send(m acs.Message) {
	a.t.Helper()
	text, err := acs.Encode(m)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.conn.Write(a.t.Context(), websocket.MessageText, text); err != nil {
		a.t.Fatal(err)
	}
}

// read gives the next text frame.
func (a *standIn) read() ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(a.t.Context(), patience, errors.New("no frame came"))
	defer cancel()
	_, text, err := a.conn.Read(ctx)
	return text, err
}

// expect reads on to the next message of a type, answering heartbeats, and
// acknowledging payloads, manifests and credentials on the way.
func expect[M acs.Message](a *standIn) M {
	a.t.Helper()
	for {
		text, err := a.read()
		if err != nil {
			var zero M
			a.t.Fatalf("waiting for %T: %v", zero, err)
		}
		m, err := acs.Decode(text)
		if err != nil {
			a.t.Fatalf("%s: %v", text, err)
		}
		if heartbeat, ok := m.(*acs.HeartbeatMessage); ok {
			a.send(&acs.HeartbeatAckRequest{MessageID: heartbeat.MessageID})
		}
		if wanted, ok := m.(M); ok {
			return wanted
		}
		a.ack(m)
	}
}

func (a *standIn) ack(m acs.Message) {
	a.t.Helper()
	switch m := m.(type) {
	case *acs.PayloadMessage:
		a.send(&acs.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	case *acs.TaskManifestMessage:
		a.send(&acs.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	case *acs.AttachTaskNetworkInterfacesMessage:
		a.send(&acs.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	case *acs.IAMRoleCredentialsMessage:
		a.send(&acs.IAMRoleCredentialsAckRequest{MessageID: m.MessageID, Expiration: m.RoleCredentials.Expiration, CredentialsID: m.RoleCredentials.CredentialsID})
	}
}

// payload waits for a payload and acknowledges it.
func (a *standIn) payload() *acs.PayloadMessage {
	a.t.Helper()
	m := expect[*acs.PayloadMessage](a)
	a.ack(m)
	return m
}

// submit reports a task with one container.
func (a *standIn) submit(task, status string, c ecs.ContainerStateChange) {
	a.t.Helper()
	c.Status = status
	must[ecs.SubmitTaskStateChangeResponse](a.t, a.s, ecs.OpSubmitTaskStateChange, ecs.SubmitTaskStateChangeRequest{
		Cluster: "default", Task: task, Status: status, Containers: []ecs.ContainerStateChange{c},
	})
}

func (a *standIn) instance() ecs.ContainerInstance {
	a.t.Helper()
	out := must[ecs.DescribeContainerInstancesResponse](a.t, a.s, ecs.OpDescribeContainerInstances, ecs.DescribeContainerInstancesRequest{ContainerInstances: []string{a.arn}})
	return out.ContainerInstances[0]
}

func describe(t *testing.T, s *localcluster.Server, task string) ecs.Task {
	t.Helper()
	out := must[ecs.DescribeTasksResponse](t, s, ecs.OpDescribeTasks, ecs.DescribeTasksRequest{Tasks: []string{task}, Include: []string{"TAGS"}})
	if len(out.Tasks) != 1 {
		t.Fatalf("task %s: %+v", task, out.Failures)
	}
	return out.Tasks[0]
}

// web is a small task definition; change may be nil.
func web(t testing.TB, s *localcluster.Server, change func(*ecs.RegisterTaskDefinitionRequest)) *ecs.TaskDefinition {
	t.Helper()
	in := &ecs.RegisterTaskDefinitionRequest{Family: "web", ContainerDefinitions: []ecs.ContainerDefinition{{
		Name: "web", Image: "127.0.0.1/web:1", CPU: 256, Memory: 512, PortMappings: []ecs.PortMapping{{ContainerPort: 80, HostPort: 8080}},
	}}}
	if change != nil {
		change(in)
	}
	return must[ecs.RegisterTaskDefinitionResponse](t, s, ecs.OpRegisterTaskDefinition, in).TaskDefinition
}

func run(t testing.TB, s *localcluster.Server, in ecs.RunTaskRequest) *ecs.RunTaskResponse {
	t.Helper()
	if in.TaskDefinition == "" {
		in.TaskDefinition = "web"
	}
	return must[ecs.RunTaskResponse](t, s, ecs.OpRunTask, in)
}

// runOne runs one task that has to be placed.
func runOne(t testing.TB, s *localcluster.Server, in ecs.RunTaskRequest) string {
	t.Helper()
	out := run(t, s, in)
	if len(out.Tasks) != 1 {
		t.Fatalf("not placed: %+v", out.Failures)
	}
	return out.Tasks[0].TaskARN
}

func resource(i ecs.ContainerInstance, name string) string {
	for _, r := range i.RemainingResources {
		if r.Name == name {
			if r.Type == "INTEGER" {
				raw, _ := json.Marshal(r.IntegerValue)
				return string(raw)
			}
			return strings.Join(r.StringSetValue, ",")
		}
	}
	return "none"
}

func getJSON[Out any](t *testing.T, url string) Out {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	out, err := answer[Out](t, r)
	if err != nil {
		t.Fatal(err)
	}
	return *out
}

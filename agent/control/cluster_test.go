package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/control"
	"github.com/berthd/berth/agent/control/acs"
	"github.com/berthd/berth/agent/control/ecsapi"
	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/await"
)

// engine is all there is below control: tasks that start and stop by being told
// to, their reports, and their usage.
type engine struct {
	mu      sync.Mutex // guards the fields below
	tasks   map[string]task.Definition
	entries []task.Entry
	next    uint64
	number  int64
	changed chan struct{}
}

var (
	_ acs.Tasks      = (*engine)(nil)
	_ acs.Sequence   = (*engine)(nil)
	_ control.Outbox = (*engine)(nil)
	_ tcs.Metrics    = (*engine)(nil)
)

func newEngine() *engine {
	return &engine{tasks: make(map[string]task.Definition), number: -1, changed: make(chan struct{}, 1)}
}

// report puts a change into the outbox; the lock is held.
func (e *engine) report(arn string, status task.ReportStatus, reason string, containers ...task.ContainerChange) {
	e.next++
	e.entries = append(e.entries, task.Entry{ID: e.next, Change: task.Change{TaskARN: arn, Status: status, Reason: reason, Containers: containers}})
	e.signal()
}

func (e *engine) signal() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *engine) Accept(_ context.Context, d task.Definition) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.tasks[d.ARN]; known {
		return nil
	}
	e.tasks[d.ARN] = d
	var started []task.ContainerChange
	for _, c := range d.Containers {
		cc := task.ContainerChange{Name: c.Name, Status: task.ReportRunning, RuntimeID: "id-" + c.Name}
		for _, p := range c.Ports {
			cc.Bindings = append(cc.Bindings, task.Binding{BindIP: "0.0.0.0", Protocol: p.Protocol, ContainerPort: p.ContainerPort, HostPort: 40000})
		}
		started = append(started, cc)
	}
	e.report(d.ARN, task.ReportRunning, "", started...)
	return nil
}

func (e *engine) Stop(_ context.Context, arn string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, known := e.tasks[arn]
	if !known {
		return nil
	}
	delete(e.tasks, arn)
	code := 143
	var stopped []task.ContainerChange
	for _, c := range d.Containers {
		stopped = append(stopped, task.ContainerChange{Name: c.Name, Status: task.ReportStopped, ExitCode: &code})
	}
	e.report(arn, task.ReportStopped, "", stopped...)
	return nil
}

func (e *engine) Reject(_ context.Context, arn, reason string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report(arn, task.ReportStopped, reason)
	return nil
}

func (e *engine) Running() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var arns []string
	for arn := range e.tasks {
		arns = append(arns, arn)
	}
	return arns
}

func (e *engine) ManifestSequence() int64 { return -1 }

func (e *engine) SaveManifestSequence(n int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number = n
	return nil
}

func (e *engine) Heads() ([]task.Entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var heads []task.Entry
	for _, entry := range e.entries {
		if !slices.ContainsFunc(heads, func(h task.Entry) bool { return h.Change.TaskARN == entry.Change.TaskARN }) {
			heads = append(heads, entry)
		}
	}
	return heads, nil
}

func (e *engine) Done(id uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.entries = slices.DeleteFunc(e.entries, func(entry task.Entry) bool { return entry.ID == id })
	e.signal()
	return nil
}

func (e *engine) Changed() <-chan struct{} { return e.changed }

// Collect measures the same of each container.
func (e *engine) Collect() ([]tcs.Sample, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var samples []tcs.Sample
	for _, d := range e.tasks {
		for _, c := range d.Containers {
			s := tcs.Sample{Container: metrics.Container{ID: c.Name, Name: c.Name, TaskARN: d.ARN, Family: d.Family, Revision: d.Version}}
			s.Report.CPUPercent.Add(25)
			s.Report.MemoryMiB.Add(60)
			samples = append(samples, s)
		}
	}
	return samples, len(samples)
}

// fleet is a cluster with one host in it, everything signed.
type fleet struct {
	t       *testing.T
	service *localcluster.Server
	api     *ecsapi.Client
	engine  *engine
	id      control.Identity
	links   map[string]*control.Link
}

func join(t *testing.T) *fleet {
	t.Helper()
	// Quiet: the service is not under test.
	service, err := localcluster.New(localcluster.Config{
		AccessKey: "AKIDEXAMPLE", SecretKey: "hush", Region: "eu-west-1", NoDefaultCluster: true,
		Timing: localcluster.Timing{Heartbeat: 100 * time.Millisecond, Redeliver: 200 * time.Millisecond},
		Log:    zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		group.Wait()
	})
	group.Go(func() { _ = service.Run(ctx) })

	log := zaptest.NewLogger(t)
	signer := awsapi.NewSigner(awsapi.NewCredentials(awsapi.CredentialsConfig{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "hush"}), "eu-west-1", "ecs")
	f := &fleet{t: t, service: service, engine: newEngine(), links: make(map[string]*control.Link)}
	f.api = ecsapi.New(ecsapi.Config{Endpoint: service.URL(), Sign: signer.SignRequest, Version: "1.105.1", Hash: "0f1e2d3c"})
	t.Cleanup(f.api.Close)
	f.id, err = control.Join(ctx, control.JoinConfig{API: f.api, Log: log, Host: control.Host{
		CPUs: 4, MemoryMiB: 16000, Features: control.Features{LogDrivers: []string{"json-file"}},
	}}, control.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	endpoints := control.NewEndpoints(f.api, f.id)
	for _, name := range []string{"acs", "tcs"} {
		link := control.NewLink(name, board{})
		t.Cleanup(link.Close)
		f.links[name] = link
	}
	telemetry := tcs.New(tcs.Config{
		Cluster: f.id.Cluster, ContainerInstanceARN: f.id.ContainerInstanceARN, AgentVersion: "1.105.1", AgentHash: "0f1e2d3c",
		Service:   ws.Service{Endpoint: endpoints.TCS, Sign: signer.SignUpgrade, Connected: f.links["tcs"].Connected, Log: log},
		SignFrame: signer.SignFrame, Metrics: f.engine,
	})
	tasks := acs.New(acs.Config{
		Cluster: f.id.Cluster, ContainerInstanceARN: f.id.ContainerInstanceARN, AgentVersion: "1.105.1", AgentHash: "0f1e2d3c",
		Service: ws.Service{Endpoint: endpoints.ACS, Sign: signer.SignUpgrade, Connected: f.links["acs"].Connected, Log: log},
		Tasks:   f.engine, Sequence: f.engine, Credentials: credentials.New(),
		Heartbeat: telemetry.Heartbeat, Inactive: telemetry.Drop,
	})
	reporter := control.NewReporter(f.id.Cluster, f.engine, f.api, control.Addresses{}, log)
	group.Go(func() { _ = control.Run(ctx, tasks, telemetry, reporter) })
	await.That(f.t, "both sessions are up", func() bool {
		a, _, _ := f.links["acs"].Status()
		b, _, _ := f.links["tcs"].Status()
		return a && b
	})
	return f
}

// user calls the API as a user does.
func (f *fleet) user(operation string, in, out any) {
	f.t.Helper()
	if err := userCall(f.t, f.service.URL(), operation, in, out); err != nil {
		f.t.Fatalf("%s: %v", operation, err)
	}
}

// run registers a definition and starts tasks of it.
func (f *fleet) run(count int, change func(*ecs.ContainerDefinition)) []string {
	f.t.Helper()
	c := ecs.ContainerDefinition{Name: "web", Image: "nginx", Memory: 64, PortMappings: []ecs.PortMapping{{ContainerPort: 80, Protocol: "tcp"}}}
	if change != nil {
		change(&c)
	}
	f.user(ecs.OpRegisterTaskDefinition, ecs.RegisterTaskDefinitionRequest{Family: "web", ContainerDefinitions: []ecs.ContainerDefinition{c}}, nil)
	var arns []string
	await.That(f.t, "the tasks are placed", func() bool {
		missing := count - len(arns)
		var out ecs.RunTaskResponse
		f.user(ecs.OpRunTask, ecs.RunTaskRequest{TaskDefinition: "web", Count: &missing}, &out)
		for _, t := range out.Tasks {
			arns = append(arns, t.TaskARN)
		}
		// The host may be between two connections.
		for _, failure := range out.Failures {
			if failure.Reason != "AGENT" {
				f.t.Fatalf("task is not placed: %+v", failure)
			}
		}
		return len(arns) == count
	})
	return arns
}

// describe is what a user sees of a task.
func (f *fleet) describe(arn string) ecs.Task {
	f.t.Helper()
	var out ecs.DescribeTasksResponse
	f.user(ecs.OpDescribeTasks, ecs.DescribeTasksRequest{Tasks: []string{arn}}, &out)
	if len(out.Tasks) != 1 {
		f.t.Fatalf("task %s is not there: %+v", arn, out.Failures)
	}
	return out.Tasks[0]
}

func (f *fleet) becomes(arn, status string) ecs.Task {
	f.t.Helper()
	var last ecs.Task
	await.That(f.t, fmt.Sprintf("%s is %s", arn, status), func() bool {
		last = f.describe(arn)
		return last.LastStatus == status
	})
	return last
}

// TestLifeOfATask is the whole way, there and back, with every request, upgrade
// and frame signed and verified.
func TestLifeOfATask(t *testing.T) {
	f := join(t)
	if f.id.Cluster != "default" {
		t.Errorf("joined cluster %s", f.id.Cluster)
	}
	arn := f.run(1, nil)[0]
	up := f.becomes(arn, "RUNNING")
	if b := up.Containers[0].NetworkBindings; len(b) != 1 || b[0].HostPort != 40000 || up.Containers[0].RuntimeID != "id-web" {
		t.Errorf("running task is %+v", up.Containers[0])
	}
	f.user(ecs.OpStopTask, ecs.StopTaskRequest{Task: arn, Reason: "enough"}, nil)
	down := f.becomes(arn, "STOPPED")
	if c := down.Containers[0].ExitCode; c == nil || *c != 143 {
		t.Errorf("stopped task is %+v", down.Containers[0])
	}
	if received := f.service.Metrics().Received; received["PublishMetricsRequest"] == 0 {
		t.Errorf("telemetry that arrived: %v", received)
	}
}

// TestRejectedTask: a task that can be read and not be set up is reported in the
// words of the spec alone (spec/task-engine.md §1.7, §2.1).
func TestRejectedTask(t *testing.T) {
	f := join(t)
	arn := f.run(1, func(c *ecs.ContainerDefinition) {
		c.Links = []string{"nobody"}
	})[0]
	down := f.becomes(arn, "STOPPED")
	want := "could not find container for link nobody"
	if down.StoppedReason != want {
		t.Errorf("stopped because %q, want %q", down.StoppedReason, want)
	}
}

// TestTroubleOfTheService: dropped connections, refused reports, garbage and
// repeated payloads lose no task and invent none.
func TestTroubleOfTheService(t *testing.T) {
	f := join(t)
	refuse := 3
	f.service.Fault(localcluster.Faults{RefuseSubmits: &refuse, Once: localcluster.Once{Garbage: "]["}})
	arns := f.run(5, nil)
	f.service.Fault(localcluster.Faults{Once: localcluster.Once{DropACS: true, DropTCS: true}})
	arns = append(arns, f.run(5, nil)...)
	f.service.Fault(localcluster.Faults{Once: localcluster.Once{Redeliver: true, CloseACS: 1001}})
	for _, arn := range arns {
		f.becomes(arn, "RUNNING")
	}
	if got := len(f.engine.Running()); got != 10 {
		t.Errorf("%d tasks run", got)
	}
	f.engine.mu.Lock()
	made := f.engine.next
	f.engine.mu.Unlock()
	if made != 10 {
		t.Errorf("%d changes were reported", made)
	}
}

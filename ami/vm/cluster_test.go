package vm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/berthd/berth/agent/e2e/image"
	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/ami/vm"
)

func TestMain(m *testing.M) {
	code, done := isolate()
	if !done {
		code = m.Run()
	}
	os.Exit(code)
}

// isolated is set for a process that has a network of its own.
const isolated = "BERTH_TEST_ISOLATED"

// isolate runs this program again in a network namespace and a process namespace of its own, and answers its exit code; in there it
// answers that there is no need. So all that a test starts ends with it, and no traffic of it is seen.
func isolate() (code int, done bool) {
	if os.Getenv(isolated) != "" || os.Geteuid() != 0 {
		return 0, false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	// What stops the tests goes to both, and the inner one decides.
	signals := make(chan os.Signal, 1) // one is enough: all after it are dropped
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM)
	err := cmd.Start()
	if err == nil {
		go func() {
			for s := range signals {
				_ = cmd.Process.Signal(s) // It may have ended.
			}
		}()
		err = cmd.Wait()
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(e.ExitCode(), 1), true
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// patience is how long what must happen may take, on a machine that translates another one's code beside other tests.
const patience = 8 * time.Minute

// cluster is a local cluster outside the machine.
type cluster struct {
	t      *testing.T
	server *localcluster.Server
}

// newCluster serves a cluster on the gateway's address, with the image of the tasks in its registry. Task network interfaces are plugged
// into m once it is there.
func newCluster(t *testing.T, interfaces localcluster.InterfaceSource) *cluster {
	t.Helper()
	server, err := localcluster.New(localcluster.Config{
		Listen: vm.Gateway + ":4580", Region: region, Interfaces: interfaces, Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1) // one result, so that the server never waits
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel(errors.New("the test ends"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, server: server}
	if err := image.Push(vm.Gateway+":4580/box:1", v1.Config{Env: []string{"PATH=/bin"}}); err != nil {
		t.Fatal(err)
	}
	must[ecs.CreateClusterResponse](c, "CreateCluster", map[string]any{"clusterName": "fleet"})
	return c
}

// must makes a call of the ECS API, which has to go well.
func must[Out any](c *cluster, operation string, in any) *Out {
	c.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.server.URL(), bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s: %v %s", operation, resp.Status, err, raw)
	}
	out := new(Out)
	if err := ecs.Decode(raw, out); err != nil {
		c.t.Fatalf("%s: %v", raw, err)
	}
	return out
}

// until tries until there is no error.
func (c *cluster) until(try func() error) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			c.t.Fatalf("this did not come true in %s: %v", patience, err)
		}
	}
}

// awaitHost waits until a host is there for tasks, and answers it.
func (c *cluster) awaitHost() ecs.ContainerInstance {
	c.t.Helper()
	var host ecs.ContainerInstance
	c.until(func() error {
		arns := must[ecs.ListContainerInstancesResponse](c, "ListContainerInstances", map[string]any{"cluster": "fleet"}).ContainerInstanceARNs
		if len(arns) != 1 {
			return fmt.Errorf("there are %d container instances", len(arns))
		}
		hosts := must[ecs.DescribeContainerInstancesResponse](c, "DescribeContainerInstances", map[string]any{"cluster": "fleet", "containerInstances": arns})
		if host = hosts.ContainerInstances[0]; !host.AgentConnected || host.Status != ecs.StatusActive {
			return fmt.Errorf("the host is %s, its agent is connected: %t", host.Status, host.AgentConnected)
		}
		return nil
	})
	return host
}

// run registers a task definition and runs it once; it answers the task's ARN.
func (c *cluster) run(definition string) string {
	c.t.Helper()
	var in ecs.RegisterTaskDefinitionRequest
	if err := json.Unmarshal([]byte(definition), &in); err != nil {
		c.t.Fatal(err)
	}
	must[ecs.RegisterTaskDefinitionResponse](c, "RegisterTaskDefinition", json.RawMessage(definition))
	request := map[string]any{"cluster": "fleet", "taskDefinition": in.Family}
	if in.NetworkMode == "awsvpc" {
		request["networkConfiguration"] = map[string]any{"awsvpcConfiguration": map[string]any{"subnets": []string{"subnet-1"}}}
	}
	out := must[ecs.RunTaskResponse](c, "RunTask", request)
	if len(out.Tasks) != 1 {
		c.t.Fatalf("%s is not placed: %+v", in.Family, out.Failures)
	}
	return out.Tasks[0].TaskARN
}

// task describes a task.
func (c *cluster) task(arn string) ecs.Task {
	c.t.Helper()
	out := must[ecs.DescribeTasksResponse](c, "DescribeTasks", map[string]any{"cluster": "fleet", "tasks": []string{arn}})
	if len(out.Tasks) != 1 {
		c.t.Fatalf("%s: %+v", arn, out.Failures)
	}
	return out.Tasks[0]
}

// await waits until a task has a status.
func (c *cluster) await(arn, status string) ecs.Task {
	c.t.Helper()
	var task ecs.Task
	c.until(func() error {
		task = c.task(arn)
		if task.LastStatus == status {
			return nil
		}
		if task.LastStatus == ecs.StatusStopped {
			c.t.Fatalf("the task is %s, want %s: %s", task.LastStatus, status, told(&task))
		}
		return fmt.Errorf("the task is %s, want %s", task.LastStatus, status)
	})
	return task
}

func (c *cluster) stop(arn string) {
	c.t.Helper()
	must[ecs.StopTaskResponse](c, "StopTask", map[string]any{"cluster": "fleet", "task": arn})
	c.await(arn, ecs.StatusStopped)
}

// told is what ECS was told about the end of a task.
func told(task *ecs.Task) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", task.StopCode, task.StoppedReason)
	for i := range task.Containers {
		container := &task.Containers[i]
		code := "none"
		if container.ExitCode != nil {
			code = fmt.Sprint(*container.ExitCode)
		}
		fmt.Fprintf(&b, "; %s exit code %s %s", container.Name, code, container.Reason)
	}
	return b.String()
}

// get asks a web server in the machine.
func get(t *testing.T, address string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it takes too long"))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"time"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

const (
	cluster = "bench"
	family  = "bench"
)

// obedient is the command of every container: it does nothing, and ends at once
// when it is told to. It can do so once it has its sleeper: until then a signal
// finds no trap, and the kernel keeps it from the first process.
func obedient() []string { return []string{"/bin/sh", "-c", "trap 'exit 0' TERM; sleep 36000 & wait"} }

// plane is the local cluster, spoken to as a user would.
type plane struct {
	server *localcluster.Server
	image  string
	ended  chan error // Run's answer, one.
	// tasks is a file of the ids of all tasks, for who cleans up after us.
	tasks string
}

// startPlane starts a cluster in memory with the image and the task definition.
func startPlane(ctx context.Context, tasks string) (*plane, error) {
	server, err := localcluster.New(localcluster.Config{Region: "eu-west-1"})
	if err != nil {
		return nil, err
	}
	p := &plane{server: server, image: server.Addr() + "/box:1", ended: make(chan error, 1), tasks: tasks}
	go func() { p.ended <- server.Run(ctx) }()
	if err := pushBusybox(ctx, p.image); err != nil {
		return nil, fmt.Errorf("cannot push the image: %w", err)
	}
	if _, err := call[ecs.CreateClusterResponse](ctx, p, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: cluster}); err != nil {
		return nil, err
	}
	_, err = call[ecs.RegisterTaskDefinitionResponse](ctx, p, ecs.OpRegisterTaskDefinition, ecs.RegisterTaskDefinitionRequest{
		Family: family, ContainerDefinitions: []ecs.ContainerDefinition{{
			Name: "box", Image: p.image, Memory: 32, Command: obedient(), PortMappings: []ecs.PortMapping{{ContainerPort: 8080}},
		}},
	})
	return p, err
}

// call makes an ECS API call.
func call[Out any](ctx context.Context, p *plane, operation string, in any) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.server.URL(), bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Type", ecs.ContentType)
	req.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return out, err
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("%s: %s", operation, answer)
	}
	return out, json.Unmarshal(answer, &out)
}

// run runs tasks and answers with their ARNs.
func (p *plane) run(ctx context.Context, count int) ([]string, error) {
	var arns []string
	for count > 0 {
		n := min(count, 10) // The most that run-task takes.
		out, err := call[ecs.RunTaskResponse](ctx, p, ecs.OpRunTask, ecs.RunTaskRequest{Cluster: cluster, TaskDefinition: family, Count: &n})
		if err != nil {
			return nil, err
		}
		if len(out.Failures) > 0 {
			return nil, fmt.Errorf("cannot place a task: %s", out.Failures[0].Reason)
		}
		for i := range out.Tasks {
			arns = append(arns, out.Tasks[i].TaskARN)
		}
		count -= n
	}
	return arns, p.remember(arns)
}

// remember writes down which tasks there were.
func (p *plane) remember(arns []string) error {
	f, err := os.OpenFile(p.tasks, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, arn := range arns {
		_, werr := fmt.Fprintln(f, path.Base(arn))
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Close())
}

// stop asks for the end of tasks.
func (p *plane) stop(ctx context.Context, arns []string) error {
	for _, arn := range arns {
		if _, err := call[ecs.StopTaskResponse](ctx, p, ecs.OpStopTask, ecs.StopTaskRequest{Cluster: cluster, Task: arn}); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps payloads back, or lets them go in one.
func (p *plane) hold(on bool) { p.server.Fault(localcluster.Faults{HoldPayloads: &on}) }

// milestones waits until each of the tasks has one, and answers with theirs.
func (p *plane) milestones(ctx context.Context, arns []string, what string, of func(localcluster.Milestones) time.Time) ([]localcluster.Milestones, error) {
	var found []localcluster.Milestones
	err := await(ctx, fmt.Sprintf("%d tasks to be %s", len(arns), what), func() (bool, error) {
		all := p.server.Milestones()
		found = found[:0]
		for _, arn := range arns {
			m := all[arn]
			if what != stopped && !m.Stopped.IsZero() {
				return false, fmt.Errorf("task %s stopped by itself", arn)
			}
			if of(m).IsZero() {
				return false, nil
			}
			found = append(found, m)
		}
		return true, nil
	})
	return found, err
}

// The milestones that are waited for.
const (
	running = "running"
	stopped = "stopped"
)

func (p *plane) running(ctx context.Context, arns ...string) ([]localcluster.Milestones, error) {
	return p.milestones(ctx, arns, running, func(m localcluster.Milestones) time.Time { return m.Running })
}

func (p *plane) stopped(ctx context.Context, arns ...string) ([]localcluster.Milestones, error) {
	return p.milestones(ctx, arns, stopped, func(m localcluster.Milestones) time.Time { return m.Stopped })
}

// connected waits until so many agents have their ACS session.
func (p *plane) connected(ctx context.Context, agents int) error {
	return await(ctx, fmt.Sprintf("%d agents to be connected", agents), func() (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.server.URL()+"/_berth/health", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		var h localcluster.Health
		err = json.NewDecoder(resp.Body).Decode(&h)
		return h.Connected == agents, errors.Join(err, resp.Body.Close())
	})
}

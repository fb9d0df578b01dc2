package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
)

// keyless are resources that tasks named w… wait for until sent is closed, and
// which then cannot be had.
type keyless struct {
	nothing

	sent chan struct{}
}

func (p keyless) Provision(ctx context.Context, t Task) (map[string]Outfit, error) {
	if !strings.HasPrefix(t.ID(), "w") {
		return nil, nil
	}
	select {
	case <-p.sent:
		return nil, errors.New("ssm secret resource: unable to find  execution role credentials")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// stuck is a runtime that creates nothing while this agent lives.
type stuck struct{ container.Runtime }

func (stuck) Create(ctx context.Context, _ container.Spec) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestWaitingForKeysAfterARestart: containers that wait for what ECS has to send
// again keep no others from being created, wait for as long as it takes, and do not
// hold a stop up.
func TestWaitingForKeysAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		first, stop := w.start(t, func(c *Config) { c.Runtime = stuck{c.Runtime} })
		const many = 10 // more than are created at once
		for i := range many {
			begin(t, first, web(fmt.Sprintf("w%d", i), 0))
		}
		stop()

		sent := make(chan struct{})
		next, stop := w.start(t, func(c *Config) { c.Resources = keyless{sent: sent} })
		defer stop()
		fresh := web("fresh", 0)
		begin(t, next, fresh)
		if got := w.reports(fresh.ARN); len(got) == 0 || got[len(got)-1] != "RUNNING, web RUNNING" {
			t.Errorf("a task that waits for nothing: %v", got)
		}
		stopped, waiting := web("w0", 0).ARN, web("w1", 0).ARN
		time.Sleep(20 * time.Minute) // longer than the runtime may take
		for _, arn := range []string{stopped, waiting} {
			if got := w.reports(arn); len(got) > 0 && strings.HasPrefix(got[len(got)-1], "STOPPED") {
				t.Errorf("a task did not wait: %v", got)
			}
		}
		if err := next.Stop(t.Context(), stopped); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := w.reports(stopped); len(got) == 0 || got[len(got)-1] != "STOPPED, web STOPPED" {
			t.Errorf("a task that waits and is stopped: %v", got)
		}
		close(sent)
		time.Sleep(time.Second)
		want := `STOPPED "Ssm secret resource: unable to find execution role credentials", web STOPPED`
		if got := w.reports(waiting); len(got) == 0 || got[len(got)-1] != want {
			t.Errorf("a task whose resources cannot be had: %v, want %s", got, want)
		}
	})
}

// unplugged is a network that cannot be made.
type unplugged struct{ Network }

func (unplugged) Attach(context.Context, ipam.Endpoint) error { return errors.New("no bridge") }

// TestFirstRefusalEndsThePreparation: what fails first is the reason, and the task
// does not wait for the rest.
func TestFirstRefusalEndsThePreparation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		e, stop := w.start(t, func(c *Config) {
			c.Network, c.Resources = unplugged{c.Network}, keyless{sent: make(chan struct{})}
		})
		defer stop()
		synctest.Wait()
		d := web("w0", 0)
		begin(t, e, d)
		got := w.reports(d.ARN)
		if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], string(task.ReportStopped)) || !strings.Contains(got[len(got)-1], "ContainerNetworkingError: no bridge") {
			t.Errorf("reports: %v", got)
		}
	})
}

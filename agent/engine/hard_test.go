package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

func TestPortTwiceInOneTask(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 8080)
		other := d.Containers[0]
		other.Name = "other"
		d.Containers = append(d.Containers, other)
		begin(t, e, d)
		got := w.reports(d.ARN)
		if len(got) != 1 || !strings.HasPrefix(got[0], "STOPPED") || !strings.Contains(got[0], "HostConfigError") || !strings.Contains(got[0], "8080/tcp") {
			t.Errorf("a task that wants one port twice can never begin; reports: %v", got)
		}
	})
}

// TestPortsOfHostMode has ECS place a task on a port of the host whose owner is
// still stopping.
func TestPortsOfHostMode(t *testing.T) {
	live(t, func(container.Spec) fakert.Script { return fakert.Script{TermDelay: 10 * time.Second} }, nil, func(t *testing.T, w *world, e *Engine) {
		first, second := web("a1", 8080), web("a2", 8080)
		first.Network, second.Network = task.NetworkHost, task.NetworkHost
		begin(t, e, first)
		if err := e.Stop(t.Context(), first.ARN); err != nil {
			t.Fatal(err)
		}
		if err := e.Accept(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got := w.reports(second.ARN); got != nil {
			t.Errorf("the second task began while the first had the port: %v", got)
		}
		why, err := e.Why(t.Context(), "a2")
		if err != nil || len(why) == 0 || !strings.Contains(why[0], "8080/tcp") || !strings.Contains(why[0], "a1") {
			t.Errorf("why: %q, %v", why, err)
		}
		time.Sleep(10 * time.Second)
		if got := w.reports(second.ARN); len(got) == 0 || got[len(got)-1] != "RUNNING, web RUNNING" {
			t.Errorf("the second task after the first stopped: %v", got)
		}
	})
}

// TestRuntimeAwayWhileStarting restarts containerd while it makes a container:
// the task begins later, and does not fail.
func TestRuntimeAwayWhileStarting(t *testing.T) {
	live(t, func(container.Spec) fakert.Script { return fakert.Script{CreateDelay: time.Second} }, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		if err := e.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		w.runtime.Break()
		time.Sleep(20 * time.Second)
		w.runtime.Mend()
		time.Sleep(5 * time.Second)
		if got := w.reports(d.ARN); len(got) == 0 || got[len(got)-1] != "RUNNING, web RUNNING" {
			t.Errorf("reports: %v", got)
		}
	})
}

// TestRuntimeAwayWhileRestoring restarts containerd while the agent begins: it
// waits, takes its task over, and removes what belongs to none.
func TestRuntimeAwayWhileRestoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		e, stop := w.start(t, nil)
		d := web("a1", 0)
		begin(t, e, d)
		stop()
		if err := w.runtime.Create(t.Context(), container.Spec{ID: "stranger", Image: d.Containers[0].Image}); err != nil {
			t.Fatal(err)
		}
		w.runtime.Break()
		e, stop = w.start(t, nil)
		defer stop()
		time.Sleep(20 * time.Second)
		w.runtime.Mend()
		time.Sleep(5 * time.Second)
		if left, err := w.runtime.List(t.Context(), "stranger"); err != nil || len(left) > 0 {
			t.Errorf("the container of nobody: %v, %v, want it gone", left, err)
		}
		if err := e.Stop(t.Context(), d.ARN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := w.reports(d.ARN); len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "STOPPED") {
			t.Errorf("reports: %v", got)
		}
	})
}

// TestRuntimeAwayForLong gives up a task whose container cannot be started
// because containerd does not come back, and says so.
func TestRuntimeAwayForLong(t *testing.T) {
	live(t, func(container.Spec) fakert.Script { return fakert.Script{CreateDelay: time.Second} }, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		if err := e.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		w.runtime.Break()
		time.Sleep(4 * time.Minute)
		got := w.reports(d.ARN)
		if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "STOPPED") || !strings.Contains(got[len(got)-1], "fake runtime is away") {
			t.Errorf("reports: %v", got)
		}
	})
}

func TestExitThatNobodySaw(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		if err := e.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := time.Now()
		w.runtime.Exit(RuntimeID(d.ARN, "web"), container.Exit{})
		time.Sleep(10 * time.Second)
		changes := w.reported()
		last := changes[len(changes)-1]
		if last.Status != task.ReportStopped || last.ExecutionStoppedAt.Before(before) {
			t.Errorf("%s with the end at %v, which came after %v", last.Status, last.ExecutionStoppedAt, before)
		}
	})
}

// TestRecordOutlivesItsReport keeps a task until ECS knows that it stopped: ECS
// would send it again, and it would run twice.
func TestRecordOutlivesItsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(exits(0))
		w.unsent = true
		e, stop := w.start(t, nil)
		defer stop()
		d := web("a1", 0)
		for range 3 {
			if err := e.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
		}
		for id, n := range w.started() {
			if n != 1 {
				t.Errorf("container %s was started %d times", id, n)
			}
		}
		if left := w.remains(t.Context()); !slices.Equal(left, []string{"1 records"}) {
			t.Errorf("left on the host while ECS is away: %v", left)
		}
		w.mu.Lock()
		w.unsent = false
		w.mu.Unlock()
		time.Sleep(time.Minute)
		if left := w.remains(t.Context()); left != nil {
			t.Errorf("left on the host: %v", left)
		}
	})
}

// brokenNetwork cannot repair what it is to restore.
type brokenNetwork struct{ Network }

func (brokenNetwork) Sync(context.Context, ipam.Plan) error {
	return errors.New("cannot repair network of container x: address is not of the pool")
}

// TestNetworkThatCannotBeRestored adopts the tasks all the same: an agent that
// does not start helps nobody.
func TestNetworkThatCannotBeRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		e, stop := w.start(t, nil)
		begin(t, e, web("a1", 0))
		stop()
		e, stop = w.start(t, func(c *Config) { c.Network = brokenNetwork{c.Network} })
		defer stop()
		time.Sleep(time.Second)
		if got := e.Running(); len(got) != 1 {
			t.Errorf("running: %v", got)
		}
		if err := e.Accept(t.Context(), web("a2", 0)); err != nil {
			t.Errorf("the next task: %v", err)
		}
	})
}

// hungRuntime takes questions and does not answer.
type hungRuntime struct {
	container.Runtime
	hung *atomic.Bool
}

func (r hungRuntime) List(ctx context.Context, ids ...string) ([]container.Status, error) {
	if r.hung.Load() {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return r.Runtime.List(ctx, ids...)
}

// TestRuntimeHangs wants the reconcile loop to turn while containerd does not
// answer: the watchdog would end an agent that is well.
func TestRuntimeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		var hung atomic.Bool
		var failed atomic.Int32
		_, stop := w.start(t, func(c *Config) {
			c.Runtime = hungRuntime{c.Runtime, &hung}
			c.Reconciled = func(err error) {
				if errors.Is(err, container.ErrTimeout) {
					failed.Add(1)
				}
			}
		})
		defer stop()
		time.Sleep(10 * time.Second)
		hung.Store(true)
		time.Sleep(time.Minute)
		if n := failed.Load(); n < 3 {
			t.Errorf("heard %d times in a minute that the runtime does not answer", n)
		}
	})
}

// registryAway makes the image vanish from the host, and every question to the
// registry hang.
type registryAway struct {
	container.Runtime
	away *atomic.Bool
}

func (r registryAway) Pull(ctx context.Context, req container.PullRequest, p func(container.Progress)) (container.Image, error) {
	if r.away.Load() {
		<-ctx.Done()
		return container.Image{}, context.Cause(ctx)
	}
	return r.Runtime.Pull(ctx, req, p)
}

// TestStopNeedsNoRegistry stops a task whose image was removed while it ran,
// before and after a restart of the agent.
func TestStopNeedsNoRegistry(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(forever)
			var away atomic.Bool
			edit := func(c *Config) { c.Runtime = registryAway{c.Runtime, &away} }
			e, stop := w.start(t, edit)
			d := web("a1", 0)
			begin(t, e, d)
			away.Store(true)
			if restart {
				stop()
				e, stop = w.start(t, edit)
			}
			defer func() { stop() }()
			if err := e.Stop(t.Context(), d.ARN); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if got := w.reports(d.ARN); !strings.HasPrefix(got[len(got)-1], "STOPPED") {
				t.Errorf("restarted %v, reports: %v", restart, got)
			}
		})
	}
}

// deafRuntime answers, but its shims take no signals.
type deafRuntime struct{ container.Runtime }

func (deafRuntime) Signal(context.Context, string, syscall.Signal, bool) error {
	return container.Errorf(container.KindStop, "shim does not answer")
}

// TestStopWithoutSignals reports a task whose container cannot be signalled.
func TestStopWithoutSignals(t *testing.T) {
	live(t, forever, func(c *Config) { c.Runtime = deafRuntime{c.Runtime} }, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		begin(t, e, d)
		if err := e.Stop(t.Context(), d.ARN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		want := `STOPPED, web STOPPED "DockerTimeoutError: Could not transition to stopped; timed out after waiting 2m30s"`
		if got := w.reports(d.ARN); got[len(got)-1] != want {
			t.Errorf("reports: %v", got)
		}
		if left := w.remains(t.Context()); left != nil {
			t.Errorf("the container was not removed in the end: %v", left)
		}
	})
}

// closingLogs tells which logs were closed; the first agent's hang.
type closingLogs struct {
	Logs
	closed chan string
}

func (l closingLogs) Close(ctx context.Context, id string) error {
	if l.closed == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	l.closed <- id
	return nil
}

// TestLogsOfTheLastAgent ends the log of a container that stopped as the last
// agent was killed: whoever follows it waits for that.
func TestLogsOfTheLastAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(exits(0))
		e, stop := w.start(t, func(c *Config) { c.Logs, c.CleanupWait = closingLogs{c.Logs, nil}, time.Hour })
		d := web("a1", 0)
		if err := e.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + time.Second)
		stop()
		closed := make(chan string, 10) // More than are closed.
		_, stop = w.start(t, func(c *Config) { c.Logs, c.CleanupWait = closingLogs{c.Logs, closed}, time.Hour })
		defer stop()
		time.Sleep(time.Second)
		if len(closed) != 1 || <-closed != RuntimeID(d.ARN, "web") {
			t.Error("the log was not closed")
		}
	})
}

// damagedNetwork asks for the plan each time.
type damagedNetwork struct {
	Network
	plan *atomic.Pointer[ipam.Plan]
}

func (n damagedNetwork) Mend(_ context.Context, plan func() ipam.Plan) error {
	p := plan()
	n.plan.Store(&p)
	return nil
}

// TestPlanToMend repairs the network of the tasks that run, and of no other: an
// ended one's ports may be somebody else's by then.
func TestPlanToMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		var plan atomic.Pointer[ipam.Plan]
		e, stop := w.start(t, func(c *Config) { c.Network = damagedNetwork{c.Network, &plan} })
		defer stop()
		for _, id := range []string{"a1", "a2"} {
			if err := e.Accept(t.Context(), web(id, 0)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if err := e.StopTask(t.Context(), "a1", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := *plan.Load(); len(got) != 1 || got[0].ID != RuntimeID(web("a2", 0).ARN, "web") || len(got[0].Ports) != 1 {
			t.Errorf("plan: %v", got)
		}
	})
}

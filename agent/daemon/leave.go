package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

const (
	// lastWords is how long ECS is then waited for to take the reports. What it has
	// not taken is told it after the boot.
	lastWords = 5 * time.Second
	// patience is how long systemd may take to answer; it has much to do just then.
	patience = 15 * time.Second
	// mercy is how long before the end of the time for all tasks what still runs of
	// them is killed: ECS is to hear of it from this agent.
	mercy = 5 * time.Second
	// stopExtension is how much longer systemd is to wait each time it is told.
	stopExtension = 30 * time.Second
	// shutdownReason is what ECS is told about tasks that end with their host.
	shutdownReason = "Host is shutting down"
)

// errLate is why the agent of a host that goes down waits no longer.
var errLate = errors.New("the host cannot wait any longer")

// leave is what the agent does before it stops. Its tasks run on, unless the
// whole host goes down: then they are stopped in good order and their end is
// reported, while containerd, the network and the log process are still there.
// Left to themselves they would lose what they last wrote, hold up the shutdown
// until they are killed, and count as running until the next boot.
func (a *agent) leave(ctx context.Context) {
	asking, cancel := context.WithTimeoutCause(ctx, patience, errLate)
	down, err := systemd.GoingDown(asking)
	cancel()
	if err != nil {
		a.log.Warn("cannot tell whether the host is shutting down; its tasks run on", zap.Error(err))
	}
	if !down {
		tell(a.log, systemd.Stopping("the tasks run on"))
		return
	}
	tell(a.log, systemd.Stopping("the host is shutting down: stopping its tasks"))
	a.goodbye.say(ctx)
}

// goodbye is the end of the tasks of a host that goes down. It is said when the
// shutdown is announced, where logind does that, and when the agent is stopped
// for it: what came in between is stopped too, and the time for all is one.
type goodbye struct {
	agent *agent

	mu sync.Mutex // held while it is said; guards the field below
	// ends is when the host waits no longer; zero while it does not go down.
	ends time.Time
}

// say stops all tasks and waits for their ends, and for ECS to know of them.
func (g *goodbye) say(ctx context.Context) {
	a := g.agent
	// Who comes while it is said waits, which the other one tells systemd, and finds little to do.
	g.mu.Lock()
	defer g.mu.Unlock()
	again := !g.ends.IsZero()
	if !again {
		g.ends = time.Now().Add(a.options.Config.Task.ShutdownTimeout)
	}
	f := farewell{
		within: time.Until(g.ends),
		tasks:  a.engine.Tasks, stop: a.engine.StopTask, unsent: a.host.store.Pending,
		wait: func() { tell(a.log, systemd.ExtendTimeout(stopExtension)) }, kill: a.killAll,
	}
	left, err := f.stopAll(ctx)
	if again && left == 0 && err == nil {
		return // ECS had its time to hear of it.
	}
	a.log.Info("the host is shutting down; stopping its tasks", zap.Int("tasks", left), zap.Duration("within", f.within.Round(time.Second)))
	switch err := f.say(ctx); {
	case err == nil:
		a.log.Info("all tasks have stopped", zap.Int("unsent", a.host.store.Pending()))
	case ctx.Err() != nil:
		a.log.Info("the agent stops; the next one goes on with the tasks", zap.Error(err))
	default:
		a.log.Error("not all tasks could be stopped before the host goes down", zap.Error(err))
	}
}

// unsaid is for a host that does not go down after all.
func (g *goodbye) unsaid() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ends = time.Time{}
}

// farewell stops every task of a host that goes down.
type farewell struct {
	// within is how long it may take (BERTH_SHUTDOWN_TIMEOUT). The tasks' own stop
	// timeouts count within it; the power is not left on for ever.
	within time.Duration
	tasks  func() []engine.Task
	stop   func(ctx context.Context, id, reason string) error
	unsent func() int
	// wait is called while there is something to wait for.
	wait func()
	// kill ends whatever runs, once there is hardly any time left.
	kill func(ctx context.Context)
}

// say returns when all tasks have stopped, those too that are still accepted
// meanwhile, and when ECS knows it or has had time to.
func (f farewell) say(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.within, errLate)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	begun, killed := time.Now(), false
	var told time.Time // when the last task had stopped
	for {
		left, err := f.stopAll(ctx)
		if err != nil {
			return err
		}
		switch {
		case left > 0:
			told = time.Time{}
		case f.unsent() == 0 || !told.IsZero() && time.Since(told) > lastWords:
			return nil
		case told.IsZero():
			told = time.Now()
		}
		if left > 0 && !killed && time.Since(begun) >= f.within-min(mercy, f.within/2) {
			killed = true
			f.kill(ctx)
		}
		f.wait()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d tasks still run: %w", left, context.Cause(ctx))
		}
	}
}

// killAll kills what runs of the tasks, in no order: there was time for one.
func (a *agent) killAll(ctx context.Context) {
	all, err := a.host.runtime.List(ctx)
	for i := range all {
		if all[i].Phase != container.Running {
			continue
		}
		a.log.Warn("a container did not end in time and is killed", zap.String("container", all[i].ID))
		if e := a.host.runtime.Signal(ctx, all[i].ID, syscall.SIGKILL, true); e != nil && !errors.Is(e, container.ErrNotRunning) && !errors.Is(e, container.ErrNotFound) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		a.log.Error("cannot kill what did not end in time", zap.Error(err))
	}
}

// stopAll asks the tasks to stop that nobody has asked yet, and counts those
// that have not stopped.
func (f farewell) stopAll(ctx context.Context) (left int, err error) {
	for _, t := range f.tasks() {
		if t.Forgotten || !t.State.StoppedAt.IsZero() {
			continue
		}
		left++
		if t.Desired == task.ReportStopped {
			continue
		}
		if err := f.stop(ctx, t.ID(), shutdownReason); err != nil && !errors.Is(err, engine.ErrUnknownTask) {
			return left, err
		}
	}
	return left, nil
}

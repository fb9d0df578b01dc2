package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
)

const (
	// lastWords is how long ECS is then waited for to take the reports. What it has
	// not taken is told it after the boot.
	lastWords = 5 * time.Second
	// patience is how long systemd may take to answer; it has much to do just then.
	patience = 15 * time.Second
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
	a.log.Info("the host is shutting down; stopping its tasks")
	f := farewell{
		within: a.options.Config.Task.ShutdownTimeout,
		tasks:  a.engine.Tasks, stop: a.engine.StopTask, unsent: a.host.store.Pending,
		wait: func() { tell(a.log, systemd.ExtendTimeout(30*time.Second)) },
	}
	switch err := f.say(ctx); {
	case err != nil:
		a.log.Error("not all tasks could be stopped before the host goes down", zap.Error(err))
	default:
		a.log.Info("all tasks have stopped", zap.Int("unsent", a.host.store.Pending()))
	}
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
}

// say returns when all tasks have stopped, those too that are still accepted
// meanwhile, and when ECS knows it or has had time to.
func (f farewell) say(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.within, errLate)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
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
		f.wait()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d tasks still run: %w", left, context.Cause(ctx))
		}
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

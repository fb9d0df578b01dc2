package engine

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// retryPause is the pause before a failed signal, release or removal is tried
// again.
const retryPause = time.Second

// signalPatience bounds the runtime's answer to a signal.
const signalPatience = 30 * time.Second

// imagePatience bounds the question which stop signal an image has.
const imagePatience = 2 * time.Second

// reportPause is the pause before it is looked again whether ECS has taken a
// task's reports.
const reportPause = 30 * time.Second

// logsPatience bounds the wait until a container's last lines are written.
const logsPatience = 10 * time.Second

// signal sends the stop signal, or SIGKILL to every process.
func (r *runner) signal(ctx context.Context, name string, kill bool, image container.Image) {
	t := r.view.Load()
	number := syscall.SIGKILL
	if !kill {
		r.feedRouter(ctx, name)
		number = r.stopSignal(ctx, name, image)
	}
	id := t.ContainerID(name)
	away := false
	err := persevere(ctx, func() error {
		err := r.engine.signal(ctx, id, number, kill)
		if errors.Is(err, container.ErrUnavailable) && !away {
			away = true
			r.log.Warn("cannot signal container; trying until the runtime is back", zap.String("container", name), zap.Error(err))
		}
		return err
	})
	switch {
	case err == nil:
		r.tell(task.Signalled{Container: name, Kill: kill, At: time.Now()})
	case ctx.Err() != nil:
		// The agent ends; the next one signals again.
	case errors.Is(err, container.ErrNotRunning), errors.Is(err, container.ErrNotFound):
		r.engine.look(ctx, id)
		r.tell(task.Signalled{Container: name, Kill: kill, At: time.Now()})
	default:
		tried := time.Now()
		level := zap.DebugLevel
		if c := t.container(name); (kill && c.Stopping.KilledAt.IsZero()) || c.Stopping.SignalledAt.IsZero() {
			level = zap.WarnLevel // Once for each signal; it is tried every second.
		}
		r.log.Log(level, "cannot signal container; trying again", zap.String("container", name), zap.Bool("kill", kill), zap.Error(err))
		if backoff.Wait(ctx, retryPause) {
			r.tell(task.SignalFailed{Container: name, Kill: kill, At: tried})
		}
	}
}

// signal asks the runtime, and not for ever: a shim may hang.
func (e *Engine) signal(ctx context.Context, id string, number syscall.Signal, all bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, signalPatience, timeoutError("signalled", signalPatience))
	defer cancel()
	return e.runtime.Signal(ctx, id, number, all)
}

// stopSignal is the task definition's, else the image's, else SIGTERM. An agent
// that was restarted since the pull asks for the image again; one that is not on
// the host any more must not hold up the stop.
func (r *runner) stopSignal(ctx context.Context, name string, image container.Image) syscall.Signal {
	c := r.definition(name)
	if n, ok := parseSignal(c.Spec.Process.StopSignal); ok {
		return n
	}
	if image.Ref == "" {
		ctx, cancel := context.WithTimeoutCause(ctx, imagePatience, container.ErrTimeout)
		defer cancel()
		var err error
		image, err = r.engine.runtime.Pull(ctx, container.PullRequest{Ref: c.Image, Policy: container.PullPreferCached}, nil)
		if err != nil && r.engine.ctx().Err() == nil {
			r.log.Warn("cannot ask for the image's stop signal; SIGTERM is sent", zap.String("container", name), zap.Error(err))
		}
	}
	if n, ok := parseSignal(image.StopSignal); ok {
		return n
	}
	return syscall.SIGTERM
}

// parseSignal reads "SIGQUIT", "QUIT", "3" or "RTMIN+3".
func parseSignal(s string) (syscall.Signal, bool) {
	s = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "SIG")
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n), true
	}
	if offset, ok := strings.CutPrefix(s, "RTMIN+"); ok {
		if n, err := strconv.Atoi(offset); err == nil && n >= 0 && n <= 30 {
			return syscall.Signal(34 + n), true
		}
	}
	n, ok := signalNumbers()[s]
	return n, ok
}

// signalNumbers are the signals an image may name.
func signalNumbers() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "ABRT": syscall.SIGABRT,
		"KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "ALRM": syscall.SIGALRM,
		"TERM": syscall.SIGTERM, "CONT": syscall.SIGCONT, "STOP": syscall.SIGSTOP, "TSTP": syscall.SIGTSTP,
		"WINCH": syscall.SIGWINCH, "PWR": syscall.SIGPWR, "POLL": syscall.SIGPOLL, "IO": syscall.SIGIO,
		"RTMIN": syscall.Signal(34), "RTMAX": syscall.Signal(64),
	}
}

// closeLogs ends a stopped container's streams once its last lines are written.
func (r *runner) closeLogs(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeoutCause(ctx, logsPatience, errors.New("the log process did not finish in time"))
	defer cancel()
	t := r.view.Load()
	if err := r.engine.config.Logs.Close(ctx, t.ContainerID(name)); err != nil && r.engine.ctx().Err() == nil {
		r.log.Warn("cannot close the container's log", zap.String("container", name), zap.Error(err))
	}
}

// closeEnded ends the streams of containers that had stopped when the last agent
// was killed: it may not have come to it, and whoever follows a log waits for its
// end.
func (r *runner) closeEnded() {
	t := r.view.Load()
	for i := range t.State.Containers {
		if c := &t.State.Containers[i]; c.Sent == task.ReportStopped && !t.State.Removed {
			r.background(func(ctx context.Context) { r.closeLogs(ctx, c.Name) })
		}
	}
}

// release gives back the network, ports, addresses and accounting of a stopped
// task, and tries until it can.
func (r *runner) release(ctx context.Context, endpoints map[string]ipam.Endpoint) {
	e := r.engine
	d := &r.view.Load().State.Definition
	r.unhold(ctx, d)
	for _, endpoint := range endpoints {
		r.insist(ctx, "cannot take the container's network away", func() error { return e.config.Network.Detach(ctx, endpoint) })
	}
	r.insist(ctx, "cannot release the task's resources", func() error { return e.config.Resources.Release(ctx, d) })
	if ctx.Err() != nil {
		return
	}
	e.unlease(d)
	e.admission.release(r.id)
	r.tell(task.Released{})
}

// remove deletes everything of a task from the host, and tries until it can.
func (r *runner) remove(ctx context.Context) {
	e := r.engine
	t := r.view.Load()
	for i := range t.State.Containers {
		id := t.ContainerID(t.State.Containers[i].Name)
		r.insist(ctx, "cannot remove container", func() error { return e.runtime.Remove(ctx, id) })
		r.insist(ctx, "cannot remove the container's log", func() error { return e.config.Logs.Remove(ctx, id) })
		r.insist(ctx, "cannot remove the container's files", func() error { return e.config.Network.RemoveFiles(ctx, id) })
	}
	if d := &t.State.Definition; d.Network == task.NetworkAWSVPC {
		r.insist(ctx, "cannot remove the task's files", func() error { return e.config.Network.RemoveFiles(ctx, EndpointID(d, taskEndpoint)) })
	}
	r.insist(ctx, "cannot remove the task's resources", func() error { return e.config.Resources.Remove(ctx, &t.State.Definition) })
	r.removeAgents(ctx, &t.State.Definition)
	r.insist(ctx, "cannot remove the task's cgroup", func() error { return e.config.Cgroups.Remove(ctx, r.id) })
	// The record stays until ECS knows how the task ended: until then ECS may send
	// the task again, and it would run twice (spec/task-engine.md §8.2).
	for ctx.Err() == nil && e.store.Waiting(r.id) {
		backoff.Wait(ctx, reportPause)
	}
	if ctx.Err() == nil {
		r.tell(task.Removed{})
	}
}

// insist tries until f succeeds or ctx ends; the first failure is logged.
func (r *runner) insist(ctx context.Context, message string, f func() error) {
	for first := true; ctx.Err() == nil; first = false {
		err := f()
		if err == nil || ctx.Err() != nil {
			return
		}
		if first {
			r.log.Warn(message, zap.Error(err))
		}
		backoff.Wait(ctx, retryPause)
	}
}

// exitText is a container's end for people.
func exitText(c *task.ContainerState) string {
	if c.Phase != task.PhaseStopped || c.Exit == nil || !c.Exit.Known {
		return ""
	}
	return "exit code " + strconv.Itoa(c.Exit.Code)
}

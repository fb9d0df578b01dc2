package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/ctrd"
)

const (
	// followPause is how often the task is looked at if nothing hints that it has changed.
	followPause = 500 * time.Millisecond
	// quietLogs is how long the logs of a task that has stopped may be silent before they are given up; they end by themselves as
	// soon as everything is read.
	quietLogs = 15 * time.Second
	// onePress is how long signals count as the same: whoever runs programs for others (timeout, make) passes a Ctrl-C on that the
	// terminal has sent already.
	onePress = 500 * time.Millisecond
)

var (
	errTaskOver = errors.New("the task has stopped")
	errNeverRan = errors.New("the task never ran")
)

// runFollower follows one task to its end. Its goroutine alone touches what is not said to be shared.
type runFollower struct {
	target *runTarget
	task   string // id
	out    *runPrinter

	following map[string]bool   // containers whose logs are followed, by their id
	told      map[string]string // what was last said of a container, by name
	published bool              // the ports were said
	seen      bool              // the agent knows the task
	logs      sync.WaitGroup    // readers of logs
	lastLine  atomic.Int64      // when a line came, Unix nanoseconds; shared
	view      hostapi.TaskView  // as it was seen last
	asked     time.Time         // when the stop was asked for
	again     chan os.Signal    // a second Ctrl-C
}

func newRunFollower(t *runTarget, task string, out *runPrinter) *runFollower {
	return &runFollower{target: t, task: task, out: out, following: map[string]bool{}, told: map[string]string{}, again: make(chan os.Signal, 1)}
}

// follow prints what happens to the task until it has stopped and all its output is printed. When ctx ends the task is stopped, and
// followed to its end nevertheless.
func (f *runFollower) follow(ctx context.Context) (hostapi.TaskView, error) {
	outer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(errTaskOver)
	defer signal.Stop(f.again)
	hints := make(chan struct{}, 1) // One is enough to look.
	beside.Go(func() { f.hints(outer, hints) })
	beside.Go(func() { f.pulls(outer) })
	deadline := time.NewTimer(joinPatience)
	defer deadline.Stop()
	ticker := time.NewTicker(followPause)
	defer ticker.Stop()
	interrupted := ctx.Done()
	for {
		over, err := f.look(outer)
		if err != nil {
			return f.view, err
		}
		if over {
			return f.view, f.lastLines(outer)
		}
		select {
		case <-hints:
		case <-ticker.C:
		case <-deadline.C:
			if !f.seen {
				return f.view, fmt.Errorf("the agent has not heard of task %s", f.task)
			}
		case <-interrupted:
			interrupted = nil // once
			if err := f.stop(ctx, outer); err != nil {
				return f.view, err
			}
		case <-f.again:
			if time.Since(f.asked) > onePress {
				f.kill(outer)
			}
		case err := <-f.target.failed:
			return f.view, err
		}
	}
}

// hints says when something happened to the task.
func (f *runFollower) hints(ctx context.Context, hints chan<- struct{}) {
	// An agent that goes away is noticed by look.
	_ = f.target.client.Events(ctx, true, func(e hostapi.Event) error {
		if e.Task == f.task {
			select {
			case hints <- struct{}{}:
			default:
			}
		}
		return nil
	})
}

// pulls shows the pulls under way. There are others' among them.
func (f *runFollower) pulls(ctx context.Context) {
	_ = f.target.client.Pulls(ctx, true, func(pulls []hostapi.PullView) error {
		f.out.pulls(pulls)
		return nil
	})
}

// look asks for the task, and says what is new about it and whether it is over.
func (f *runFollower) look(ctx context.Context) (over bool, err error) {
	view, err := f.target.client.Task(ctx, f.task)
	if errors.Is(err, hostapi.ErrNotFound) && !f.seen {
		return false, f.declined(ctx) // Mostly it is on its way.
	}
	if err != nil {
		return false, err
	}
	f.seen, f.view = true, view
	for i := range view.Containers {
		c := &view.Containers[i]
		f.out.wants(c.Image)
		if status := c.Status; f.told[c.Name] != status {
			f.told[c.Name] = status
			f.out.container(c)
		}
		if c.ID != "" && !f.following[c.ID] {
			f.following[c.ID] = true
			f.logs.Go(func() { f.log(ctx, c) })
		}
	}
	if view.KnownStatus == "RUNNING" && !f.published {
		f.published = true
		f.out.ports(&view)
	}
	return view.KnownStatus == "STOPPED", nil
}

// declined says why the agent will never know the task: it could not be read, and only the cluster was told why.
func (f *runFollower) declined(ctx context.Context) error {
	answer, err := ecsCall[ecs.DescribeTasksResponse](ctx, f.target.api, ecs.OpDescribeTasks,
		&ecs.DescribeTasksRequest{Cluster: f.cluster(ctx), Tasks: []string{f.task}})
	if err != nil {
		return err
	}
	if len(answer.Tasks) == 1 && answer.Tasks[0].LastStatus == ecs.StatusStopped {
		return fmt.Errorf("%w: %s", errNeverRan, answer.Tasks[0].StoppedReason)
	}
	return nil
}

// log prints the output of a container until it ends.
func (f *runFollower) log(ctx context.Context, c *hostapi.ContainerView) {
	err := f.target.client.Logs(ctx, hostapi.LogRequest{Container: c.ID, Follow: true, Tail: -1}, func(l hostapi.LogLine) error {
		f.lastLine.Store(time.Now().UnixNano())
		return f.out.log(c.Name, l)
	})
	if err != nil && !errors.Is(err, hostapi.ErrConflict) && !errors.Is(err, hostapi.ErrNotFound) && !errors.Is(err, errCannotPrint) {
		f.out.note("the output of container " + c.Name + " is not complete: " + err.Error())
	}
}

// lastLines waits until all output is printed.
func (f *runFollower) lastLines(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		f.logs.Wait()
		close(done)
	}()
	f.lastLine.Store(time.Now().UnixNano())
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ticker.C:
			if time.Since(time.Unix(0, f.lastLine.Load())) > quietLogs {
				f.out.note("the output may not be complete: it has not ended")
				return nil
			}
		case <-f.again:
			if time.Since(f.asked) > onePress {
				return nil // somebody has lost patience
			}
		case err := <-f.target.failed:
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// stop asks the cluster to stop the task because of the end of why; a further signal is for kill from now on.
func (f *runFollower) stop(why, ctx context.Context) error {
	f.asked = time.Now()
	signal.Notify(f.again, unix.SIGINT, unix.SIGTERM)
	reason := "stopped by berth run"
	if errors.Is(context.Cause(why), errCannotPrint) {
		reason = "nobody reads the output of berth run"
	}
	f.out.note("stopping the task; once more kills it")
	_, err := ecsCall[ecs.StopTaskResponse](ctx, f.target.api, ecs.OpStopTask,
		&ecs.StopTaskRequest{Cluster: f.cluster(ctx), Task: f.task, Reason: reason})
	return err
}

// cluster is the name of the agent's cluster; an empty one is the default.
func (f *runFollower) cluster(ctx context.Context) string {
	status, err := f.target.client.Status(ctx)
	if err != nil {
		return ""
	}
	return status.Cluster
}

// kill ends the task's containers at once.
func (f *runFollower) kill(ctx context.Context) {
	if err := f.killAll(ctx); err != nil {
		f.out.note("cannot kill the task: " + err.Error())
	}
}

func (f *runFollower) killAll(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "berth-kill-")
	if err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rt, err := ctrd.New(ctrd.Config{
		Address: f.target.containerd.Address, Namespace: f.target.containerd.Namespace, StateDir: filepath.Join(dir, "state"), Log: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	var errs []error
	for i := range f.view.Containers {
		if c := &f.view.Containers[i]; c.ID != "" && c.FinishedAt == nil {
			errs = append(errs, rt.Signal(ctx, c.ID, unix.SIGKILL, true))
		}
	}
	return errors.Join(errs...)
}

// taskExit is the exit code of a task that has stopped: that of the essential container that ended first. One that could not be
// started comes before all others, as it is why they ended. The error says what the code does not.
func taskExit(t *hostapi.TaskView) (int, error) {
	essential := slices.Clone(t.Containers)
	essential = slices.DeleteFunc(essential, func(c hostapi.ContainerView) bool { return !c.Essential })
	slices.SortStableFunc(essential, func(a, b hostapi.ContainerView) int {
		switch {
		case a.FinishedAt == nil && b.FinishedAt == nil:
			return 0
		case a.FinishedAt == nil:
			return 1
		case b.FinishedAt == nil:
			return -1
		}
		return a.FinishedAt.Compare(*b.FinishedAt)
	})
	for _, c := range essential {
		if c.ExitCode == nil && c.Reason != "" {
			return ExitFailure, fmt.Errorf("container %s: %s", c.Name, c.Reason)
		}
	}
	for _, c := range essential {
		switch {
		case c.ExitCode == nil:
		case c.Reason != "":
			return *c.ExitCode, fmt.Errorf("container %s: %s", c.Name, c.Reason)
		default:
			return *c.ExitCode, nil
		}
	}
	if t.Reason == "" {
		return ExitFailure, errNeverRan
	}
	return ExitFailure, fmt.Errorf("%w: %s", errNeverRan, t.Reason)
}

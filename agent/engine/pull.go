package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// startPull begins a pull that CancelPull can end.
func (r *runner) startPull(_ context.Context, name string) {
	ctx, cancel := context.WithCancelCause(r.engine.ctx())
	r.pulls[name] = cancel
	c, preparing := r.definition(name), r.preparing
	r.engine.work.Go(func() {
		defer cancel(nil)
		r.pull(ctx, c, preparing)
	})
}

// pull makes the image present and tells what came of it. preparing is closed when
// the task is prepared, or cannot be; nil if it was by an earlier agent.
func (r *runner) pull(ctx context.Context, c *task.Container, preparing <-chan struct{}) {
	e := r.engine
	began := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, e.config.PullTotal, container.ErrTimeout)
	defer cancel()
	image, err := e.pullWithFallback(limited, r, c, began)
	e.observer.Pulling(r.id, c.Name, container.Progress{Ref: c.Image, Stage: "done"})
	if container.KindOf(err, "") == container.KindPullAuth && preparing != nil {
		// A login that cannot be had is first of all the task's reason, and not the
		// container's (spec/task-engine.md §2.4): let that be told before.
		select {
		case <-preparing:
		case <-ctx.Done():
		}
	}
	switch {
	case err == nil:
		facts := []task.Fact{}
		asked := image.FromRegistry
		if asked {
			facts = append(facts, task.PullBegan{Container: c.Name, At: began})
		}
		facts = append(facts,
			task.Resolved{Container: c.Name, Digest: image.Digest, ByAgent: image.Known && !pinned(c)},
			task.Pulled{
				Container: c.Name, Digest: image.Digest, ImageID: image.ConfigDigest, Asked: asked, At: time.Now(),
				Healthcheck: image.Healthcheck, Shell: image.Shell,
			})
		r.keepImage(c.Name, image)
		r.tell(facts...)
	case errors.Is(context.Cause(ctx), errTaskStopped):
		r.tell(task.PullFailed{Container: c.Name, Cancelled: true, At: time.Now()})
	case ctx.Err() != nil:
		// The agent ends; the next one pulls again.
	default:
		r.log.Warn("cannot pull image", zap.String("container", c.Name), zap.String("image", c.Image), zap.Error(err))
		r.tell(task.PullBegan{Container: c.Name, At: began}, e.pullFailed(c, err))
	}
}

// pullFailed is what a failed pull means by the host's policy
// (spec/task-engine.md §7.1). Where images are pulled up front, the task's own
// reason says which essential container cannot be had.
func (e *Engine) pullFailed(c *task.Container, err error) task.PullFailed {
	f := task.PullFailed{Container: c.Name, At: time.Now(), Failure: e.pullFailure(err)}
	always := e.config.PullPolicy == container.PullAlways
	f.StopTask = always || e.config.PullPolicy == container.PullOnce
	if e.config.Machine.PullUpfront && c.Essential && !always {
		f.StopTask, f.Reason = true, f.Failure.String()
	}
	return f
}

// pinned says whether the task definition itself names the image's digest.
func pinned(c *task.Container) bool { return strings.Contains(c.Image, "@") }

// pullWithFallback pulls by the host's policy. With the default policy an image
// that is on the host already serves when the registry does not
// (spec/task-engine.md §7.1); that is never silent.
func (e *Engine) pullWithFallback(ctx context.Context, r *runner, c *task.Container, began time.Time) (container.Image, error) {
	told := false
	progress := func(p container.Progress) {
		if p.Digest != "" && p.Stage != "done" && !told { // an image that is here is done at once
			told = true
			r.tell(task.PullBegan{Container: c.Name, At: began},
				task.Resolved{Container: c.Name, Digest: p.Digest, ByAgent: !pinned(c)})
		}
		e.observer.Pulling(r.id, c.Name, p)
	}
	req := e.pullRequest(r.view.Load(), c)
	var image container.Image
	patient, cancel := context.WithTimeoutCause(ctx, e.config.CreateTimeout, container.ErrTimeout)
	defer cancel()
	err := persevere(patient, func() (err error) {
		image, err = e.runtime.Pull(ctx, req, progress)
		return err
	})
	if err == nil || ctx.Err() != nil || e.config.PullPolicy != container.PullDefault {
		return image, err
	}
	req.Policy, req.Digest = container.PullNever, ""
	cached, cachedErr := e.runtime.Pull(ctx, req, nil)
	if cachedErr != nil {
		return image, err
	}
	r.log.Warn("the registry could not be used; the image on the host is", zap.String("container", c.Name), zap.String("image", c.Image), zap.Error(err))
	e.observer.Event(Event{Time: time.Now(), Task: r.id, Container: c.Name, What: "cached image used", Detail: err.Error()})
	return cached, nil
}

// pullRequest asks for a container's image by the host's policy. A digest that an
// earlier agent has told ECS is what the image stays, though its tag may have
// moved since.
func (e *Engine) pullRequest(t *Task, c *task.Container) container.PullRequest {
	d := &t.State.Definition
	return container.PullRequest{
		Ref: c.Image, Digest: t.container(c.Name).Digest, Policy: e.config.PullPolicy, MakeRoom: e.config.MakeRoom,
		Auth:              func(ctx context.Context) (*container.Auth, error) { return e.config.Resources.Auth(ctx, d, c) },
		InactivityTimeout: e.config.PullInactivity, ResolveTimeout: e.config.PullResolve,
	}
}

// pullFailure is a failed pull in ECS's words.
func (e *Engine) pullFailure(err error) task.Failure {
	if errors.Is(err, container.ErrTimeout) && container.KindOf(err, container.KindPull) == container.KindPull {
		return task.Failure{
			Name: string(container.KindTimeout),
			Text: fmt.Sprintf("Could not transition to pulled; timed out after waiting %s", e.config.PullTotal),
		}
	}
	return failure(err, container.KindPull)
}

// keepImage remembers an image for the creation of its container.
func (r *runner) keepImage(name string, image container.Image) {
	r.inbox.put(message{ask: func(*task.Machine) { r.images[name] = image }})
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// part is a long-running piece of the agent.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// errStopped is why parts are ended when one of them has ended.
var errStopped = errors.New("the agent is stopping")

// running is a part that was started.
type running struct {
	part
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

// runParts starts the parts in order and waits until one of them returns or ctx
// ends; in the latter case it calls leave while they all still run. It then
// stops them in reverse order, each one's end being waited for, and returns what
// ended it.
func runParts(ctx context.Context, parts []part, leave func(ctx context.Context)) error {
	ended := make(chan *running, len(parts)) // A place for each: no part waits to be heard.
	started := make([]*running, 0, len(parts))
	for _, p := range parts {
		own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		r := &running{part: p, cancel: cancel, done: make(chan struct{})}
		started = append(started, r)
		go func() {
			defer close(r.done)
			r.err = r.run(own)
			ended <- r
		}()
	}
	var cause error
	select {
	case <-ctx.Done():
		cause = context.Cause(ctx)
		leave(context.WithoutCancel(ctx))
	case first := <-ended:
		cause = fmt.Errorf("%s ended: %w", first.name, orEnded(first.err))
	}
	for _, r := range slices.Backward(started) {
		r.cancel(errStopped)
		<-r.done
	}
	return cause
}

// orEnded gives a part that returned nil a reason.
func orEnded(err error) error {
	if err == nil {
		return errors.New("it returned without an error")
	}
	return err
}

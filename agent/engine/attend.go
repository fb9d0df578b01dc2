package engine

import (
	"context"
	"errors"

	"github.com/berthd/berth/agent/task"
)

// errLeft is why what goes on beside a container ends.
var errLeft = errors.New("the container is not attended to any more")

// attend begins what goes on beside a container that runs: the probes of its
// health, and its managed agents. leave ends it, or the engine's end.
func (r *runner) attend(w task.Attend) {
	ctx, cancel := context.WithCancelCause(r.engine.ctx())
	r.attended[w.Container] = cancel
	id := RuntimeID(r.machine.Definition().ARN, w.Container)
	if w.Check != nil {
		p := &prober{
			runtime: r.engine.runtime, id: id, container: w.Container, run: w.Run,
			check: *w.Check, health: w.Health, tell: func(f task.Fact) { r.tell(f) }, log: r.log,
		}
		r.engine.work.Go(func() { p.loop(ctx) })
	}
	for _, name := range w.Agents {
		k := newKeeper(r, id, w.Container, name)
		r.engine.work.Go(func() { k.loop(ctx) })
	}
}

// leave ends what attend began.
func (r *runner) leave(name string) {
	if cancel := r.attended[name]; cancel != nil {
		cancel(errLeft)
		delete(r.attended, name)
	}
}

package engine

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// commitRetry is how long a runner waits after the store refused a record: for
// most of them the disk is full, and somebody has to make room.
const commitRetry = time.Second

// runner is a task's goroutine and what it alone may touch.
type runner struct {
	engine *Engine
	id     string
	inbox  *inbox
	log    *zap.Logger
	// ended is closed when the goroutine has ended.
	ended chan struct{}
	// view is the latest one, for readers.
	view atomic.Pointer[Task]

	// The rest belongs to the goroutine of run.
	machine   *task.Machine
	endpoints map[string]ipam.Endpoint
	pulls     map[string]context.CancelCauseFunc
	// onStop ends what must not hold a stop up.
	onStop    []context.CancelCauseFunc
	preparing <-chan struct{} // closed when the preparation under way has ended
	// attended are the containers that attend was called for.
	attended map[string]context.CancelCauseFunc
	images   map[string]container.Image
	// outfits are what Provision answered with, once provisioned is set.
	outfits     map[string]Outfit
	provisioned bool
	timers      []*time.Timer
	forgotten   bool
}

func newRunner(e *Engine, m *task.Machine) *runner {
	d := m.Definition()
	return &runner{
		engine: e, id: d.ID, inbox: newInbox(), machine: m, ended: make(chan struct{}),
		log:       e.log.With(zap.String("task", d.ID)),
		endpoints: map[string]ipam.Endpoint{},
		pulls:     map[string]context.CancelCauseFunc{},
		attended:  map[string]context.CancelCauseFunc{},
		images:    map[string]container.Image{},
	}
}

// tell brings facts to the task.
func (r *runner) tell(facts ...task.Fact) {
	messages := make([]message, len(facts))
	for i, f := range facts {
		messages[i].fact = f
	}
	r.inbox.put(messages...)
}

// ask calls f with the machine, from the task's own goroutine, and waits.
func (r *runner) ask(ctx context.Context, f func(*task.Machine)) error {
	done := make(chan struct{})
	return r.send(ctx, message{ask: func(m *task.Machine) { f(m); close(done) }}, done)
}

// record brings a fact to the task and waits until it is on the disk.
func (r *runner) record(ctx context.Context, f task.Fact) error {
	written := make(chan struct{})
	return r.send(ctx, message{fact: f, written: written}, written)
}

func (r *runner) send(ctx context.Context, m message, done <-chan struct{}) error {
	if !r.inbox.put(m) {
		return ErrUnknownTask
	}
	select {
	case <-done:
		return nil
	case <-r.ended:
		return errNotReady
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the task's life, from the work first called for until it is forgotten
// or ctx ends.
func (r *runner) run(ctx context.Context, work []task.Work) {
	defer close(r.ended)
	defer r.stopTimers()
	r.dispatchAll(ctx, work)
	for !r.forgotten {
		select {
		case <-ctx.Done():
			return
		case <-r.inbox.more:
		}
		messages := r.inbox.take()
		for _, m := range messages {
			if m.ask != nil {
				m.ask(r.machine)
				continue
			}
			r.machine.Apply(m.fact)
		}
		work := r.machine.Next()
		if !r.persist(ctx, work) {
			return
		}
		for _, m := range messages {
			if m.written != nil {
				close(m.written)
			}
		}
		r.publish()
		r.dispatchAll(ctx, work)
	}
}

// persist writes the record and the reports, and tries until it can. It says
// whether it could before ctx ended.
func (r *runner) persist(ctx context.Context, work []task.Work) bool {
	for first := true; ; first = false {
		err := r.commit(work)
		if err == nil {
			return true
		}
		if first {
			r.log.Error("cannot write the task down; nothing is done for it until that works", zap.Error(err))
		}
		if !backoff.Wait(ctx, commitRetry) {
			return false
		}
	}
}

// commit writes the record and the reports that work calls for, if it does.
func (r *runner) commit(work []task.Work) error {
	needed, changes := false, []task.Change(nil)
	for _, w := range work {
		switch w := w.(type) {
		case task.Persist:
			needed = true
		case task.Report:
			needed = true
			changes = append(changes, w.Change)
		case task.Forget:
			return r.engine.store.Commit(r.id, nil)
		default:
		}
	}
	if !needed {
		return nil
	}
	data, err := record{r.machine.State(), r.endpoints}.encode()
	if err != nil {
		return err
	}
	return r.engine.store.Commit(r.id, data, changes...)
}

// publish shows the task as it is now, and tells what is new about it.
func (r *runner) publish() {
	t := &Task{
		State: r.machine.State(), Endpoints: maps.Clone(r.endpoints), Desired: r.machine.Desired(),
		Settled: r.machine.Settled(), Forgotten: r.forgotten,
	}
	if t.Desired == task.ReportStopped {
		for _, end := range r.onStop {
			end(errTaskStopped)
		}
		r.onStop = nil
	}
	before := r.view.Swap(t)
	if before != nil {
		r.tellEvents(before, t)
	}
	r.engine.observer.Changed(*t)
}

// tellEvents tells people what changed between two views.
func (r *runner) tellEvents(before, after *Task) {
	event := func(name, what, detail string) {
		r.engine.observer.Event(Event{Time: time.Now(), Task: r.id, Container: name, What: what, Detail: detail})
	}
	for i := range after.State.Containers {
		was, is := &before.State.Containers[i], &after.State.Containers[i]
		if was.Phase != is.Phase {
			event(is.Name, string(is.Phase), exitText(is))
		}
		if was.Failure != is.Failure {
			event(is.Name, "failed", is.Failure.String())
		}
		if was.Sent != is.Sent && is.Sent == task.ReportStopped {
			r.background(func(ctx context.Context) { r.closeLogs(ctx, is.Name) })
		}
	}
	if before.Desired != after.Desired {
		event("", "stopping", after.State.StopReason)
	}
	if before.State.Sent != after.State.Sent {
		event("", "reported "+string(after.State.Sent), after.State.StopReason)
	}
}

// background runs f in a goroutine that the engine waits for.
func (r *runner) background(f func(ctx context.Context)) {
	r.engine.work.Go(func() { f(r.engine.ctx()) })
}

// after tells a fact once d has passed.
func (r *runner) after(d time.Duration, f task.Fact) {
	r.timers = append(r.timers, time.AfterFunc(max(d, 0), func() { r.tell(f) }))
}

func (r *runner) stopTimers() {
	for _, t := range r.timers {
		t.Stop()
	}
}

func (r *runner) dispatchAll(ctx context.Context, work []task.Work) {
	for _, w := range work {
		r.dispatch(ctx, w)
	}
}

// dispatch begins a piece of work.
func (r *runner) dispatch(ctx context.Context, w task.Work) {
	e := r.engine
	switch w := w.(type) {
	case task.Persist, task.Report:
		// Done by persist.
	case task.Admit:
		r.admit()
	case task.CancelAdmit:
		e.admission.cancel(r.id)
	case task.Prepare:
		r.startPrepare()
	case task.ArmDrain:
		r.after(e.config.DrainMin+rand.N(e.config.DrainMax-e.config.DrainMin+1), task.DrainDue{})
	case task.Release:
		endpoints := maps.Clone(r.endpoints)
		r.background(func(ctx context.Context) { r.release(ctx, endpoints) })
	case task.ArmCleanup:
		r.after(time.Until(w.Since.Add(e.config.CleanupWait))+rand.N(e.config.CleanupJitter+1), task.CleanupDue{})
	case task.Remove:
		r.background(r.remove)
	case task.Forget:
		r.forget()
	case task.Pull:
		r.startPull(ctx, w.Container)
	case task.CancelPull:
		if cancel := r.pulls[w.Container]; cancel != nil {
			cancel(errTaskStopped)
		}
	case task.Create:
		what := creation{
			container: r.definition(w.Container), image: r.images[w.Container],
			endpoints: maps.Clone(r.endpoints), outfits: r.outfits, provisioned: r.provisioned,
		}
		ctx, cancel := r.untilStop()
		r.background(func(context.Context) {
			defer cancel(nil)
			r.create(ctx, what)
		})
	case task.Start:
		r.background(func(ctx context.Context) { r.start(ctx, w.Container) })
	case task.Signal:
		image := r.images[w.Container]
		r.background(func(ctx context.Context) { r.signal(ctx, w.Container, w.Kill, image) })
	case task.Attend:
		r.attend(w)
	case task.Leave:
		r.leave(w.Container)
	case task.ArmStop:
		r.after(time.Until(w.Since.Add(w.After)), task.StopTimedOut{Container: w.Container})
	case task.ArmStart:
		r.after(time.Until(w.Since.Add(w.After)), task.StartTimedOut{Container: w.Container})
	}
}

// forget is the end of a task.
func (r *runner) forget() {
	r.forgotten = true
	r.inbox.close()
	r.publish()
	r.engine.drop(r)
}

// definition is the definition of a container of the task.
func (r *runner) definition(name string) *task.Container {
	d := r.machine.Definition()
	for i := range d.Containers {
		if d.Containers[i].Name == name {
			return &d.Containers[i]
		}
	}
	return nil
}

var errTaskStopped = errors.New("the task was stopped")

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// ErrUnknownTask says that the engine has no such task.
var ErrUnknownTask = errors.New("no such task")

// errNotReady says that the engine has not been restored, or has ended.
var errNotReady = errors.New("the task engine is not running")

// Engine runs tasks. Restore it, then Run it; the other methods may be called
// from any goroutine in between and after.
type Engine struct {
	config    Config
	runtime   container.Runtime
	store     Store
	observer  Observer
	log       *zap.Logger
	admission *admission
	// starts holds a token for each container being created or started.
	starts chan struct{}
	// work counts the goroutines of runners and of their work.
	work sync.WaitGroup

	mu      sync.Mutex         // guards what follows
	base    context.Context    //nolint:containedctx // The context of Restore and Run: work outlives the call that brought it.
	tasks   map[string]*runner // by task id
	ids     map[string]place   // by container id
	restore map[string]*runner // restored and not yet running
	// accepting has the tasks whose first record is being written; the channel is
	// closed when it is.
	accepting map[string]chan struct{}
}

// place is where a container belongs.
type place struct {
	runner *runner
	name   string
}

// New makes an Engine that has no tasks yet.
func New(c Config) *Engine {
	c = c.withDefaults()
	return &Engine{
		config: c, runtime: c.Runtime, store: c.Store, observer: c.Observer, log: c.Log,
		admission: newAdmission(c.Capacity), starts: make(chan struct{}, c.Starts),
		tasks: map[string]*runner{}, ids: map[string]place{}, restore: map[string]*runner{}, accepting: map[string]chan struct{}{},
	}
}

// Run begins the restored tasks' goroutines, and compares the runtime with what
// is known until ctx ends. It then waits until no work is under way; the
// containers run on.
func (e *Engine) Run(ctx context.Context) error {
	e.begin(ctx)
	e.work.Go(func() { e.watch(ctx) })
	e.reconcileLoop(ctx)
	e.mu.Lock()
	e.base = nil
	e.mu.Unlock()
	e.work.Wait()
	return context.Cause(ctx)
}

// begin makes ctx that of all work, and starts the restored runners.
func (e *Engine) begin(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.base = ctx
	for _, r := range e.restore {
		e.work.Go(func() { r.run(ctx, nil) })
		// An empty batch makes the runner ask the machine what is to be done.
		r.inbox.put()
		r.closeEnded()
	}
	e.restore = nil
}

// ctx is the context of work; it has ended when the engine does not run.
func (e *Engine) ctx() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.base == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errNotReady)
		return ctx
	}
	return e.base
}

// Accept takes a task that ECS wants run. When it returns nil the task is on
// the disk; a task that is known already is left as it is. Many may be accepted
// at once: they then share the disk's answer.
func (e *Engine) Accept(ctx context.Context, d task.Definition) error {
	e.mu.Lock()
	if e.base == nil {
		e.mu.Unlock()
		return errNotReady
	}
	if _, known := e.tasks[d.ID]; known {
		e.mu.Unlock()
		return nil
	}
	if done, under := e.accepting[d.ID]; under {
		e.mu.Unlock()
		select {
		case <-done:
			return e.Accept(ctx, d)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	done := make(chan struct{})
	e.accepting[d.ID] = done
	e.mu.Unlock()

	r := newRunner(e, task.New(d, time.Now(), e.config.Machine))
	work := r.machine.Next()
	err := r.commit(work)

	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.accepting, d.ID)
	close(done)
	if err != nil {
		return fmt.Errorf("cannot accept task %s: %w", d.ID, err)
	}
	if e.base == nil {
		return errNotReady // It is on the disk, and the next agent begins it.
	}
	e.add(r)
	r.publish()
	e.observer.Event(Event{Time: time.Now(), Task: d.ID, What: "accepted", Detail: d.Family + ":" + d.Version})
	base := e.base
	e.work.Go(func() { r.run(base, work) })
	return nil
}

// add makes a task known. The caller holds the lock.
func (e *Engine) add(r *runner) {
	e.tasks[r.id] = r
	d := r.machine.Definition()
	for i := range d.Containers {
		e.ids[RuntimeID(d.ARN, d.Containers[i].Name)] = place{r, d.Containers[i].Name}
	}
	if holds(d) {
		e.ids[holderID(d)] = place{r, HolderName}
	}
}

// drop forgets a task.
func (e *Engine) drop(r *runner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tasks, r.id)
	for id, p := range e.ids {
		if p.runner == r {
			delete(e.ids, id)
		}
	}
}

// Stop takes ECS's wish to stop a task. An unknown task is reported STOPPED, so
// that ECS stops asking.
func (e *Engine) Stop(ctx context.Context, arn string) error {
	err := e.StopTask(ctx, task.IDFromARN(arn), "")
	if errors.Is(err, ErrUnknownTask) {
		return e.Reject(ctx, arn, "")
	}
	return err
}

// StopTask stops a task for a reason of the host's own, which ECS is told. It
// returns once the wish is on the disk, not once the task has stopped.
func (e *Engine) StopTask(ctx context.Context, id, reason string) error {
	r := e.runner(id)
	if r == nil {
		return fmt.Errorf("cannot stop task %s: %w", id, ErrUnknownTask)
	}
	if err := r.record(ctx, task.StopRequested{Reason: reason, At: time.Now()}); err != nil {
		return fmt.Errorf("cannot stop task %s: %w", id, err)
	}
	return nil
}

// Reject reports a task STOPPED that cannot be run at all.
func (e *Engine) Reject(_ context.Context, arn, reason string) error {
	id := task.IDFromARN(arn)
	if e.runner(id) != nil {
		return nil
	}
	change := task.Change{TaskARN: arn, Status: task.ReportStopped, Reason: reason}
	if err := e.store.Commit(id, nil, change); err != nil {
		return fmt.Errorf("cannot report task %s as stopped: %w", id, err)
	}
	return nil
}

// Running are the ARNs of the tasks that are meant to run.
func (e *Engine) Running() []string {
	var arns []string
	for _, t := range e.Tasks() {
		if t.Desired == task.ReportRunning {
			arns = append(arns, t.State.Definition.ARN)
		}
	}
	return arns
}

// Tasks are all tasks, in the order of their ids.
func (e *Engine) Tasks() []Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	tasks := make([]Task, 0, len(e.tasks))
	for _, r := range e.tasks {
		tasks = append(tasks, *r.view.Load())
	}
	slices.SortFunc(tasks, func(a, b Task) int { return strings.Compare(a.ID(), b.ID()) })
	return tasks
}

// Why says what a task waits for, first things first.
func (e *Engine) Why(ctx context.Context, id string) ([]string, error) {
	r := e.runner(id)
	if r == nil {
		return nil, fmt.Errorf("cannot explain task %s: %w", id, ErrUnknownTask)
	}
	var why []string
	if err := r.ask(ctx, func(m *task.Machine) { why = m.Why(time.Now()) }); err != nil {
		return nil, err
	}
	if waits := e.admission.why(id); waits != "" {
		why = append([]string{waits}, why...)
	}
	return why, nil
}

// runner finds a task.
func (e *Engine) runner(id string) *runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tasks[id]
}

// place finds a container of a task.
func (e *Engine) place(id string) (place, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.ids[id]
	return p, ok
}

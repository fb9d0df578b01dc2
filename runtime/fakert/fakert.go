package fakert

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

var _ container.Runtime = (*Runtime)(nil)

// Runtime is a scripted container.Runtime. Use New. All methods may be called
// at once.
type Runtime struct {
	cfg Config

	mu         sync.Mutex // guards all below
	broken     bool
	containers map[string]*record
	images     map[string]container.Image // by reference
	flights    map[string]*flight         // by digest
	watchers   map[*watcher]struct{}
	calls      []string
	fetches    map[string]int // by digest
	turns      map[string]chan struct{}
	pid        int
}

// record is one container.
type record struct {
	spec    container.Spec
	script  Script
	status  container.Status
	ending  bool        // a signal was taken and its TermDelay runs
	timer   *time.Timer // ends init; nil when nothing is due
	stopped chan struct{}
	kept    map[string]*kept // the processes that outlive their callers, by name
}

// New makes a Runtime that has no image and no container.
func New(cfg Config) *Runtime {
	return &Runtime{
		cfg:        cfg,
		containers: make(map[string]*record),
		images:     make(map[string]container.Image),
		flights:    make(map[string]*flight),
		watchers:   make(map[*watcher]struct{}),
		fetches:    make(map[string]int),
		turns:      make(map[string]chan struct{}),
		pid:        1000,
	}
}

// Create implements container.Runtime.
func (r *Runtime) Create(ctx context.Context, spec container.Spec) error {
	done, err := r.begin(ctx, spec.ID, "create "+spec.ID)
	if err != nil {
		return err
	}
	defer done()
	if _, ok := r.record(spec.ID); ok {
		return nil
	}
	if !spec.Holder && !r.has(spec.Image) {
		return &container.Error{
			Kind: container.KindCreate,
			Err:  fmt.Errorf("No such image: %s: %w", spec.Image, container.ErrNotFound), //nolint:staticcheck // Docker's words, spec/task-engine.md §7.5
		}
	}
	var script Script
	if r.cfg.Container != nil {
		script = r.cfg.Container(spec)
	}
	if err := wait(ctx, script.CreateDelay); err != nil {
		return err
	}
	if script.CreateErr != nil {
		return withKind(container.KindCreate, script.CreateErr)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	spec.Labels = maps.Clone(spec.Labels)
	r.containers[spec.ID] = &record{
		spec:   spec,
		script: script,
		status: container.Status{
			ID:        spec.ID,
			Labels:    spec.Labels,
			Phase:     container.Created,
			Image:     spec.Image,
			CreatedAt: time.Now(),
		},
	}
	return nil
}

// Start implements container.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) (container.Status, error) {
	done, err := r.begin(ctx, id, "start "+id)
	if err != nil {
		return container.Status{}, err
	}
	defer done()
	rec, ok := r.record(id)
	if !ok {
		return container.Status{}, notFound(container.KindStart, id)
	}
	if st, running := r.running(rec); running {
		return st, nil
	}
	if err := wait(ctx, rec.script.StartDelay); err != nil {
		return container.Status{}, err
	}
	if rec.script.StartErr != nil {
		return container.Status{}, withKind(container.KindStart, rec.script.StartErr)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.containers[id] != rec {
		return container.Status{}, notFound(container.KindStart, id)
	}
	r.pid++
	rec.ending = false
	rec.stopped = make(chan struct{})
	rec.kept = make(map[string]*kept)
	rec.status.Phase = container.Running
	rec.status.PID = r.pid
	rec.status.StartedAt = time.Now()
	rec.status.Exit = nil
	r.emit(rec, container.Event{Kind: container.EventStarted})
	if s := rec.script; s.ExitAfter > 0 {
		r.endAfter(rec, s.ExitAfter, func() {
			if s.OOM {
				r.emit(rec, container.Event{Kind: container.EventOOM})
				r.end(rec, container.Exit{Code: 128 + int(syscall.SIGKILL), Known: true, OOMKilled: true})
				return
			}
			r.end(rec, container.Exit{Code: s.ExitCode, Known: true})
		})
	}
	return copyStatus(rec.status), nil
}

// Signal implements container.Runtime.
func (r *Runtime) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	word := fmt.Sprintf("signal %s %d", id, int(sig))
	if all {
		word += " all"
	}
	done, err := r.begin(ctx, id, word)
	if err != nil {
		return err
	}
	defer done()
	rec, ok := r.record(id)
	if !ok {
		return notFound(container.KindStop, id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.status.Phase != container.Running {
		return container.Errorf(container.KindStop, "container %s: %w", id, container.ErrNotRunning)
	}
	code, ends := rec.script.afterSignal(sig)
	if !ends || (rec.ending && sig != syscall.SIGKILL) {
		return nil
	}
	rec.ending = true
	exit := container.Exit{Code: code, Known: true}
	if d := rec.script.TermDelay; d > 0 && sig != syscall.SIGKILL {
		r.endAfter(rec, d, func() { r.end(rec, exit) })
		return nil
	}
	r.end(rec, exit)
	return nil
}

// Remove implements container.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	done, err := r.begin(ctx, id, "remove "+id)
	if err != nil {
		return err
	}
	defer done()
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.containers[id]
	if !ok {
		return nil
	}
	if rec.script.RemoveErr != nil {
		return withKind(container.KindRemove, rec.script.RemoveErr)
	}
	if rec.status.Phase == container.Running {
		r.end(rec, container.Exit{Code: 128 + int(syscall.SIGKILL), Known: true})
	}
	delete(r.containers, id)
	r.emit(rec, container.Event{Kind: container.EventRemoved})
	return nil
}

// List implements container.Runtime. It is sorted by ID.
func (r *Runtime) List(ctx context.Context, ids ...string) ([]container.Status, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return nil, errBroken()
	}
	var out []container.Status
	for id, rec := range r.containers {
		if len(ids) == 0 || slices.Contains(ids, id) {
			out = append(out, copyStatus(rec.status))
		}
	}
	slices.SortFunc(out, func(a, b container.Status) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Exec implements container.Runtime.
func (r *Runtime) Exec(ctx context.Context, id string, req container.ExecRequest) (int, error) {
	done, err := r.begin(ctx, id, "exec "+id+" "+strings.Join(req.Args, " "))
	if err != nil {
		return 0, err
	}
	done() // an exec runs beside other calls
	rec, ok := r.record(id)
	if !ok {
		return 0, notFound(container.KindInspect, id)
	}
	r.mu.Lock()
	running, stopped := rec.status.Phase == container.Running, rec.stopped
	r.mu.Unlock()
	if !running {
		return 0, container.Errorf(container.KindInspect, "container %s: %w", id, container.ErrNotRunning)
	}
	if req.Keep != "" {
		return r.keep(ctx, rec, stopped, req)
	}
	if req.Started != nil {
		req.Started(false)
	}
	if rec.script.Exec == nil {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	killed := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() { close(killed) })
	defer unhook()
	type answer struct {
		code int
		err  error
	}
	answered := make(chan answer, 1) // the answer of an exec nobody waits for any more
	go func() {
		code, err := rec.script.Exec(ctx, req)
		answered <- answer{code, err}
	}()
	select {
	case a := <-answered:
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		return a.code, a.err
	case <-stopped: // an exec ends with its container
		cancel(container.ErrNotRunning)
		<-answered
		return 128 + int(syscall.SIGKILL), nil
	case <-killed:
		<-answered
		return 0, context.Cause(ctx)
	}
}

// begin notes the call and waits for the turn of id; the returned function
// ends the turn.
func (r *Runtime) begin(ctx context.Context, id, call string) (func(), error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if r.broken {
		r.mu.Unlock()
		return nil, errBroken()
	}
	r.calls = append(r.calls, call)
	turn, ok := r.turns[id]
	if !ok {
		turn = make(chan struct{}, 1) // one holder
		r.turns[id] = turn
	}
	r.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *Runtime) record(id string) (*record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.containers[id]
	return rec, ok
}

func (r *Runtime) running(rec *record) (container.Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return copyStatus(rec.status), rec.status.Phase == container.Running
}

// endAfter has fn end rec's init in d unless something else does before. The
// caller holds mu; fn is called with it.
func (r *Runtime) endAfter(rec *record, d time.Duration, fn func()) {
	if rec.timer != nil {
		rec.timer.Stop()
	}
	run := rec.stopped
	rec.timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if rec.status.Phase == container.Running && rec.stopped == run {
			fn()
		}
	})
}

// end makes a running container stopped. The caller holds mu.
func (r *Runtime) end(rec *record, exit container.Exit) {
	if rec.timer != nil {
		rec.timer.Stop()
		rec.timer = nil
	}
	if exit.At.IsZero() && exit.Known {
		exit.At = time.Now()
	}
	rec.status.Phase = container.Stopped
	rec.status.PID = 0
	rec.status.Exit = &exit
	close(rec.stopped)
	sent := exit
	r.emit(rec, container.Event{Kind: container.EventExited, Exit: &sent})
}

// wait lets d pass unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	backoff.Wait(ctx, d)
	return context.Cause(ctx)
}

func copyStatus(s container.Status) container.Status {
	s.Labels = maps.Clone(s.Labels)
	if s.Exit != nil {
		exit := *s.Exit
		s.Exit = &exit
	}
	return s
}

// withKind gives err a kind unless it brings one.
func withKind(kind container.Kind, err error) error {
	return &container.Error{Kind: container.KindOf(err, kind), Retry: container.Retryable(err), Err: err}
}

func notFound(kind container.Kind, id string) error {
	return container.Errorf(kind, "container %s: %w", id, container.ErrNotFound)
}

func errBroken() error {
	return fmt.Errorf("fake runtime is away: %w", container.ErrUnavailable)
}

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/ipam/ports"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// world is the host that outlives the agent: runtime, network, cgroups, logs
// and disk. It counts what is done to it, and can let the agent die after any of
// these effects.
type world struct {
	runtime *fakert.Runtime

	mu         sync.Mutex // guards all below
	generation int
	effects    []string
	dieAfter   int // 0 is never
	records    map[string][]byte
	outbox     []task.Change
	endpoints  map[string]ipam.Endpoint
	files      map[string]Files
	cgroups    map[string]TaskCgroup
	logs       map[string]bool
	foreign    map[uint16]bool
	starts     map[string]int
	diskFull   bool
	unsent     bool // ECS takes no reports
}

func newWorld(script func(container.Spec) fakert.Script) *world {
	return &world{
		runtime: fakert.New(fakert.Config{Container: script}),
		records: map[string][]byte{}, endpoints: map[string]ipam.Endpoint{},
		files: map[string]Files{}, cgroups: map[string]TaskCgroup{}, logs: map[string]bool{},
		foreign: map[uint16]bool{}, starts: map[string]int{},
	}
}

var errDead = errors.New("this agent is dead")

// agent is one life of the agent: a gate to the world that closes when it dies.
type agent struct {
	w          *world
	generation int
}

// do makes an effect, unless the agent is dead. The agent dies when it made the
// effect it was to die after.
func (a agent) do(ctx context.Context, name string, effect func() error) error {
	a.w.mu.Lock()
	if a.w.generation != a.generation {
		a.w.mu.Unlock()
		<-ctx.Done()
		return errDead
	}
	defer a.w.mu.Unlock()
	err := effect()
	a.w.effects = append(a.w.effects, name)
	if a.w.dieAfter > 0 && len(a.w.effects) == a.w.dieAfter {
		a.w.generation++
		a.w.mu.Unlock()
		<-ctx.Done()
		a.w.mu.Lock()
		return errDead
	}
	return err
}

func (a agent) alive(ctx context.Context) error {
	a.w.mu.Lock()
	dead := a.w.generation != a.generation
	a.w.mu.Unlock()
	if dead {
		<-ctx.Done()
		return errDead
	}
	return nil
}

// mortalRuntime is the runtime as one life of the agent sees it.
type mortalRuntime struct {
	container.Runtime
	agent agent
}

func (r mortalRuntime) Create(ctx context.Context, spec container.Spec) error {
	return r.agent.do(ctx, "create", func() error { return r.Runtime.Create(ctx, spec) })
}

func (r mortalRuntime) Start(ctx context.Context, id string) (status container.Status, err error) {
	err = r.agent.do(ctx, "start", func() (err error) {
		before, _ := r.Runtime.List(ctx, id)
		status, err = r.Runtime.Start(ctx, id)
		if err == nil && len(before) == 1 && before[0].Phase != container.Running {
			r.agent.w.starts[id]++
		}
		return err
	})
	return status, err
}

func (r mortalRuntime) Signal(ctx context.Context, id string, s syscall.Signal, all bool) error {
	return r.agent.do(ctx, "signal", func() error { return r.Runtime.Signal(ctx, id, s, all) })
}

func (r mortalRuntime) Remove(ctx context.Context, id string) error {
	return r.agent.do(ctx, "remove", func() error { return r.Runtime.Remove(ctx, id) })
}

func (r mortalRuntime) Pull(ctx context.Context, req container.PullRequest, p func(container.Progress)) (container.Image, error) {
	if err := r.agent.alive(ctx); err != nil {
		return container.Image{}, err
	}
	return r.Runtime.Pull(ctx, req, p)
}

func (r mortalRuntime) List(ctx context.Context, ids ...string) ([]container.Status, error) {
	if err := r.agent.alive(ctx); err != nil {
		return nil, err
	}
	return r.Runtime.List(ctx, ids...)
}

func (a agent) Attach(ctx context.Context, e ipam.Endpoint) error {
	return a.do(ctx, "attach", func() error { a.w.endpoints[e.ID] = e; return nil })
}

func (a agent) Detach(ctx context.Context, e ipam.Endpoint) error {
	return a.do(ctx, "detach", func() error { delete(a.w.endpoints, e.ID); return nil })
}

func (a agent) Sync(ctx context.Context, plan ipam.Plan) error {
	return a.do(ctx, "sync", func() error {
		if err := plan.Validate(); err != nil {
			return err
		}
		maps.DeleteFunc(a.w.endpoints, func(id string, _ ipam.Endpoint) bool {
			return !slices.ContainsFunc(plan, func(e ipam.Endpoint) bool { return e.ID == id })
		})
		for _, e := range plan {
			a.w.endpoints[e.ID] = e
		}
		return nil
	})
}

func (a agent) Mend(context.Context, func() ipam.Plan) error { return nil }

func (a agent) NetNS(id string) string { return "/netns/" + id }

func (a agent) Files(ctx context.Context, f Files) ([]container.Mount, error) {
	return nil, a.do(ctx, "files", func() error { a.w.files[f.ID] = f; return nil })
}

func (a agent) RemoveFiles(ctx context.Context, id string) error {
	return a.do(ctx, "remove files", func() error { delete(a.w.files, id); return nil })
}

// mortalCgroups, mortalLogs and mortalStore have methods of the same names.
type (
	mortalCgroups struct{ agent }
	mortalLogs    struct{ agent }
	mortalStore   struct{ agent }
)

func (c mortalCgroups) Create(ctx context.Context, t TaskCgroup) error {
	return c.do(ctx, "cgroup", func() error { c.w.cgroups[t.ID] = t; return nil })
}

func (c mortalCgroups) Parent(id string) string { return "/ecs/" + id }

func (c mortalCgroups) Remove(ctx context.Context, id string) error {
	return c.do(ctx, "remove cgroup", func() error { delete(c.w.cgroups, id); return nil })
}

func (l mortalLogs) Open(ctx context.Context, s LogStream) (container.IO, error) {
	return container.IO{}, l.do(ctx, "open log", func() error { l.w.logs[s.ID] = true; return nil })
}

func (l mortalLogs) Close(ctx context.Context, _ string) error { return l.alive(ctx) }

func (l mortalLogs) Delivered(ctx context.Context, _ string) error { return l.alive(ctx) }

func (l mortalLogs) Remove(ctx context.Context, id string) error {
	return l.do(ctx, "remove log", func() error { delete(l.w.logs, id); return nil })
}

func (s mortalStore) Commit(id string, data []byte, changes ...task.Change) error {
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errDead) // A store that has no context answers a dead agent at once.
	return s.do(ended, "commit", func() error {
		if s.w.diskFull {
			return errors.New("no space left on device")
		}
		if data == nil {
			delete(s.w.records, id)
		} else {
			s.w.records[id] = data
		}
		s.w.outbox = append(s.w.outbox, changes...)
		return nil
	})
}

func (s mortalStore) Waiting(string) bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.unsent
}

func (s mortalStore) Tasks() (map[string][]byte, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return maps.Clone(s.w.records), nil
}

// binder stands for the host's sockets: the foreign ports of the world are
// taken.
type binder struct{ w *world }

func (b binder) Bind(p ipam.Protocol, n uint16) (io.Closer, error) {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if b.w.foreign[n] {
		return nil, &ports.InUseError{Protocol: p, Port: n, Err: syscall.EADDRINUSE}
	}
	return io.NopCloser(nil), nil
}

func (binder) Holder(ipam.Protocol, uint16) ports.Process {
	return ports.Process{PID: 7, Name: "nginx"}
}

// live runs an engine in a bubble of time for as long as play takes.
func live(t *testing.T, script func(container.Spec) fakert.Script, edit func(*Config), play func(t *testing.T, w *world, e *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(script)
		e, stop := w.start(t, edit)
		defer stop()
		play(t, w, e)
	})
}

// start begins a life of the agent, which has compared what there is when start
// returns, and answers what ends it.
func (w *world) start(t *testing.T, edit func(*Config)) (*Engine, func()) {
	t.Helper()
	w.mu.Lock()
	a := agent{w, w.generation}
	w.mu.Unlock()
	addresses, err := ipam.New(ipam.DefaultPool())
	if err != nil {
		t.Fatal(err)
	}
	linkLocal, err := ipam.New(ipam.DefaultLinkLocal())
	if err != nil {
		t.Fatal(err)
	}
	table, err := ports.New(ports.Config{Dynamic: ports.Range{First: 40000, Last: 40010}, Binder: binder{w}})
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Runtime: mortalRuntime{w.runtime, a}, Network: a, Cgroups: mortalCgroups{a}, Logs: mortalLogs{a},
		Store: mortalStore{a}, Addresses: addresses, LinkLocal: linkLocal, Ports: table, Log: zap.NewNop(),
		CleanupWait: time.Minute, Region: "eu-west-1",
	}
	if edit != nil {
		edit(&config)
	}
	e := New(config)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if e.Restore(ctx) == nil {
			_ = e.Run(ctx) // It ends with ctx.
		}
	}()
	synctest.Wait()
	return e, func() {
		cancel(errDead)
		<-done
	}
}

// begin has the engine accept a task, and gives it a second of the bubble's time.
func begin(t *testing.T, e *Engine, d task.Definition) {
	t.Helper()
	if err := e.Accept(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// reports are what ECS was told of a task, in order.
func (w *world) reports(arn string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, c := range w.outbox {
		if c.TaskARN != arn {
			continue
		}
		text := string(c.Status)
		if c.Reason != "" {
			text += fmt.Sprintf(" %q", c.Reason)
		}
		for _, cc := range c.Containers {
			text += ", " + cc.Name + " " + string(cc.Status)
			if cc.ExitCode != nil {
				text += fmt.Sprintf(" exit %d", *cc.ExitCode)
			}
			if cc.Reason != "" {
				text += fmt.Sprintf(" %q", cc.Reason)
			}
		}
		out = append(out, text)
	}
	return out
}

// remains says what is left on the host, for a test that wants nothing.
func (w *world) remains(ctx context.Context) []string {
	statuses, err := w.runtime.List(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	for _, s := range statuses {
		left = append(left, "container "+s.ID)
	}
	for kind, n := range map[string]int{
		"records": len(w.records), "endpoints": len(w.endpoints), "files": len(w.files), "cgroups": len(w.cgroups), "logs": len(w.logs),
	} {
		if n > 0 {
			left = append(left, fmt.Sprintf("%d %s", n, kind))
		}
	}
	slices.SortFunc(left, cmp.Compare[string])
	return left
}

// dead says whether the present agent has died.
func (w *world) dead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dieAfter > 0 && w.generation > 0
}

// revive lets the next agent live.
func (w *world) revive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dieAfter = 0
}

// lives is how many agents there were.
func (w *world) lives() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.generation + 1
}

// started is how often each container was really started.
func (w *world) started() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.starts)
}

// reported is the outbox.
func (w *world) reported() []task.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.outbox)
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
)

// departure is how long the tasks of a host that goes down are given here.
const departure = 2 * time.Minute

// goingDown is an engine whose tasks need some time to stop.
type goingDown struct {
	tasks  []engine.Task
	takes  map[string]time.Duration // forever when it is not there
	ends   map[string]time.Time
	told   []string
	unsent time.Duration // how long ECS needs once all have stopped; zero is for ever
	all    time.Time     // when all had stopped
	refuse error
	// immortal ones do not end when they are killed.
	immortal bool
	began    time.Time
}

func newTask(id string, desired task.ReportStatus) engine.Task {
	t := engine.Task{Desired: desired}
	t.State.Definition.ID = id
	return t
}

func (g *goingDown) list() []engine.Task {
	running := false
	for i := range g.tasks {
		t := &g.tasks[i]
		if end, ok := g.ends[t.ID()]; ok && !end.After(time.Now()) {
			t.State.StoppedAt = end
		}
		running = running || t.State.StoppedAt.IsZero()
	}
	if !running && g.all.IsZero() {
		g.all = time.Now()
	}
	return slices.Clone(g.tasks)
}

func (g *goingDown) stop(_ context.Context, id, reason string) error {
	if g.refuse != nil {
		return g.refuse
	}
	g.told = append(g.told, id+": "+reason)
	for i := range g.tasks {
		if g.tasks[i].ID() == id {
			g.tasks[i].Desired = task.ReportStopped
		}
	}
	if takes, ok := g.takes[id]; ok {
		g.ends[id] = time.Now().Add(takes)
	}
	return nil
}

func (g *goingDown) kill(context.Context) {
	g.told = append(g.told, fmt.Sprintf("killed after %s", time.Since(g.began).Round(time.Second)))
	for i := range g.tasks {
		if !g.immortal {
			g.ends[g.tasks[i].ID()] = time.Now()
		}
	}
}

func (g *goingDown) pending() int {
	if g.unsent > 0 && !g.all.IsZero() && time.Since(g.all) >= g.unsent {
		return 0
	}
	return 1
}

func TestFarewell(t *testing.T) {
	broken := errors.New("disk full")
	for _, tt := range []struct {
		name   string
		world  goingDown
		told   []string
		within time.Duration
		err    error
	}{
		{
			"each task is told once",
			goingDown{
				tasks: []engine.Task{newTask("a", task.ReportRunning), newTask("b", task.ReportRunning)},
				takes: map[string]time.Duration{"a": 30 * time.Second, "b": time.Second}, unsent: time.Millisecond,
			},
			[]string{"a: Host is shutting down", "b: Host is shutting down"},
			31 * time.Second, nil,
		},
		{
			"one that is stopping is waited for",
			goingDown{
				tasks: []engine.Task{newTask("a", task.ReportStopped)},
				ends:  map[string]time.Time{"a": time.Date(2000, 1, 1, 0, 0, 9, 0, time.UTC)}, unsent: time.Millisecond,
			},
			nil, 10 * time.Second, nil,
		},
		{
			"ECS does not answer",
			goingDown{
				tasks: []engine.Task{newTask("a", task.ReportRunning)}, takes: map[string]time.Duration{"a": time.Second},
			},
			[]string{"a: Host is shutting down"},
			lastWords + 2*time.Second, nil,
		},
		{
			"a task that does not stop when it is killed",
			goingDown{tasks: []engine.Task{newTask("a", task.ReportRunning)}, immortal: true},
			[]string{"a: Host is shutting down", "killed after 1m55s"},
			departure + time.Second, errLate,
		},
		{
			"a task that has to be killed",
			goingDown{tasks: []engine.Task{newTask("a", task.ReportRunning)}, unsent: time.Millisecond},
			[]string{"a: Host is shutting down", "killed after 1m55s"},
			departure - 4*time.Second, nil,
		},
		{
			"a task that was forgotten meanwhile",
			goingDown{
				tasks:  []engine.Task{newTask("a", task.ReportRunning)},
				refuse: fmt.Errorf("cannot stop task a: %w", engine.ErrUnknownTask), immortal: true,
			},
			[]string{"killed after 1m55s"},
			departure + time.Second, errLate,
		},
		{
			"a wish that cannot be written",
			goingDown{tasks: []engine.Task{newTask("a", task.ReportRunning)}, refuse: broken},
			nil, time.Second, broken,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &tt.world
				if g.ends == nil {
					g.ends = map[string]time.Time{}
				}
				begun, waits := time.Now(), 0
				g.began = begun
				err := farewell{within: departure, tasks: g.list, stop: g.stop, unsent: g.pending, wait: func() { waits++ }, kill: g.kill}.say(t.Context())
				if !errors.Is(err, tt.err) {
					t.Errorf("say = %v, want %v", err, tt.err)
				}
				took := time.Since(begun)
				if took > tt.within {
					t.Errorf("it took %s, want at most %s", took, tt.within)
				}
				if want := int(took / (100 * time.Millisecond)); waits < want {
					t.Errorf("systemd was asked for time %d times in %s", waits, took)
				}
				if !slices.Equal(g.told, tt.told) {
					t.Errorf("told %q, want %q", g.told, tt.told)
				}
			})
		})
	}
}

// TestRunPartsLeavesWhileAllRun: only an end from without is a departure, and
// every part is there for it.
func TestRunPartsLeavesWhileAllRun(t *testing.T) {
	var log []string
	waiting := func(name string) part {
		return part{name, func(ctx context.Context) error {
			<-ctx.Done()
			log = append(log, name)
			return context.Cause(ctx)
		}}
	}
	leave := func(ctx context.Context) {
		if ctx.Err() != nil {
			t.Error("the context of leaving has ended")
		}
		log = append(log, "leave")
	}
	reason := errors.New("told to")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if err := runParts(ctx, []part{waiting("first"), waiting("second")}, leave); !errors.Is(err, reason) {
		t.Errorf("runParts = %v, want %v", err, reason)
	}
	if want := []string{"leave", "second", "first"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}

	log = nil
	broken := errors.New("broken")
	breaks := part{"breaks", func(context.Context) error { return broken }}
	if err := runParts(t.Context(), []part{waiting("first"), breaks}, leave); !errors.Is(err, broken) {
		t.Errorf("runParts = %v, want %v", err, broken)
	}
	if want := []string{"first"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}
}

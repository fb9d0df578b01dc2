package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// checked is a task whose health check is probed every ten seconds, for at most
// four, and fails three times before it counts.
func checked(id string) task.Definition {
	d := web(id, 0)
	d.Containers[0].ReportHealth = true
	d.Containers[0].HealthCheck = &container.Healthcheck{
		Test: []string{"CMD", "check"}, Interval: 10 * time.Second, Timeout: 4 * time.Second, StartPeriod: 25 * time.Second,
	}
	return d
}

// patient is a container whose checks answer as told, and count.
type patient struct {
	mu     sync.Mutex // guards answer and probes
	answer func(ctx context.Context, req container.ExecRequest) (int, error)
	probes []time.Time
	under  atomic.Int32
	most   atomic.Int32 // that were under way at once
}

func (p *patient) says(f func(ctx context.Context, req container.ExecRequest) (int, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

func (p *patient) script(container.Spec) fakert.Script {
	return fakert.Script{Exec: func(ctx context.Context, req container.ExecRequest) (int, error) {
		p.most.Store(max(p.most.Load(), p.under.Add(1)))
		defer p.under.Add(-1)
		p.mu.Lock()
		answer := p.answer
		p.probes = append(p.probes, time.Now())
		p.mu.Unlock()
		return answer(ctx, req)
	}}
}

func (p *patient) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.probes)
}

func well(context.Context, container.ExecRequest) (int, error) { return 0, nil }

func ill(_ context.Context, req container.ExecRequest) (int, error) {
	_, out := io.WriteString(req.Stdout, "no page")
	_, err := io.WriteString(req.Stderr, " for you")
	return 7, errors.Join(out, err)
}

func hangs(ctx context.Context, req container.ExecRequest) (int, error) {
	_, err := io.WriteString(req.Stdout, "still looking")
	<-ctx.Done()
	return 137, err
}

// health is what is known of the container's.
func health(t *testing.T, e *Engine) string {
	t.Helper()
	c := e.Tasks()[0].State.Containers[0]
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", c.Health, c.Check.ExitCode, c.Check.Output))
}

// TestHealth follows a check through everything it may say.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &patient{answer: ill}
		w := newWorld(p.script)
		e, stop := w.start(t, nil)
		defer stop()
		began := time.Now()
		begin(t, e, checked("a1"))
		for _, step := range []struct {
			answer func(ctx context.Context, req container.ExecRequest) (int, error)
			at     time.Duration // since the start
			want   string
		}{
			{ill, 45 * time.Second, "UNKNOWN 0"}, // Those at 10 and 20 s are in the start period.
			{ill, 55 * time.Second, "UNHEALTHY 7 no page for you"},
			{well, 65 * time.Second, "HEALTHY 0"},
			{ill, 88 * time.Second, "HEALTHY 0"}, // Twice is not three times.
			{well, 95 * time.Second, "HEALTHY 0"},
			{hangs, 125 * time.Second, "HEALTHY 0"},
			{hangs, 155 * time.Second, "UNHEALTHY -1 Health check exceeded timeout (4s): still looking"},
			{func(context.Context, container.ExecRequest) (int, error) {
				return 0, container.Errorf(container.KindStart, "no such program: %s", strings.Repeat("ä", 2000))
			}, 165 * time.Second, "UNHEALTHY -1 Health check exceeded timeout (4s): still looking"},
			{well, 180 * time.Second, "HEALTHY 0"},
		} {
			p.says(step.answer)
			time.Sleep(time.Until(began.Add(step.at)))
			synctest.Wait()
			if got := health(t, e); got != step.want {
				t.Errorf("after %s: %q, want %q", step.at, got, step.want)
			}
		}
		if p.most.Load() != 1 {
			t.Errorf("%d probes at once", p.most.Load())
		}
		if first := p.probes[0].Sub(began); first != 10*time.Second {
			t.Errorf("the first probe came after %s", first)
		}
		// A stop ends the probing, one under way too.
		p.says(hangs)
		time.Sleep(11 * time.Second)
		if err := e.Stop(t.Context(), checked("a1").ARN); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := p.count()
		time.Sleep(time.Minute)
		if got := w.reports(checked("a1").ARN); got[len(got)-1] != "STOPPED, web STOPPED exit 143" || p.count() != before || p.under.Load() != 0 {
			t.Errorf("after the stop %d more probes, %d under way, reports %q", p.count()-before, p.under.Load(), got)
		}
	})
}

// TestHealthOutput: what a check says is cut, and is text.
func TestHealthOutput(t *testing.T) {
	for _, tc := range []struct {
		said string
		want int // characters
	}{
		{"", 0},
		{strings.Repeat("ä", 2000), maxOutput},
		{"\xff" + strings.Repeat("x", maxOutput), maxOutput},
		{strings.Repeat("𝄞", 1500), maxOutput},
	} {
		var h head
		for chunk := range slices.Chunk([]byte(tc.said), 333) {
			if n, err := h.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		got := h.text()
		if n := len([]rune(got)); n != tc.want || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%.10q…: %d characters, want %d", tc.said, n, tc.want)
		}
	}
}

// TestHealthAcrossLives: an agent that is started again goes on probing, holds the
// verdict until it has one of its own, and bears a runtime that is away.
func TestHealthAcrossLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &patient{answer: well}
		w := newWorld(p.script)
		e, stop := w.start(t, nil)
		begin(t, e, checked("a1"))
		time.Sleep(15 * time.Second)
		p.says(ill)
		stop()
		e, stop = w.start(t, nil)
		defer stop()
		time.Sleep(15 * time.Second)
		if got := health(t, e); got != "HEALTHY 0" {
			t.Errorf("after a restart and a failure or two: %s", got)
		}
		w.runtime.Break()
		time.Sleep(time.Minute)
		if got := health(t, e); got != "HEALTHY 0" {
			t.Errorf("while the runtime is away: %s", got)
		}
		w.runtime.Mend()
		time.Sleep(time.Minute)
		if got := health(t, e); got != "UNHEALTHY 7 no page for you" {
			t.Errorf("when the runtime is back: %s", got)
		}
	})
}

// TestHealthOfImage: the image's own check counts where the task has none.
func TestHealthOfImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.runtime = fakert.New(fakert.Config{
			Image: func(container.PullRequest) fakert.Image {
				return fakert.Image{Config: container.Image{
					Healthcheck: &container.Healthcheck{Test: []string{"CMD-SHELL", "look"}, Interval: time.Minute}, Shell: []string{"/bin/ash", "-c"},
				}}
			},
		})
		e, stop := w.start(t, nil)
		begin(t, e, web("a1", 0))
		stop()
		e, stop = w.start(t, nil) // The image is not asked for again.
		defer stop()
		time.Sleep(2 * time.Minute)
		probe := "exec " + RuntimeID(web("a1", 0).ARN, "web") + " /bin/ash -c look"
		if got := health(t, e); got != "HEALTHY 0" || !slices.Contains(w.runtime.Calls(), probe) {
			t.Errorf("%s by %q", got, w.runtime.Calls())
		}
	})
}

// side is the Agents of the tests.
type side struct {
	w   *world
	err error
}

func (s side) Outfit(context.Context, *task.Definition, *task.Container, task.ManagedAgent) ([]container.Mount, error) {
	return []container.Mount{{Type: "bind", Source: "/agent", Destination: "/agent"}}, s.err
}

func (side) Command(*task.Definition, *task.Container, task.ManagedAgent) []string {
	return []string{"/agent/run"}
}

func (s side) Remove(context.Context, *task.Definition) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.effects = append(s.w.effects, "remove agents")
	return nil
}

// managed is a task with the agent of ECS Exec.
func managed(id string) task.Definition {
	d := web(id, 0)
	d.Containers[0].ManagedAgents = []task.ManagedAgent{{Name: "ExecuteCommandAgent"}}
	return d
}

// told are what ECS heard of managed agents, in order.
func told(w *world) []string {
	var all []string
	for _, c := range w.reported() {
		for _, a := range c.ManagedAgents {
			all = append(all, fmt.Sprintf("%s %s %s", a.Container, a.Status, a.Reason))
		}
	}
	return all
}

// TestManagedAgent: it is started once, outlives the agent, is started again when
// it dies, and ends with its container.
func TestManagedAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		die := make(chan struct{})
		w := newWorld(func(container.Spec) fakert.Script {
			return fakert.Script{Exec: func(ctx context.Context, req container.ExecRequest) (int, error) {
				if req.User != "0" || !slices.Equal(req.Args, []string{"/agent/run"}) {
					t.Errorf("exec of %+v", req)
				}
				runs.Add(1)
				select {
				case <-die:
					return 9, nil
				case <-ctx.Done():
					return 137, nil
				}
			}}
		})
		with := func(c *Config) { c.Agents = side{w: w} }
		e, stop := w.start(t, with)
		begin(t, e, managed("a1"))
		time.Sleep(time.Minute)
		stop()
		e, stop = w.start(t, with)
		defer stop()
		time.Sleep(time.Minute)
		if n := runs.Load(); n != 1 {
			t.Errorf("it was started %d times", n)
		}
		die <- struct{}{}
		time.Sleep(time.Minute)
		if n := runs.Load(); n != 2 {
			t.Errorf("when it died it was started %d times", n)
		}
		if err := e.Stop(t.Context(), managed("a1").ARN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		want := []string{"web RUNNING ExecuteCommandAgent started", "web RUNNING ExecuteCommandAgent restarted", "web STOPPED Received Container Stopped event"}
		if diff := cmp.Diff(want, told(w)); diff != "" {
			t.Error(diff)
		}
		if !slices.Contains(w.effects, "remove agents") {
			t.Error("what was made for it on the host stays")
		}
		if left := w.remains(t.Context()); left != nil {
			t.Errorf("left: %v", left)
		}
	})
}

// TestManagedAgentFails: whatever becomes of it, the container runs.
func TestManagedAgentFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		exec   func(context.Context, container.ExecRequest) (int, error)
		outfit error
		want   string
		runs   int32
	}{
		{
			"exits", func(context.Context, container.ExecRequest) (int, error) { return 3, nil }, nil,
			"web STOPPED ExecuteCommandAgent process exited with exit code: 3", agentAttempts,
		},
		{
			"cannot be run", func(context.Context, container.ExecRequest) (int, error) {
				return 0, container.Errorf(container.KindStart, "exec format error")
			}, nil, "web STOPPED unable to start ExecuteCommandAgent [create]: exec format error", agentAttempts,
		},
		{
			"cannot be fitted out", well, errors.New("no complete version"),
			"web STOPPED ExecuteCommandAgent Initialization failed - no complete version", 0,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int32
				w := newWorld(func(container.Spec) fakert.Script {
					return fakert.Script{Exec: func(ctx context.Context, req container.ExecRequest) (int, error) {
						runs.Add(1)
						return tc.exec(ctx, req)
					}}
				})
				e, stop := w.start(t, func(c *Config) { c.Agents = side{w: w, err: tc.outfit} })
				defer stop()
				begin(t, e, managed("a1"))
				time.Sleep(5 * time.Minute)
				if diff := cmp.Diff([]string{tc.want}, told(w)); diff != "" || runs.Load() != tc.runs {
					t.Errorf("started %d times, want %d; %s", runs.Load(), tc.runs, diff)
				}
				if got := e.Running(); len(got) != 1 {
					t.Errorf("running: %v", got)
				}
			})
		})
	}
}

// TestHolderComesBack: a holder that somebody killed is made again before a
// container is restarted that needs it.
func TestHolderComesBack(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		d.PID, d.IPC = "task", "task"
		d.Containers[0].Restart = &task.RestartPolicy{}
		d.Containers[0].Spec.Limits.ShmSize = 1 << 20
		begin(t, e, d)
		id := RuntimeID(d.ARN, "web")
		for _, victim := range []string{holderID(&d), id} {
			if err := w.runtime.Signal(t.Context(), victim, 9, true); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		statuses, err := w.runtime.List(t.Context(), holderID(&d), id)
		if err != nil || len(statuses) != 2 || statuses[0].Phase != container.Running || statuses[1].Phase != container.Running {
			t.Fatalf("%+v, %v", statuses, err)
		}
		if got := w.reports(d.ARN); slices.ContainsFunc(got, func(r string) bool { return strings.Contains(r, "pause") }) {
			t.Errorf("ECS heard of it: %q", got)
		}
		if c := e.Tasks()[0].State.Containers[0]; c.Restarts.Count != 1 {
			t.Errorf("%d restarts", c.Restarts.Count)
		}
	})
}

package drain_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/drain"
)

// world is ECS, EC2 and the tasks of one host; what is kept outlives a Drainer.
type world struct {
	mu       sync.Mutex
	kept     drain.State
	asked    []string // statuses asked for, with the second
	refuse   error
	metadata map[string]string
	tasks    []string
	stopped  []string
	outside  bool // ECS does not know the host yet
	told     []string
	began    time.Time
	holds    drain.Status // what ECS holds of the host
	blind    error        // why it does not say that
}

func (w *world) at() string { return fmt.Sprintf("%ds", int(time.Since(w.began).Seconds())) }

func (w *world) Get(_ context.Context, path string) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.metadata[path]
	if v == "broken" {
		return "", false, errors.New("metadata stumbles")
	}
	return v, ok, nil
}

func (w *world) Running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tasks)
}

func (w *world) Stop(_ context.Context, id, reason string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = append(w.stopped, w.at()+" "+id+": "+reason)
	w.tasks = slices.DeleteFunc(w.tasks, func(t string) bool { return t == id })
	return nil
}

// seen is a copy of one of the lists.
func (w *world) seen(list *[]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(*list)
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// start runs a Drainer on what is kept, and answers it with how to kill it.
func (w *world) start(t *testing.T) (*drain.Drainer, func()) {
	t.Helper()
	d := drain.New(drain.Config{
		Saved: w.kept, Tasks: w, Metadata: w, Spot: true, Joined: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return !w.outside }, Log: zap.NewNop(),
		Keep: func(s drain.State) error { w.set(func() { w.kept = s }); return nil },
		Set: func(_ context.Context, s drain.Status) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refuse == nil {
				w.asked = append(w.asked, w.at()+" "+string(s))
				w.holds = s
			}
			return w.refuse
		},
		Get: func(context.Context) (drain.Status, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.holds, w.blind
		},
		Tell: func(what, detail string) { w.set(func() { w.told = append(w.told, what+": "+detail) }) },
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	killed := errors.New("the test kills it")
	return d, func() {
		cancel(killed)
		if err := <-done; !errors.Is(err, killed) {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func wait(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func newWorld() *world {
	return &world{metadata: map[string]string{}, began: time.Now(), holds: drain.Active}
}

func TestPersonDrainsAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.tasks = []string{"a", "b"}
		d, kill := w.start(t)
		defer kill()
		if err := d.Drain("new kernel", -1); err != nil {
			t.Fatal(err)
		}
		wait(time.Hour)
		equal(t, "asked", w.seen(&w.asked), "0s DRAINING")
		equal(t, "stopped", w.seen(&w.stopped))
		if s := d.State(); !s.Accepted || s.By != drain.Person || s.Reason != "new kernel" {
			t.Errorf("the state is %+v", s)
		}
		if err := d.Cancel("done"); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		equal(t, "asked", w.seen(&w.asked), "0s DRAINING", "3600s ACTIVE")
	})
}

func TestDeadlineStopsWhatStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.tasks = []string{"a"}
		d, kill := w.start(t)
		if err := d.Drain("x", 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		wait(5 * time.Minute)
		kill() // The deadline is the host's, not the agent's.
		_, kill = w.start(t)
		defer kill()
		wait(299 * time.Second)
		equal(t, "stopped", w.seen(&w.stopped))
		wait(2 * time.Second)
		equal(t, "stopped", w.seen(&w.stopped), "600s a: Host is draining: x")
		w.set(func() { w.tasks = []string{"late"} })
		wait(2 * time.Second)
		if len(w.seen(&w.stopped)) != 2 {
			t.Errorf("a task that came late was not stopped: %q", w.stopped)
		}
	})
}

func TestOrderIsAskedForUntilAcceptedAlsoByTheNextAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.refuse = errors.New("ECS is away")
		d, kill := w.start(t)
		if err := d.Drain("x", -1); err != nil {
			t.Fatal(err)
		}
		wait(30 * time.Second)
		if s := d.State(); s.Accepted || s.Trouble != "ECS is away" {
			t.Errorf("the state is %+v", s)
		}
		kill()
		d, kill = w.start(t)
		defer kill()
		wait(3 * time.Second)
		w.set(func() { w.refuse = nil })
		wait(5 * time.Second)
		if len(w.seen(&w.asked)) != 1 || !d.State().Accepted || d.State().Trouble != "" {
			t.Errorf("asked %q, state %+v", w.seen(&w.asked), d.State())
		}
	})
}

func TestSpotNotice(t *testing.T) {
	notice := func(action string, in time.Duration) string {
		return fmt.Sprintf(`{"action": %q, "time": %q}`, action, time.Now().Add(in).UTC().Format(time.RFC3339))
	}
	tests := []struct {
		name, action string
		in           time.Duration
		stopped      int
		back         bool
	}{
		{"terminate", "terminate", 2 * time.Minute, 1, false},
		{"stop", "stop", 2 * time.Minute, 1, true},
		{"hibernate", "hibernate", 2 * time.Minute, 0, true},
		{"of the past", "terminate", -time.Hour, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.tasks = []string{"a"}
				_, kill := w.start(t)
				wait(2500 * time.Millisecond)
				w.set(func() { w.metadata["spot/instance-action"] = notice(tt.action, tt.in) })
				wait(time.Second)
				equal(t, "asked", w.seen(&w.asked), "3s DRAINING")
				wait(80 * time.Second)
				equal(t, "stopped before its time", w.seen(&w.stopped))
				kill() // The interruption, and the next boot.
				_, kill = w.start(t)
				defer kill()
				wait(2 * time.Minute)
				if len(w.seen(&w.stopped)) != tt.stopped {
					t.Errorf("stopped %q, want %d", w.seen(&w.stopped), tt.stopped)
				}
				equal(t, "asked while the notice stands", w.seen(&w.asked), "3s DRAINING")
				w.set(func() { delete(w.metadata, "spot/instance-action") })
				wait(10 * time.Second)
				if got := len(w.seen(&w.asked)) == 2 && strings.HasSuffix(w.seen(&w.asked)[1], "ACTIVE"); got != tt.back {
					t.Errorf("asked %q, want back in service: %t", w.seen(&w.asked), tt.back)
				}
			})
		})
	}
}

func TestCancelOverrulesTheSameNotice(t *testing.T) {
	for path, value := range map[string]string{
		"spot/instance-action":                `{"action":"hibernate","time":"2001-01-01T00:00:00Z"}`,
		"events/recommendations/rebalance":    `{"noticeTime":"2000-01-01T00:00:00Z"}`,
		"autoscaling/target-lifecycle-state":  "Terminated",
		"autoscaling/target-lifecycle-state ": "Warmed:Stopped",
	} {
		t.Run(strings.ReplaceAll(path, "/", " "), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.metadata[strings.TrimSpace(path)] = value
				d, kill := w.start(t)
				defer kill()
				wait(10 * time.Second)
				equal(t, "asked", w.seen(&w.asked), "0s DRAINING")
				if err := d.Cancel("I know better"); err != nil {
					t.Fatal(err)
				}
				wait(time.Minute)
				equal(t, "asked", w.seen(&w.asked), "0s DRAINING", "10s ACTIVE")
			})
		})
	}
}

func TestGroupTakesTheInstanceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.metadata["autoscaling/target-lifecycle-state"] = "InService"
		d, kill := w.start(t)
		defer kill()
		wait(59500 * time.Millisecond)
		equal(t, "asked", w.seen(&w.asked))
		w.set(func() { w.metadata["autoscaling/target-lifecycle-state"] = "Warmed:Hibernated" })
		wait(6 * time.Second)
		w.set(func() { w.metadata["autoscaling/target-lifecycle-state"] = "InService" })
		wait(6 * time.Second)
		equal(t, "asked", w.seen(&w.asked), "60s DRAINING", "70s ACTIVE")
		// What a person began, the group does not end.
		if err := d.Drain("mine", -1); err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.metadata["autoscaling/target-lifecycle-state"] = "Terminated" })
		wait(6 * time.Second)
		w.set(func() { w.metadata["autoscaling/target-lifecycle-state"] = "InService" })
		wait(6 * time.Second)
		if len(w.seen(&w.asked)) != 3 || d.State().Reason != "mine" {
			t.Errorf("asked %q, state %+v", w.seen(&w.asked), d.State())
		}
	})
}

func TestPoolBeforeTheFirstServiceIsNoDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.outside = true
		w.metadata["autoscaling/target-lifecycle-state"] = "Warmed:Stopped"
		d, kill := w.start(t)
		defer kill()
		wait(time.Minute)
		if s := d.State(); s.Status != "" {
			t.Errorf("the state is %+v", s)
		}
		w.set(func() { w.outside = false })
		wait(10 * time.Second)
		if s := d.State(); s.Status != drain.Draining {
			t.Errorf("the state of a host that has joined is %+v", s)
		}
	})
}

func TestSpotShortensAPersonsDeadlineAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d, kill := w.start(t)
		defer kill()
		if err := d.Drain("mine", time.Hour); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(2 * time.Minute).UTC().Truncate(time.Second)
		w.set(func() {
			w.metadata["spot/instance-action"] = fmt.Sprintf(`{"action":"terminate","time":%q}`, at.Format(time.RFC3339))
		})
		wait(2 * time.Second)
		if s := d.State(); s.By != drain.Person || !s.StopAt.Equal(at.Add(-30*time.Second)) {
			t.Errorf("the state is %+v", s)
		}
		equal(t, "asked", w.seen(&w.asked), "0s DRAINING")
	})
}

func TestNonsenseOfMetadataDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, kill := w.start(t)
		defer kill()
		for _, text := range []string{"broken", "<html>", `{"action":"dance","time":"2000-01-01T00:00:00Z"}`, `{"action":"stop","time":"soon"}`} {
			w.set(func() { w.metadata["spot/instance-action"] = text })
			wait(10 * time.Second)
		}
		equal(t, "asked", w.seen(&w.asked))
		w.set(func() { w.metadata["spot/instance-action"] = `{"action":"stop","time":"2000-01-01T00:00:00Z"}` })
		wait(2 * time.Second)
		if len(w.seen(&w.asked)) != 1 {
			t.Errorf("asked %q after metadata recovered", w.asked)
		}
	})
}

func TestInService(t *testing.T) {
	type step struct {
		after time.Duration
		state string // "" is not set
	}
	tests := []struct {
		name   string
		joined bool
		steps  []step
		want   time.Duration
	}{
		{"in service", false, []step{{0, "InService"}}, 0},
		{"from the pool", false, []step{{0, "Warmed:Stopped"}, {3 * time.Hour, "InService"}}, 3 * time.Hour},
		{"not told yet", false, []step{{0, ""}, {time.Hour, "Warmed:Stopped"}, {2 * time.Hour, "InService"}}, 2 * time.Hour},
		{"in no group", false, []step{{0, ""}}, 2 * time.Hour},
		{"not set for a moment", false, []step{{0, "Warmed:Running"}, {time.Minute, ""}, {2 * time.Minute, "Warmed:Running"}, {time.Hour, "InService"}}, time.Hour},
		{"detached", false, []step{{0, "Warmed:Running"}, {time.Minute, ""}}, 11 * time.Minute},
		{"metadata stumbles", false, []step{{0, "broken"}, {5 * time.Hour, "InService"}}, 5 * time.Hour},
		{"to be terminated, never joined", false, []step{{0, "Terminated"}, {time.Hour, "InService"}}, time.Hour},
		{"to be terminated, with tasks", true, []step{{0, "Terminated"}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				done := make(chan error, 1)
				for _, s := range tt.steps {
					timer := time.AfterFunc(s.after, func() {
						w.set(func() {
							if w.metadata["autoscaling/target-lifecycle-state"] = s.state; s.state == "" {
								delete(w.metadata, "autoscaling/target-lifecycle-state")
							}
						})
					})
					defer timer.Stop()
				}
				synctest.Wait()
				began := time.Now()
				go func() { done <- drain.InService(t.Context(), w, tt.joined, zap.NewNop()) }()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began); got < tt.want || got > tt.want+10*time.Second {
					t.Errorf("waited %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestInServiceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("SIGTERM")
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(time.Minute, func() { cancel(stop) })
		defer timer.Stop()
		if err := drain.InService(ctx, newWorld(), false, zap.NewNop()); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	})
}

package drain_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/drain"
)

// A host goes down in one boot and is up in the next; what it was before, it is again.
func TestHostGoesDownAndIsUpAgain(t *testing.T) {
	broken := errors.New("no route to host")
	for _, tt := range []struct {
		name string
		// before is done before the host goes down, between after it did, and after before it is up.
		before, between, after func(*testing.T, *world, *drain.Drainer)
		asked                  []string
		shown                  drain.State // while it goes down: Status, By and Accepted
		end                    drain.State
	}{
		{
			name:  "in service",
			asked: []string{"1s DRAINING", "62s ACTIVE"},
			shown: drain.State{Status: drain.Draining, By: drain.Shutdown, Accepted: true},
			end:   drain.State{Status: drain.Active, By: drain.Shutdown, Accepted: true},
		},
		{
			name: "drained by a person at the host",
			before: func(t *testing.T, _ *world, d *drain.Drainer) {
				t.Helper()
				order(t, d.Drain("new kernel", -1))
			},
			asked: []string{"0s DRAINING"},
			shown: drain.State{Status: drain.Draining, By: drain.Person, Accepted: true},
			end:   drain.State{Status: drain.Draining, By: drain.Person, Accepted: true},
		},
		{
			name:   "drained by somebody at the console",
			before: func(_ *testing.T, w *world, _ *drain.Drainer) { w.set(func() { w.holds = drain.Draining }) },
			shown:  drain.State{Status: drain.Draining, By: drain.Shutdown, Accepted: true},
		},
		{
			name:   "ECS does not say what it holds",
			before: func(_ *testing.T, w *world, _ *drain.Drainer) { w.set(func() { w.blind = broken }) },
			shown:  drain.State{Status: drain.Draining, By: drain.Shutdown},
		},
		{
			name:    "ECS accepts it late",
			before:  func(_ *testing.T, w *world, _ *drain.Drainer) { w.set(func() { w.refuse = broken }) },
			between: func(_ *testing.T, w *world, _ *drain.Drainer) { w.set(func() { w.refuse = nil }) },
			asked:   []string{"2s DRAINING", "62s ACTIVE"},
			shown:   drain.State{Status: drain.Draining, By: drain.Shutdown},
			end:     drain.State{Status: drain.Active, By: drain.Shutdown, Accepted: true},
		},
		{
			name:   "not of the cluster yet",
			before: func(_ *testing.T, w *world, _ *drain.Drainer) { w.set(func() { w.outside, w.blind = true, broken }) },
			shown:  drain.State{Status: drain.Draining, By: drain.Shutdown},
		},
		{
			name: "drained while it goes down",
			after: func(t *testing.T, _ *world, d *drain.Drainer) {
				t.Helper()
				order(t, d.Drain("and stays so", -1))
			},
			asked: []string{"1s DRAINING", "61s DRAINING"},
			shown: drain.State{Status: drain.Draining, By: drain.Shutdown, Accepted: true},
			end:   drain.State{Status: drain.Draining, By: drain.Person, Accepted: true},
		},
		{
			name: "its drain cancelled while it goes down",
			before: func(t *testing.T, _ *world, d *drain.Drainer) {
				t.Helper()
				order(t, d.Drain("new kernel", -1))
			},
			after: func(t *testing.T, _ *world, d *drain.Drainer) {
				t.Helper()
				order(t, d.Cancel("done"))
			},
			// ECS held it DRAINING because of the order that is cancelled now.
			asked: []string{"0s DRAINING", "62s ACTIVE"},
			shown: drain.State{Status: drain.Draining, By: drain.Person, Accepted: true},
			end:   drain.State{Status: drain.Active, By: drain.Person, Accepted: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				d, kill := w.start(t)
				do := func(f func(*testing.T, *world, *drain.Drainer)) {
					t.Helper()
					if f != nil {
						f(t, w, d)
					}
				}
				do(tt.before)
				wait(time.Second)
				began := time.Now()
				order(t, d.GoingDown(t.Context(), "boot 1"))
				if took := time.Since(began); took > time.Second {
					t.Errorf("it waited %s for ECS, which had answered", took)
				}
				same(t, "while it goes down", d.State().Effective(), tt.shown)
				do(tt.between)
				wait(time.Minute - time.Since(began))
				kill()
				d, kill = w.start(t) // The agent is another one, and may be told once more.
				order(t, d.GoingDown(t.Context(), "boot 1"))
				do(tt.after)
				wait(time.Second)
				if d.Down() != "boot 1" {
					t.Errorf("it went down in %q", d.Down())
				}
				order(t, d.Up())
				order(t, d.Up())
				wait(time.Second)
				equal(t, "asked", w.seen(&w.asked), tt.asked...)
				same(t, "in the end", d.State(), tt.end)
				kill()
				if w.kept.Down != nil {
					t.Errorf("kept: %+v", w.kept)
				}
			})
		})
	}
}

func order(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, when string, got, want drain.State) {
	t.Helper()
	if got.Status != want.Status || got.By != want.By || got.Accepted != want.Accepted {
		t.Errorf("%s: %s by %q, accepted %t; want %s by %q, accepted %t", when, got.Status, got.By, got.Accepted, want.Status, want.By, want.Accepted)
	}
}

// An ECS that does not answer holds up no shutdown for long.
func TestHostThatGoesDownWaitsAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drain.New(drain.Config{Keep: func(drain.State) error { return nil }})
		began := time.Now()
		order(t, d.GoingDown(t.Context(), "boot 1"))
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

// A host that goes down again before it was put back is put back to what it was in the beginning.
func TestHostGoesDownTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d, kill := w.start(t)
		order(t, d.GoingDown(t.Context(), "boot 1"))
		order(t, d.GoingDown(t.Context(), "boot 2"))
		if d.Down() != "boot 2" {
			t.Errorf("it goes down in %q", d.Down())
		}
		order(t, d.Up())
		wait(time.Second)
		kill()
		equal(t, "asked", w.seen(&w.asked), "0s DRAINING", "0s DRAINING", "0s ACTIVE")
	})
}

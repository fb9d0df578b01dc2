package engine

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestLostRecord ends a task whose record cannot be read: ECS is told, and
// neither its container nor its cgroup stays.
func TestLostRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		e, stop := w.start(t, nil)
		lost, kept := web("a1", 0), web("b2", 0)
		for _, d := range []string{"a1", "b2"} {
			if err := e.Accept(t.Context(), web(d, 0)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		stop()
		w.mu.Lock()
		w.records[lost.ID] = []byte("damaged")
		w.mu.Unlock()
		_, stop = w.start(t, nil)
		defer stop()
		time.Sleep(time.Second)

		reports := w.reports(lost.ARN)
		if want := `STOPPED "the agent has lost its record of this task"`; !slices.Contains(reports, want) {
			t.Errorf("ECS was told %q", reports)
		}
		statuses, err := w.runtime.List(t.Context())
		if err != nil || len(statuses) != 1 || statuses[0].ID != RuntimeID(kept.ARN, "web") {
			t.Errorf("containers %+v, %v; want that of task %s", statuses, err, kept.ID)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, there := w.cgroups[kept.ID]; !there || len(w.cgroups) != 1 {
			t.Errorf("cgroups %v, want that of task %s", w.cgroups, kept.ID)
		}
	})
}

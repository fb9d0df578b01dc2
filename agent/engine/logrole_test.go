package engine

import (
	"strings"
	"testing"
)

// A log driver that is to sign with an execution role that the task does not have
// fails the container, in ECS's words (spec/task-engine.md §5.10).
func TestLogRoleThatIsNotThere(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		d.Containers[0].Log.ExecutionRole = true
		begin(t, e, d)
		if got := strings.Join(w.reports(d.ARN), "\n"); !strings.Contains(got, "HostConfigError: No execution credentials set for the task") {
			t.Errorf("reports: %s", got)
		}
	})
}

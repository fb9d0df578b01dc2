package resources

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/berthd/berth/agent/task"
)

// released are the tasks whose faults were ended.
type released struct {
	tasks []string
	err   error
}

func (r *released) Release(_ context.Context, id string) error {
	r.tasks = append(r.tasks, id)
	return r.err
}

// TestFaultsEnd: when a task that may have them stops, and when it is cleaned up;
// others are not asked about.
func TestFaultsEnd(t *testing.T) {
	faults := &released{}
	r := New(Config{Faults: faults})
	for _, d := range []*task.Definition{
		{ID: "host", Network: task.NetworkHost, FaultInjection: true},
		{ID: "other", Network: task.NetworkHost},
		{ID: "vpc", Network: task.NetworkAWSVPC, FaultInjection: true},
	} {
		if _, err := r.Provision(t.Context(), Task{Definition: d}); err != nil {
			t.Error(err)
		}
		if err := errors.Join(r.Release(t.Context(), d), r.Remove(t.Context(), d)); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"host", "host"}; !slices.Equal(faults.tasks, want) {
		t.Errorf("ended the faults of %v", faults.tasks)
	}
	faults.err = errors.New("no")
	if err := r.Release(t.Context(), &task.Definition{ID: "host", Network: task.NetworkHost, FaultInjection: true}); !errors.Is(err, faults.err) {
		t.Errorf("a failure is not told: %v", err)
	}
}

package resources

import (
	"context"

	"github.com/berthd/berth/agent/task"
)

// Faults makes network faults.
type Faults interface {
	// Release ends those of a task in the host's network namespace.
	Release(ctx context.Context, taskID string) error
}

// networkFaults ends the faults of tasks in host network mode: they outlive the
// containers that asked for them. Those of awsvpc tasks go with their namespace.
type networkFaults struct{ faults Faults }

var _ part = networkFaults{}

func (networkFaults) wants(d *task.Definition) bool {
	return d.FaultInjection && d.Network == task.NetworkHost
}

func (networkFaults) provision(context.Context, *Task) (outfits, error) { return nil, nil }

func (n networkFaults) release(ctx context.Context, d *task.Definition) error {
	return n.faults.Release(ctx, d.ID)
}

// remove looks again: a container may have asked for a fault with its last breath.
func (n networkFaults) remove(ctx context.Context, d *task.Definition) error {
	return n.faults.Release(ctx, d.ID)
}

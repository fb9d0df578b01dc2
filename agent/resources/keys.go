package resources

import (
	"context"
	"errors"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

// Keys are the roles' credentials that ECS has sent; credentials.Store has them.
type Keys interface {
	Get(id string) (credentials.Set, credentials.State)
	// Arrived is closed when the next set arrives.
	Arrived() <-chan struct{}
}

// errNoExecutionRole: the task has no execution role, or nobody knows its keys.
var errNoExecutionRole = errors.New("unable to find execution role credentials")

// executionKeys are the keys of the task's execution role. After a restart of the
// agent it waits until ECS has sent them again, for as long as ctx stands
// (spec/task-engine.md §1.4).
func executionKeys(ctx context.Context, keys Keys, d *task.Definition) (credentials.Set, error) {
	for {
		arrived := keys.Arrived()
		set, state := keys.Get(d.ExecutionRoleID)
		switch {
		case d.ExecutionRoleID == "", state == credentials.Unknown:
			return credentials.Set{}, errNoExecutionRole
		case state == credentials.Here:
			return set, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return credentials.Set{}, context.Cause(ctx)
		}
	}
}

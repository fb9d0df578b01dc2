package resources

import (
	"context"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// Auth are the credentials for pulling a container's image; nil is anonymous.
// Its errors carry a kind.
func (r *Resources) Auth(_ context.Context, _ *task.Definition, _ *task.Container) (*container.Auth, error) {
	return nil, nil
}

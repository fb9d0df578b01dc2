package resources

import (
	"context"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// Auth are the credentials for pulling a container's image; nil is anonymous. What
// the task says comes first, then what the host is configured with
// (spec/task-engine.md §7.4). Its errors carry a kind, but for those of ctx.
func (r *Resources) Auth(ctx context.Context, d *task.Definition, c *task.Container) (*container.Auth, error) {
	switch {
	case c.Registry == nil:
		return r.keyring.of(c.Image), nil
	case c.Registry.ECR != nil && r.tokens.service != nil:
		return r.tokens.login(ctx, d, c.Image, c.Registry.ECR)
	case c.Registry.ASM != nil && r.logins.store != nil:
		auth, err := r.logins.login(ctx, d, c.Registry.ASM)
		if err != nil && ctx.Err() == nil {
			err = &container.Error{Kind: container.KindPullAuth, Err: err}
		}
		return auth, err
	}
	return nil, container.Errorf(container.KindPullAuth, "engine docker private registry credentials: not found")
}

package resources

import (
	"context"
	"regexp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// Auth are the credentials for pulling a container's image; nil is anonymous. What
// the task says comes first, then what the host is configured with
// (spec/task-engine.md §7.4). Its errors carry a kind, but for those of ctx.
func (r *Resources) Auth(ctx context.Context, d *task.Definition, c *task.Container) (*container.Auth, error) {
	switch {
	case c.Registry == nil:
		return r.keyring.Load().of(c.Image), nil
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

// ecrImage is an image in Amazon ECR: account, region and repository.
var ecrImage = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.[a-z0-9.-]+/`)

// HostAuth are the credentials for pulling an image for the host itself and no
// task: what the host is configured with, else for an image in Amazon ECR the
// host's own role. nil is anonymous.
func (r *Resources) HostAuth(ctx context.Context, image string) (*container.Auth, error) {
	if auth := r.keyring.Load().of(image); auth != nil {
		return auth, nil
	}
	ecr := ecrImage.FindStringSubmatch(image)
	if ecr == nil || r.tokens.service == nil {
		return nil, nil
	}
	return r.tokens.login(ctx, nil, image, &task.RegistryECR{RegistryID: ecr[1], Region: ecr[2]})
}

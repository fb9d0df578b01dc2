package engine

import (
	"context"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// Resources makes what a task needs beside its images, network and cgroup:
// volumes, secrets, environment files, a log router's configuration. Every
// method is idempotent and may be called for many tasks at once.
type Resources interface {
	// Provision makes the task's resources true and answers with what each
	// container, by name, gets of them. It is asked again after a restart of the
	// agent while containers are still to be created, for values are in memory
	// only. It waits for credentials that ECS has still to send. The text of its
	// error becomes the task's reason (spec/task-engine.md §1.7).
	Provision(ctx context.Context, t Task) (map[string]Outfit, error)
	// Auth are the credentials for pulling a container's image; nil is anonymous.
	// Its errors carry a kind.
	Auth(ctx context.Context, d *task.Definition, c *task.Container) (*container.Auth, error)
	// Release gives back what a stopped task holds of others' (attached volumes,
	// its role's credentials).
	Release(ctx context.Context, d *task.Definition) error
	// Remove deletes everything of the task, at its clean-up.
	Remove(ctx context.Context, d *task.Definition) error
}

// Outfit is what a container gets of its task's resources.
type Outfit struct {
	// Env goes over the container's own variables, SecretEnv over everything.
	Env       []string
	SecretEnv container.SecretEnv
	// Mounts come after the container's own, Groups and Devices are added.
	Mounts  []container.Mount
	Groups  []string
	Devices []container.Device
	// Log, if set, replaces the container's log driver and options.
	Log *task.Log
}

// nothing is the Resources of those who have none.
type nothing struct{}

func (nothing) Provision(context.Context, Task) (map[string]Outfit, error) { return nil, nil }
func (nothing) Auth(context.Context, *task.Definition, *task.Container) (*container.Auth, error) {
	return nil, nil
}
func (nothing) Release(context.Context, *task.Definition) error { return nil }
func (nothing) Remove(context.Context, *task.Definition) error  { return nil }

package resources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
)

// Task is a task whose resources are wanted.
type Task struct {
	Definition *task.Definition
	// Endpoints are the addresses and ports by container name.
	Endpoints map[string]ipam.Endpoint
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

	// logSecrets are options for the log driver whose values are secret. They are
	// put into Log at the end, unless a log router has taken them before.
	logSecrets map[string]string
	// fileEnv are variables of environment files: they give way to all others but
	// the image's.
	fileEnv []string
}

// outfits are those of a task's containers, by name.
type outfits map[string]*Outfit

// of is the outfit of a container, made when there is none.
func (o outfits) of(name string) *Outfit {
	if o[name] == nil {
		o[name] = &Outfit{}
	}
	return o[name]
}

// merge adds what another part made.
func (o outfits) merge(more outfits) {
	for name, from := range more {
		to := o.of(name)
		to.Env = slices.Concat(to.Env, from.Env)
		to.SecretEnv = slices.Concat(to.SecretEnv, from.SecretEnv)
		to.Mounts = slices.Concat(to.Mounts, from.Mounts)
		to.Groups = slices.Concat(to.Groups, from.Groups)
		to.Devices = slices.Concat(to.Devices, from.Devices)
		to.fileEnv = slices.Concat(to.fileEnv, from.fileEnv)
		if from.Log != nil {
			to.Log = from.Log
		}
		if to.logSecrets == nil && len(from.logSecrets) > 0 {
			to.logSecrets = map[string]string{}
		}
		maps.Copy(to.logSecrets, from.logSecrets)
	}
}

// part makes one kind of resource. All methods are idempotent and may be called
// for many tasks at once; provision is not asked for a task that does not want
// the part, nor are the others.
type part interface {
	// wants says whether the task has a use for the part.
	wants(d *task.Definition) bool
	// provision makes the task's resources true and says what containers get. The
	// map is the caller's.
	provision(ctx context.Context, t *Task) (outfits, error)
	// release gives back what a stopped task holds of others'.
	release(ctx context.Context, d *task.Definition) error
	// remove deletes everything of the task, at its clean-up. The task may never
	// have been provisioned, or by an earlier agent.
	remove(ctx context.Context, d *task.Definition) error
}

// finisher is a part that has to see what all parts made, and may change it.
type finisher interface {
	finish(ctx context.Context, t *Task, all outfits) error
}

// Config is what Resources are made of. A part whose dependency is nil is left
// out.
type Config struct {
	// Keys are the roles' credentials. They must be set if any of the services is.
	Keys       Keys
	Parameters ParameterStore
	Secrets    SecretsManager
	Objects    Objects
	Tokens     TokenService
	// Region is the host's, for what names none.
	Region string
	// AuthType and AuthData are ECS_ENGINE_AUTH_TYPE and ECS_ENGINE_AUTH_DATA. What
	// cannot be used of them is logged, and images are pulled without.
	AuthType string
	AuthData config.Secret
	// MetadataFiles writes each container's metadata file, of this name.
	MetadataFiles    MetadataFiles
	MetadataFileName string
	// Volumes makes volumes. NetNS is the path of the network namespace of an awsvpc
	// task, from which its file servers are reached.
	Volumes Volumes
	NetNS   func(d *task.Definition) string
	// Faults ends network faults.
	Faults Faults
	// Firelens is what log routers are told.
	Firelens Firelens
	Log      *zap.Logger
}

// Resources conducts the parts. Its methods may be called at once.
type Resources struct {
	parts  []part
	logins *registryLogins
	tokens *tokens
	// keyring is what the host is configured with.
	keyring atomic.Pointer[keyring]
	volumes *taskVolumes
}

// New makes the parts.
func New(c Config) *Resources {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	r := &Resources{
		logins: &registryLogins{keys: c.Keys, store: c.Secrets, region: c.Region, kept: map[string]map[SecretVersion]*container.Auth{}},
		tokens: &tokens{keys: c.Keys, service: c.Tokens, region: c.Region, kept: map[string]*token{}},
	}
	r.keyring.Store(&keyring{})
	if err := r.HostLogins(c.AuthType, c.AuthData); err != nil {
		c.Log.Error("images are pulled without the host's registry credentials", zap.Error(err))
	}
	r.parts = r.build(c)
	return r
}

// HostLogins replaces what the host is configured with for pulling images
// (ECS_ENGINE_AUTH_TYPE, ECS_ENGINE_AUTH_DATA). After an error the old ones count.
func (r *Resources) HostLogins(kind string, data config.Secret) error {
	ring, err := readKeyring(kind, data.Reveal())
	if err != nil {
		return err
	}
	r.keyring.Store(&ring)
	return nil
}

// build makes the parts, in the order in which their work is merged and finished;
// they are released and removed in reverse.
func (r *Resources) build(c Config) []part {
	var all []part
	if c.Parameters != nil {
		all = append(all, &parameters{keys: c.Keys, store: c.Parameters, region: c.Region})
	}
	if c.Secrets != nil {
		all = append(all, &managed{keys: c.Keys, store: c.Secrets, region: c.Region}, r.logins)
	}
	if c.Objects != nil {
		all = append(all, &environmentFiles{keys: c.Keys, objects: c.Objects})
	}
	if c.MetadataFiles != nil {
		all = append(all, metadataFiles{c.MetadataFiles, c.MetadataFileName})
	}
	if c.Volumes != nil {
		r.volumes = &taskVolumes{store: c.Volumes, netns: c.NetNS}
		all = append(all, r.volumes)
	}
	if c.Faults != nil {
		all = append(all, networkFaults{c.Faults})
	}
	if c.Firelens.Dir != "" {
		all = append(all, &logRouter{Firelens: c.Firelens, keys: c.Keys, objects: c.Objects, log: c.Log})
	}
	return all
}

// wanted are the parts that a task has a use for.
func (r *Resources) wanted(d *task.Definition) []part {
	var some []part
	for _, p := range r.parts {
		if p.wants(d) {
			some = append(some, p)
		}
	}
	return some
}

// Provision makes the task's resources true and answers with what each container,
// by name, gets of them. It waits for credentials that ECS has still to send; its
// error is the task's reason. The map is the caller's.
func (r *Resources) Provision(ctx context.Context, t Task) (map[string]Outfit, error) {
	wanted := r.wanted(t.Definition)
	if len(wanted) == 0 {
		return nil, nil
	}
	made := make([]outfits, len(wanted))
	group, at := errgroup.WithContext(ctx)
	for i, p := range wanted {
		group.Go(func() (err error) {
			made[i], err = p.provision(at, &t)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := outfits{}
	for _, m := range made {
		all.merge(m)
	}
	for _, p := range wanted {
		if f, ok := p.(finisher); ok {
			if err := f.finish(ctx, &t, all); err != nil {
				return nil, err
			}
		}
	}
	return all.dress(t.Definition), nil
}

// dress is what the engine is told of the outfits.
func (o outfits) dress(d *task.Definition) map[string]Outfit {
	dressed := make(map[string]Outfit, len(o))
	for i := range d.Containers {
		c := &d.Containers[i]
		outfit := o[c.Name]
		if outfit == nil {
			continue
		}
		outfit.settleFiles(c)
		outfit.settleLog(c)
		dressed[c.Name] = *outfit
	}
	return dressed
}

// settleLog adds secret options to the log configuration. A container without
// one has no use for them (spec/task-engine.md §5.10).
func (o *Outfit) settleLog(c *task.Container) {
	if len(o.logSecrets) == 0 {
		return
	}
	log := c.Log
	if o.Log != nil {
		log = *o.Log
	}
	if log.Driver != "" {
		log.Secrets = o.logSecrets
		o.Log = &log
	}
	o.logSecrets = nil
}

// settleFiles makes variables of those in environment files that nobody else has
// set (spec/task-engine.md §6, step 8).
func (o *Outfit) settleFiles(c *task.Container) {
	set := reserved()
	for _, list := range [][]string{c.Spec.Process.Env, o.Env, o.SecretEnv} {
		for _, kv := range list {
			set[name(kv)] = true
		}
	}
	for _, kv := range o.fileEnv {
		if n := name(kv); !set[n] {
			set[n] = true
			o.SecretEnv = append(o.SecretEnv, kv)
		}
	}
	o.fileEnv = nil
}

// Release gives back what a stopped task holds of others'.
func (r *Resources) Release(ctx context.Context, d *task.Definition) error {
	var errs []error
	for _, p := range slices.Backward(r.wanted(d)) {
		errs = append(errs, p.release(ctx, d))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot release the task's resources: %w", err)
	}
	return nil
}

// Remove deletes everything of the task, at its clean-up.
func (r *Resources) Remove(ctx context.Context, d *task.Definition) error {
	var errs []error
	for _, p := range slices.Backward(r.wanted(d)) {
		errs = append(errs, p.remove(ctx, d))
	}
	r.tokens.forget(d.ExecutionRoleID)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove the task's resources: %w", err)
	}
	return nil
}

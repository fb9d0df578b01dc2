package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// Labels that the engine puts on every container, beside those that ECS sends.
const (
	LabelTask      = "berth.task"
	LabelTaskARN   = "berth.task-arn"
	LabelContainer = "berth.container"
)

// creation is what is known in the task's goroutine about a container to create.
type creation struct {
	container   *task.Container
	image       container.Image
	endpoints   map[string]ipam.Endpoint
	outfits     map[string]Outfit
	provisioned bool
}

// create makes the container, without starting it. What it waits for besides the
// runtime does not take up a place among those being created, and ends with the
// task.
func (r *runner) create(ctx context.Context, w creation) {
	name := w.container.Name
	err := r.outfit(ctx, &w)
	var made task.Created
	if err == nil {
		made, err = r.build(ctx, &w)
	}
	switch {
	case err == nil:
		r.tell(made)
	case r.engine.ctx().Err() != nil:
		// The agent ends; the next one creates.
	case errors.Is(context.Cause(ctx), errTaskStopped):
		r.tell(task.CreateFailed{Container: name, Cancelled: true, At: time.Now()})
	case container.KindOf(err, "") == container.KindResources:
		// It is the task's reason, as it would have been while the task was prepared.
		r.log.Warn("cannot make the task's resources", zap.Error(err))
		r.tell(task.CreateFailed{Container: name, Cancelled: true, At: time.Now()}, resourceRefused(err))
	default:
		r.log.Warn("cannot create container", zap.String("container", name), zap.Error(err))
		r.tell(task.CreateFailed{Container: name, Failure: failure(err, container.KindCreate), At: time.Now()})
	}
}

// build has the runtime make the container.
func (r *runner) build(ctx context.Context, w *creation) (made task.Created, err error) {
	e, d, name := r.engine, &r.view.Load().State.Definition, w.container.Name
	if !e.acquire(ctx) {
		return made, context.Cause(ctx)
	}
	defer e.releaseStart()
	ctx, cancel := context.WithTimeoutCause(ctx, e.config.CreateTimeout, timeoutError("created", e.config.CreateTimeout))
	defer cancel()
	if w.image, err = r.imageOf(ctx, w.container, w.image); err != nil {
		return made, err
	}
	spec, err := e.spec(ctx, d, w)
	if err != nil {
		return made, err
	}
	spec.Mounts = append(spec.Mounts, r.agentMounts(ctx, d, w.container)...)
	err = persevere(ctx, func() error { return e.runtime.Create(ctx, spec) })
	return task.Created{Container: name, RuntimeID: spec.ID, Bindings: bindings(w.endpoints[name]), At: time.Now()}, err
}

// outfit asks for the task's resources again where an earlier agent did: their
// values are in memory only. The cgroup is made sure of too, for the host may have
// been restarted with the agent. It waits for as long as the task is wanted.
func (r *runner) outfit(ctx context.Context, w *creation) (err error) {
	if w.provisioned {
		return nil
	}
	if err := r.engine.config.Cgroups.Create(ctx, r.engine.cgroup(&r.view.Load().State.Definition)); err != nil {
		return err
	}
	if w.outfits, err = r.engine.config.Resources.Provision(ctx, *r.view.Load()); err != nil {
		return container.Errorf(container.KindResources, "%w", err)
	}
	r.keepOutfits(w.outfits)
	return nil
}

// imageOf is the image to create from. An agent that was restarted since the
// pull asks the runtime for it again, by the digest that was recorded: the tag may
// have moved since.
func (r *runner) imageOf(ctx context.Context, c *task.Container, image container.Image) (container.Image, error) {
	if image.Ref != "" {
		return image, nil
	}
	req := r.engine.pullRequest(r.view.Load(), c)
	req.Policy = container.PullPreferCached
	err := persevere(ctx, func() (err error) {
		image, err = r.engine.runtime.Pull(ctx, req, nil)
		return err
	})
	return image, err
}

// persevere does what the runtime was asked again for as long as it is away: a
// containerd that is restarted must not fail the tasks that begin just then. If
// it does not come back before ctx ends, that is the reason, and not the time.
func persevere(ctx context.Context, ask func() error) error {
	err := ask()
	for errors.Is(err, container.ErrUnavailable) && backoff.Wait(ctx, retryPause) {
		again := ask()
		if again != nil && ctx.Err() != nil {
			return err
		}
		err = again
	}
	return err
}

// start starts the container.
func (r *runner) start(ctx context.Context, name string) {
	e := r.engine
	if !e.acquire(ctx) {
		return
	}
	defer e.releaseStart()
	ctx, cancel := context.WithTimeoutCause(ctx, e.config.StartTimeout, timeoutError("started", e.config.StartTimeout))
	defer cancel()
	t := r.view.Load()
	var status container.Status
	err := e.hold(ctx, &t.State.Definition)
	if err == nil {
		err = persevere(ctx, func() (err error) {
			status, err = e.runtime.Start(ctx, t.ContainerID(name))
			return err
		})
	}
	switch {
	case err == nil:
		at := status.StartedAt
		if at.IsZero() {
			at = time.Now()
		}
		facts := []task.Fact{task.Started{Container: name, At: at}}
		if status.Exit != nil {
			facts = append(facts, exited(name, *status.Exit))
		}
		r.tell(facts...)
	case e.ctx().Err() != nil:
		// The agent ends; the next one looks whether the container runs.
	default:
		r.log.Warn("cannot start container", zap.String("container", name), zap.Error(err))
		r.tell(task.StartFailed{Container: name, Failure: failure(err, container.KindStart), At: time.Now()})
	}
}

// timeoutError is what ECS is told when the runtime does not answer.
func timeoutError(state string, after time.Duration) error {
	return container.Errorf(container.KindTimeout, "Could not transition to %s; timed out after waiting %s", state, after)
}

// acquire waits for a place among the containers being started.
func (e *Engine) acquire(ctx context.Context) bool {
	select {
	case e.starts <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *Engine) releaseStart() { <-e.starts }

// spec completes the container's spec with what is only known on the host.
func (e *Engine) spec(ctx context.Context, d *task.Definition, w *creation) (container.Spec, error) {
	c, endpoints := w.container, w.endpoints
	outfit := w.outfits[c.Name]
	id := RuntimeID(d.ARN, c.Name)
	spec := c.Spec
	spec.ID, spec.Group = id, d.ID
	spec.Image, spec.Digest = c.Image, w.image.Digest
	spec.Labels, spec.CgroupParent = labels(d, c), e.config.Cgroups.Parent(d.ID)
	spec.Process.Env, spec.Process.SecretEnv = e.environment(w), outfit.SecretEnv
	spec.Mounts = slices.Concat(spec.Mounts, outfit.Mounts)
	for _, from := range c.VolumesFrom {
		spec.VolumesFrom = append(spec.VolumesFrom, container.VolumesFrom{Of: RuntimeID(d.ARN, from.Container), ReadOnly: from.ReadOnly})
	}
	spec.Rights.GroupAdd = slices.Concat(spec.Rights.GroupAdd, outfit.Groups)
	spec.Devices = slices.Concat(spec.Devices, outfit.Devices)
	join(d, &spec)
	log := c.Log
	if outfit.Log != nil {
		log = *outfit.Log
	}
	if log.ExecutionRole && d.ExecutionRoleID == "" {
		return spec, container.Errorf(container.KindHost, "No execution credentials set for the task")
	}
	if endpoint, own := endpointOf(d, c.Name, endpoints); own {
		spec.NetNS = e.config.Network.NetNS(endpoint.ID)
	}
	if d.Network == task.NetworkAWSVPC {
		spec.Process.Hostname, spec.Process.Domainname = taskHostname(d), ""
	}
	if spec.Limits.Memory == 0 && e.config.TaskMemoryLimitInContainers && !e.config.NoTaskLimits {
		spec.Limits.Memory = d.Memory << 20
	}
	var wait errgroup.Group
	wait.Go(func() error {
		mounts, err := e.config.Network.Files(ctx, files(d, c, endpoints))
		spec.Mounts = append(mounts, spec.Mounts...)
		return err
	})
	wait.Go(func() (err error) {
		spec.IO, err = e.config.Logs.Open(ctx, LogStream{
			ID: id, Task: d.ID, Name: c.Name, Driver: log.Driver, Options: log.Options, Secrets: log.Secrets,
			Image: c.Image, ImageID: w.image.ConfigDigest, RuntimeName: d.RuntimeName(c.Name),
			Command: spec.Process.Arguments(w.image), Labels: spec.Labels, Env: spec.Process.Env, Terminal: spec.Process.Terminal, Stdin: spec.Process.Stdin,
		})
		return err
	})
	err := wait.Wait()
	return spec, err
}

// labels are the container's own, and over them those by which the engine
// finds it again: no task definition can forge these.
func labels(d *task.Definition, c *task.Container) map[string]string {
	all := map[string]string{}
	maps.Copy(all, c.Spec.Labels)
	all[LabelTask], all[LabelTaskARN], all[LabelContainer] = d.ID, d.ARN, c.Name
	return all
}

// environment is the container's own, what its task's resources put over it, and
// the region where nobody has set one (spec/task-engine.md §6, step 9).
func (e *Engine) environment(w *creation) []string {
	c, outfit := w.container, w.outfits[w.container.Name]
	env := slices.Concat(c.Spec.Process.Env, outfit.Env)
	if !c.EnvironmentWithoutRegion || e.config.Region == "" ||
		slices.ContainsFunc(w.image.Env, isRegion) || slices.ContainsFunc(outfit.SecretEnv, isRegion) {
		return env
	}
	return append(env, "AWS_REGION="+e.config.Region, "AWS_DEFAULT_REGION="+e.config.Region)
}

func isRegion(entry string) bool {
	return strings.HasPrefix(entry, "AWS_REGION=") || strings.HasPrefix(entry, "AWS_DEFAULT_REGION=")
}

// files says what a container's hosts, resolv.conf and hostname hold: its own
// extra hosts, and the addresses of the containers it links to.
func files(d *task.Definition, c *task.Container, endpoints map[string]ipam.Endpoint) Files {
	if d.Network == task.NetworkAWSVPC {
		return taskFiles(d)
	}
	f := Files{
		ID: RuntimeID(d.ARN, c.Name), Hostname: c.Spec.Process.Hostname, Domainname: c.Spec.Process.Domainname,
		HostNetwork: d.Network == task.NetworkHost, Addresses: endpoints[c.Name].Addresses,
		Hosts: slices.Clone(c.Hosts), DNS: c.DNS,
	}
	for _, link := range c.Links {
		a := endpoints[link.Container].Addresses
		for _, name := range slices.Compact([]string{link.Alias, link.Container}) {
			if a.IPv4.IsValid() {
				f.Hosts = append(f.Hosts, task.Host{Name: name, Address: a.IPv4.String()})
			}
			if a.IPv6.IsValid() {
				f.Hosts = append(f.Hosts, task.Host{Name: name, Address: a.IPv6.String()})
			}
		}
	}
	return f
}

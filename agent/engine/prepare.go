package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/ipam/ports"
	"github.com/berthd/berth/runtime/container"
)

// admit asks for the host's resources; ports and addresses are leased in the
// same moment.
func (r *runner) admit() {
	d := r.machine.Definition()
	var got map[string]ipam.Endpoint
	r.engine.admission.apply(&applicant{
		id: r.id, demand: d.Demand(),
		lease: func() (err error) {
			got, err = r.engine.lease(d)
			return err
		},
		answer: func(err error) {
			if err != nil {
				r.tell(refusal(err))
				return
			}
			r.inbox.put(
				message{ask: func(*task.Machine) { r.endpoints = got }},
				message{fact: task.Admitted{}},
			)
		},
	})
}

// leaseError is a lease that a container cannot have.
type leaseError struct {
	container string
	err       error
}

func (e *leaseError) Error() string { return e.err.Error() }
func (e *leaseError) Unwrap() error { return e.err }

// refusal puts into ECS's words why a task cannot begin.
func refusal(err error) task.Refused {
	if e, ok := errors.AsType[*leaseError](err); ok {
		return task.Refused{Container: e.container, Failure: failure(e.err, container.KindHost)}
	}
	return task.Refused{Failure: failure(err, container.KindResources)}
}

// failure is an error in the words that ECS shows.
func failure(err error, fallback container.Kind) task.Failure {
	return task.Failure{Name: string(container.KindOf(err, fallback)), Text: err.Error()}
}

// lease takes addresses and ports for every container of a task, or none.
func (e *Engine) lease(d *task.Definition) (map[string]ipam.Endpoint, error) {
	if d.Network == task.NetworkAWSVPC {
		return e.leaseTask(d)
	}
	endpoints := map[string]ipam.Endpoint{}
	for i := range d.Containers {
		c := &d.Containers[i]
		endpoint, needed, err := e.leaseContainer(d, c)
		if err != nil {
			e.unlease(d)
			if busy, ok := errors.AsType[*ports.InUseError](err); ok && busy.Owner != (ports.Owner{}) && busy.Owner.Task != d.ID {
				return nil, fmt.Errorf("%w: %w", errBusy, err)
			}
			return nil, &leaseError{c.Name, err}
		}
		if needed {
			endpoints[c.Name] = endpoint
		}
	}
	return endpoints, nil
}

// leaseContainer takes a container's addresses and ports; needed is false for
// one that shares the host's network.
func (e *Engine) leaseContainer(d *task.Definition, c *task.Container) (endpoint ipam.Endpoint, needed bool, err error) {
	endpoint.ID = RuntimeID(d.ARN, c.Name)
	switch d.Network {
	case task.NetworkHost:
		return endpoint, false, nil
	case task.NetworkNone:
		return endpoint, true, nil
	case task.NetworkAWSVPC: // leaseTask
		return endpoint, false, nil
	case task.NetworkBridge:
	}
	if c.NetworkDisabled {
		return endpoint, true, nil
	}
	if endpoint.Ports, err = e.config.Ports.Lease(owner(d, c), publishes(c)); err != nil {
		return endpoint, false, err
	}
	endpoint.AllowIMDS = c.AllowsIMDS()
	endpoint.Addresses, err = e.config.Addresses.Lease(endpoint.ID)
	return endpoint, true, err
}

// unlease gives back every address and port of a task.
func (e *Engine) unlease(d *task.Definition) {
	if d.Network == task.NetworkAWSVPC && e.config.LinkLocal != nil {
		e.config.LinkLocal.Release(EndpointID(d, taskEndpoint))
	}
	for i := range d.Containers {
		c := &d.Containers[i]
		e.config.Addresses.Release(RuntimeID(d.ARN, c.Name))
		if err := e.config.Ports.Release(owner(d, c)); err != nil {
			e.log.Warn("cannot close the socket of a host port", zap.String("task", d.ID), zap.String("container", c.Name), zap.Error(err))
		}
	}
}

func owner(d *task.Definition, c *task.Container) ports.Owner {
	return ports.Owner{Task: d.ID, Container: RuntimeID(d.ARN, c.Name)}
}

// publishes are the ports that a container asks for.
func publishes(c *task.Container) []ipam.Publish {
	var want []ipam.Publish
	for _, p := range c.Ports {
		publish := ipam.Publish{Protocol: ipam.TCP, HostPort: p.HostPort, ContainerPort: p.ContainerPort}
		if p.Protocol == "udp" {
			publish.Protocol = ipam.UDP
		}
		if p.Range {
			publish.Count = p.ContainerPortEnd - p.ContainerPort + 1
		}
		want = append(want, publish)
	}
	return want
}

// bindings are an endpoint's ports as ECS is told of them.
func bindings(e ipam.Endpoint) []task.Binding {
	var out []task.Binding
	for _, b := range ports.Bindings(e.Ports, ports.Families{IPv4: true, IPv6: true}) {
		out = append(out, task.Binding{
			BindIP: b.BindIP.String(), Protocol: string(b.Protocol),
			ContainerPort: b.ContainerPort, ContainerPortEnd: b.ContainerPort + uint16(b.Len()) - 1,
			HostPort: b.HostPort, Range: b.IsRange(),
		})
	}
	return out
}

// startPrepare begins to prepare the task, until it is to end: a network
// interface that never comes must not hold a stop up.
func (r *runner) startPrepare() {
	ctx, cancel := r.untilStop()
	r.preparing = ctx.Done()
	r.background(func(context.Context) {
		defer cancel(nil)
		r.prepare(ctx)
	})
}

// untilStop is a context that ends when the task is to end. It is asked for from
// the task's goroutine.
func (r *runner) untilStop() (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(r.engine.ctx())
	r.onStop = append(r.onStop, cancel)
	return ctx, cancel
}

// errRefused ends the rest of a preparation.
var errRefused = errors.New("another part of the task's preparation has failed")

// preparation is that of one task. The first of its parts that fails ends the
// others, and is why the task ends.
type preparation struct {
	*runner

	task    *Task
	end     context.CancelCauseFunc
	once    sync.Once
	refused *task.Refused
}

// refuse records why the task cannot begin, unless the preparation has ended.
func (p *preparation) refuse(ctx context.Context, message string, err error, f task.Refused) {
	if ctx.Err() != nil {
		return
	}
	p.once.Do(func() {
		p.log.Warn(message, zap.Error(err))
		p.refused = &f
		p.end(errRefused)
	})
}

// prepare makes the task's cgroup, its resources, and the network of its
// containers all at once.
func (r *runner) prepare(ctx context.Context) {
	at, end := context.WithCancelCause(ctx)
	defer end(nil)
	p := &preparation{runner: r, task: r.view.Load(), end: end}
	var wg, network sync.WaitGroup
	wg.Go(func() { p.hold(at) })
	for name, endpoint := range p.task.Endpoints {
		network.Go(func() { p.attach(at, name, endpoint) })
	}
	wg.Go(func() {
		if p.task.State.Definition.Network == task.NetworkAWSVPC {
			network.Wait() // File systems of the VPC are mounted by way of the task's interface.
		}
		if at.Err() == nil {
			p.provision(at)
		}
	})
	network.Wait()
	wg.Wait()
	switch {
	case r.engine.ctx().Err() != nil:
	case p.refused != nil:
		r.tell(*p.refused)
	default:
		// It is prepared, or the task is to end, and is so far prepared that it can.
		r.tell(task.Prepared{})
	}
}

// hold makes the task's cgroup and the namespaces that its containers share.
func (p *preparation) hold(ctx context.Context) {
	d := &p.task.State.Definition
	if err := p.engine.config.Cgroups.Create(ctx, p.engine.cgroup(d)); err != nil {
		p.refuse(ctx, "cannot make the task's cgroup", err, task.Refused{Failure: task.Failure{
			Name: "CgroupError", Text: "CgroupError: Agent could not create task's platform resources: " + err.Error(),
		}})
		return
	}
	if err := p.engine.hold(ctx, d); err != nil {
		p.refuse(ctx, "cannot hold the namespaces that the task's containers share", err, resourceRefused(err))
	}
}

// attach makes one endpoint of the task true.
func (p *preparation) attach(ctx context.Context, name string, endpoint ipam.Endpoint) {
	err := p.engine.config.Network.Attach(ctx, endpoint)
	if err == nil {
		return
	}
	refused := task.Refused{Container: name, Failure: failure(err, container.KindNetwork)}
	if name == taskEndpoint {
		// It is the task's reason, and no container's.
		refused.Failure.Text = refused.Failure.String()
	}
	p.refuse(ctx, "cannot make the task's network", err, refused)
}

// provision makes what the task needs besides.
func (p *preparation) provision(ctx context.Context) {
	outfits, err := p.engine.config.Resources.Provision(ctx, *p.task)
	if err != nil {
		p.refuse(ctx, "cannot make the task's resources", err, resourceRefused(err))
		return
	}
	p.keepOutfits(outfits)
}

// keepOutfits remembers what containers get of the task's resources. It stays in
// memory: there may be secrets in it.
func (r *runner) keepOutfits(outfits map[string]Outfit) {
	r.inbox.put(message{ask: func(*task.Machine) { r.outfits, r.provisioned = outfits, true }})
}

// resourceRefused is why a task without one of its resources ends.
func resourceRefused(err error) task.Refused {
	return task.Refused{Failure: task.Failure{Name: string(container.KindResources), Text: resourceReason(err)}}
}

// resourceReason is a failed resource in the words that ECS shows: with a capital
// letter and single spaces (spec/task-engine.md §1.7).
func resourceReason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// cgroup is the task's cgroup as spec/task-engine.md §5.3 wants it.
func (e *Engine) cgroup(d *task.Definition) TaskCgroup {
	c := TaskCgroup{ID: d.ID, Pids: e.config.PidsLimit, AllowIMDS: d.Network == task.NetworkHost && d.AllowsIMDS()}
	for i := range d.Containers {
		c.Shares += uint64(max(2, d.Containers[i].CPU))
	}
	c.Shares = min(c.Shares, 262144)
	if e.config.NoTaskLimits {
		return c
	}
	c.CPU, c.MemoryBytes = d.CPU, d.Memory<<20
	return c
}

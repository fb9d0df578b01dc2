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
	ctx, cancel := context.WithCancelCause(r.engine.ctx())
	r.stopPrepare, r.preparing = cancel, ctx.Done()
	r.background(func(context.Context) {
		defer cancel(nil)
		r.prepare(ctx)
	})
}

// prepare makes the task's cgroup, and the network of its containers all at
// once.
func (r *runner) prepare(ctx context.Context) {
	t := r.view.Load()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards refused
		fact task.Fact  = task.Prepared{}
	)
	refuse := func(f task.Refused) {
		mu.Lock()
		defer mu.Unlock()
		fact = f
	}
	wg.Go(func() {
		if err := r.engine.config.Cgroups.Create(ctx, r.engine.cgroup(&t.State.Definition)); err != nil {
			r.log.Warn("cannot make the task's cgroup", zap.Error(err))
			refuse(task.Refused{Failure: task.Failure{Name: "CgroupError", Text: "CgroupError: Agent could not create task's platform resources: " + err.Error()}})
			return
		}
		if err := r.engine.hold(ctx, &t.State.Definition); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot hold the namespaces that the task's containers share", zap.Error(err))
			refuse(holderRefused(err))
		}
	})
	var network sync.WaitGroup
	for name, endpoint := range t.Endpoints {
		network.Add(1)
		wg.Go(func() {
			defer network.Done()
			if refused := r.attach(ctx, name, endpoint); refused != nil {
				refuse(*refused)
			}
		})
	}
	wg.Go(func() {
		if t.State.Definition.Network == task.NetworkAWSVPC {
			network.Wait() // File systems of the VPC are mounted by way of the task's interface.
		}
		outfits, err := r.engine.config.Resources.Provision(ctx, *t)
		if err == nil {
			r.keepOutfits(outfits)
		} else if ctx.Err() == nil {
			r.log.Warn("cannot make the task's resources", zap.Error(err))
			refuse(task.Refused{Failure: task.Failure{Name: string(container.KindResources), Text: resourceReason(err)}})
		}
	})
	wg.Wait()
	switch {
	case r.engine.ctx().Err() != nil:
	case ctx.Err() != nil:
		// The task is to end, and is so far prepared that it can.
		r.tell(task.Prepared{})
	default:
		r.tell(fact)
	}
}

// keepOutfits remembers what containers get of the task's resources. It stays in
// memory: there may be secrets in it.
func (r *runner) keepOutfits(outfits map[string]Outfit) {
	r.inbox.put(message{ask: func(*task.Machine) { r.outfits, r.provisioned = outfits, true }})
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

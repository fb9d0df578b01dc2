package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
)

// Restore reads the records, takes back what the tasks hold of the host, looks
// at what the runtime has, and removes what belongs to nobody. After it the
// engine knows everything that the last one knew; nothing has been begun.
func (e *Engine) Restore(ctx context.Context) error {
	records, err := e.store.Tasks()
	if err != nil {
		return fmt.Errorf("cannot read task records: %w", err)
	}
	var plan ipam.Plan
	for id, data := range records {
		rec, err := decodeRecord(data)
		if err != nil {
			e.log.Error("cannot read the record of a task; its containers are removed", zap.String("task", id), zap.Error(err))
			continue
		}
		plan = append(plan, e.restoreTask(rec)...)
	}
	if err := e.config.Network.Sync(ctx, plan); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// What could be repaired is. An agent that does not start would help none
		// of the other tasks.
		e.log.Error("the network of some tasks could not be restored; they may not be reachable", zap.Error(err))
	}
	var statuses []container.Status
	err = persevere(ctx, func() (err error) {
		statuses, err = e.list(ctx)
		return err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	e.adopt(ctx, statuses)
	return nil
}

// restoreTask makes the runner of a record, and takes back its leases. The
// answer is what the network must hold for it.
func (e *Engine) restoreTask(rec record) ipam.Plan {
	r := newRunner(e, task.Restore(rec.State, e.config.Machine))
	if rec.Endpoints != nil {
		r.endpoints = rec.Endpoints
	}
	r.publish()
	e.mu.Lock()
	e.add(r)
	e.restore[r.id] = r
	e.mu.Unlock()
	if !rec.State.Admitted || rec.State.Released {
		return nil
	}
	d := r.machine.Definition()
	e.admission.restore(r.id, d.Demand())
	var plan ipam.Plan
	if endpoint, shared := rec.Endpoints[taskEndpoint]; shared {
		plan = append(plan, endpoint)
		if err := e.restoreEndpoint(endpoint); err != nil {
			r.log.Warn("the address of the task could not be leased again", zap.Error(err))
		}
	}
	for i := range d.Containers {
		c := &d.Containers[i]
		endpoint, own := rec.Endpoints[c.Name]
		if !own {
			continue
		}
		plan = append(plan, endpoint)
		if err := e.config.Ports.Restore(owner(d, c), endpoint.Ports); err != nil {
			r.log.Warn("a host port of the task could not be held again; it is still served", zap.String("container", c.Name), zap.Error(err))
		}
		if endpoint.None() {
			continue
		}
		if err := e.config.Addresses.Restore(endpoint.ID, endpoint.Addresses); err != nil {
			r.log.Warn("an address of the task could not be leased again", zap.String("container", c.Name), zap.Error(err))
		}
	}
	return plan
}

// adopt tells the restored tasks what the runtime has, and removes containers
// that no record knows.
func (e *Engine) adopt(ctx context.Context, statuses []container.Status) {
	found := map[string]container.Status{}
	lost := map[string]bool{} // tasks that have containers and no record
	for _, s := range statuses {
		found[s.ID] = s
		if _, known := e.place(s.ID); known {
			continue
		}
		if id := s.Labels[LabelTask]; id != "" && e.runner(id) == nil {
			lost[id] = true
		}
		e.log.Warn("removing a container that belongs to no task", zap.String("container", s.ID), zap.String("task", s.Labels[LabelTask]))
		if err := persevere(ctx, func() error { return e.runtime.Remove(ctx, s.ID) }); err != nil {
			e.log.Warn("cannot remove a container that belongs to no task", zap.String("container", s.ID), zap.Error(err))
		}
		if err := e.config.Logs.Remove(ctx, s.ID); err != nil {
			e.log.Warn("cannot remove the log of a container that belongs to no task", zap.String("container", s.ID), zap.Error(err))
		}
		e.confess(ctx, s.Labels[LabelTaskARN])
	}
	for id := range lost {
		if err := e.config.Cgroups.Remove(ctx, id); err != nil {
			e.log.Warn("cannot remove the cgroup of a task whose record is lost", zap.String("task", id), zap.Error(err))
		}
	}
	for _, t := range e.Tasks() {
		r := e.runner(t.ID())
		for i := range t.State.Containers {
			c := &t.State.Containers[i]
			if status, ok := found[t.ContainerID(c.Name)]; ok {
				r.tell(observe(&t, c, status)...)
			} else {
				r.tell(missing(c)...)
			}
		}
	}
}

// confess tells ECS of a task whose record is lost: ECS still believes that it
// runs.
func (e *Engine) confess(ctx context.Context, arn string) {
	if arn == "" {
		return
	}
	if err := e.Reject(ctx, arn, "the agent has lost its record of this task"); err != nil {
		e.log.Error("cannot report a task whose record is lost", zap.String("task", arn), zap.Error(err))
	}
}

// observe are the facts that a container's status means for a task that was
// restored. What is known already is not told again.
func observe(t *Task, c *task.ContainerState, s container.Status) []task.Fact {
	var facts []task.Fact
	if c.Phase == task.PhasePending || c.Phase == task.PhasePulled {
		facts = append(facts, task.Created{Container: c.Name, RuntimeID: s.ID, Bindings: bindings(t.Endpoints[c.Name]), At: s.CreatedAt})
	}
	switch s.Phase {
	case container.Created:
	case container.Running:
		at := s.StartedAt
		if at.IsZero() {
			at = time.Now()
		}
		facts = append(facts, task.Started{Container: c.Name, At: at})
	case container.Stopped:
		if c.Phase == task.PhaseStopped {
			break
		}
		if c.Phase != task.PhaseRunning && !s.StartedAt.IsZero() {
			facts = append(facts, task.Started{Container: c.Name, At: s.StartedAt})
		}
		exit := container.Exit{}
		if s.Exit != nil {
			exit = *s.Exit
		}
		facts = append(facts, exited(c.Name, exit))
	}
	return facts
}

// exited is the fact of an exit. One that nobody saw has no time of its own: it
// is noticed now.
func exited(name string, exit container.Exit) task.Exited {
	if exit.At.IsZero() {
		exit.At = time.Now()
	}
	return task.Exited{Container: name, Exit: exit}
}

// missing are the facts that follow from a container that the runtime does not
// have.
func missing(c *task.ContainerState) []task.Fact {
	switch c.Phase {
	case task.PhaseCreated, task.PhaseRunning:
		return []task.Fact{task.Vanished{Container: c.Name, At: time.Now()}}
	case task.PhasePending, task.PhasePulled, task.PhaseStopped:
		return nil
	}
	return nil
}

// watch follows the runtime's events: hints to look.
func (e *Engine) watch(ctx context.Context) {
	for event := range e.runtime.Events(ctx) {
		switch event.Kind {
		case container.EventExited, container.EventRemoved:
			e.look(ctx, event.ID)
		case container.EventResync:
			e.reconcile(ctx)
		case container.EventOOM:
			if p, ok := e.place(event.ID); ok {
				e.observer.Event(Event{Time: event.At, Task: p.runner.id, Container: p.name, What: "out of memory"})
			}
		case container.EventStarted:
			// Start answers for itself.
		}
	}
}

// reconcileLoop compares what is known with what is, until ctx ends.
func (e *Engine) reconcileLoop(ctx context.Context) {
	ticker := time.NewTicker(e.config.Reconcile)
	defer ticker.Stop()
	damaged := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.reconcile(ctx)
			err := e.config.Network.Mend(ctx, e.attached)
			if err != nil && !damaged && ctx.Err() == nil {
				e.log.Error("the network is damaged and cannot be repaired; trying again", zap.Error(err))
			}
			damaged = err != nil
		}
	}
}

// attached are the endpoints that are, or are about to be, attached: not those
// of tasks that have stopped, which are being detached.
func (e *Engine) attached() ipam.Plan {
	var plan ipam.Plan
	for _, t := range e.Tasks() {
		if t.State.Admitted && t.State.StoppedAt.IsZero() {
			plan = slices.AppendSeq(plan, maps.Values(t.Endpoints))
		}
	}
	return plan
}

// errNoAnswer is why a question to the runtime was given up. The loop that asks
// must turn: the watchdog ends an agent whose loops stand still.
var errNoAnswer = fmt.Errorf("the container runtime did not answer within %s: %w", answerPatience, container.ErrTimeout)

// answerPatience is how long the runtime may take to list containers.
const answerPatience = 10 * time.Second

// list asks the runtime, and not for ever.
func (e *Engine) list(ctx context.Context, ids ...string) ([]container.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerPatience, errNoAnswer)
	defer cancel()
	return e.runtime.List(ctx, ids...)
}

// reconcile compares every container.
func (e *Engine) reconcile(ctx context.Context) {
	// What is known is read first: a container that is created while the list is
	// made must not count as missing.
	tasks := e.Tasks()
	statuses, err := e.list(ctx)
	if ctx.Err() != nil {
		return
	}
	e.config.Reconciled(err)
	if err != nil {
		return // The runtime is away: events resume with a resync.
	}
	found := make(map[string]container.Status, len(statuses))
	for _, s := range statuses {
		found[s.ID] = s
	}
	for i := range tasks {
		e.compare(&tasks[i], found)
	}
}

// look compares one container.
func (e *Engine) look(ctx context.Context, id string) {
	p, ok := e.place(id)
	if !ok {
		return
	}
	t := *p.runner.view.Load()
	statuses, err := e.list(ctx, id)
	if err != nil {
		return // The reconcile loop looks again.
	}
	for i := range t.State.Containers {
		c := &t.State.Containers[i]
		if c.Name == p.name {
			p.runner.tell(difference(c, statuses)...)
		}
	}
}

// compare tells a task where its containers are not what it knows.
func (e *Engine) compare(t *Task, found map[string]container.Status) {
	r := e.runner(t.ID())
	if r == nil {
		return
	}
	for i := range t.State.Containers {
		c := &t.State.Containers[i]
		var statuses []container.Status
		if s, ok := found[t.ContainerID(c.Name)]; ok {
			statuses = append(statuses, s)
		}
		if facts := difference(c, statuses); len(facts) > 0 {
			r.tell(facts...)
		}
	}
}

// difference are the facts about a container that has moved on. Created
// containers are left to the Start that is under way for them, unless they are
// gone.
func difference(c *task.ContainerState, statuses []container.Status) []task.Fact {
	if len(statuses) == 0 {
		return missing(c)
	}
	s := statuses[0]
	switch c.Phase {
	case task.PhaseRunning, task.PhaseCreated:
		if s.Phase == container.Stopped && s.Exit != nil {
			return []task.Fact{exited(c.Name, *s.Exit)}
		}
		if s.Phase == container.Running && c.Phase == task.PhaseCreated && !s.StartedAt.IsZero() {
			return []task.Fact{task.Started{Container: c.Name, At: s.StartedAt}}
		}
	case task.PhasePending, task.PhasePulled, task.PhaseStopped:
	}
	return nil
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// Agents fits containers out for their managed agents: processes that Berth runs
// inside of them, such as the one of ECS Exec (spec/task-engine.md §5.17).
type Agents interface {
	// Outfit makes what an agent needs on the host and answers with the mounts that
	// bring it into the container. It is idempotent.
	Outfit(ctx context.Context, d *task.Definition, c *task.Container, agent task.ManagedAgent) ([]container.Mount, error)
	// Command is what runs in the container, as user 0.
	Command(d *task.Definition, c *task.Container, agent task.ManagedAgent) []string
	// Remove deletes what Outfit made for a task.
	Remove(ctx context.Context, d *task.Definition) error
}

// The patience with a managed agent, spec/task-engine.md §5.17.
const (
	agentAttempts   = 5
	agentPauseMin   = time.Second
	agentPauseMax   = 30 * time.Second
	agentPauseGrows = 1.5
	agentJitter     = 0.2
	// agentSettles is how long an agent must have run to count as started, and
	// agentProven how long for its failures before to be forgotten.
	agentSettles = time.Second
	agentProven  = time.Minute
)

// agentMounts are what a container's managed agents need. One that cannot be
// fitted out is given up; the container does without it.
func (r *runner) agentMounts(ctx context.Context, d *task.Definition, c *task.Container) []container.Mount {
	var mounts []container.Mount
	for _, agent := range c.ManagedAgents {
		err := errNoAgents
		var own []container.Mount
		if r.engine.config.Agents != nil {
			own, err = r.engine.config.Agents.Outfit(ctx, d, c, agent)
		}
		if err != nil {
			r.log.Warn("cannot fit the container out for a managed agent", zap.String("container", c.Name), zap.String("agent", agent.Name), zap.Error(err))
			r.tell(task.ManagedAgentChanged{
				Container: c.Name, Name: agent.Name, Status: task.ReportStopped, Reason: task.AgentNotInitialised + err.Error(), At: time.Now(),
			})
			continue
		}
		mounts = append(mounts, own...)
	}
	return mounts
}

// removeAgents deletes what was made on the host for a task's managed agents.
func (r *runner) removeAgents(ctx context.Context, d *task.Definition) {
	managed := slices.ContainsFunc(d.Containers, func(c task.Container) bool { return len(c.ManagedAgents) > 0 })
	if managed && r.engine.config.Agents != nil {
		r.insist(ctx, "cannot remove the files of the task's managed agents", func() error { return r.engine.config.Agents.Remove(ctx, d) })
	}
}

// errNoAgents says that there are none on this host.
var errNoAgents = errors.New("its binaries are not on this host")

// keeper keeps a managed agent of a container running. The agent outlives the
// keeper: the next one joins it.
type keeper struct {
	runner              *runner
	id, container, name string
	command             []string
	// known is what ECS knows: that it was started once.
	known bool
	// failures counts the attempts since it last ran for a while.
	failures int
}

func newKeeper(r *runner, id, name, agent string) *keeper {
	k := &keeper{runner: r, id: id, container: name, name: agent}
	d := r.machine.Definition()
	c := r.definition(name)
	for _, a := range c.ManagedAgents {
		if a.Name == agent && r.engine.config.Agents != nil {
			k.command = r.engine.config.Agents.Command(d, c, a)
		}
	}
	for _, a := range r.view.Load().container(name).ManagedAgents {
		k.known = k.known || a.Name == agent && a.Status == task.ReportRunning
	}
	return k
}

// loop runs the agent, again and again, until ctx ends, the container does, or it
// fails too often.
func (k *keeper) loop(ctx context.Context) {
	if len(k.command) == 0 {
		k.say(task.ReportStopped, task.AgentNotInitialised+errNoAgents.Error())
		return
	}
	for {
		err := k.once(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, container.ErrNotRunning), errors.Is(err, container.ErrNotFound):
			return // The machine knows how its container does.
		case errors.Is(err, container.ErrUnavailable):
			if !backoff.Wait(ctx, retryPause) {
				return
			}
			continue
		}
		k.failures++
		k.runner.log.Warn("a managed agent has ended", zap.String("container", k.container), zap.String("agent", k.name),
			zap.Int("attempt", k.failures), zap.Error(err))
		if k.failures >= agentAttempts {
			reason := err.Error()
			if k.known {
				reason = task.AgentNotRestarted
			}
			k.say(task.ReportStopped, reason)
			return
		}
		if !backoff.Wait(ctx, agentPause(k.failures)) {
			return
		}
	}
}

// once runs the agent, or joins the one that runs, and says why it is over.
func (k *keeper) once(ctx context.Context) error {
	var settled *time.Timer
	var began time.Time
	code, err := k.runner.engine.runtime.Exec(ctx, k.id, container.ExecRequest{
		Args: k.command, User: "0", Keep: k.name,
		Started: func(joined bool) {
			began = time.Now()
			switch {
			case joined && k.known:
			case joined:
				k.say(task.ReportRunning, task.AgentStarted)
			default:
				reason := task.AgentStarted
				if k.known {
					reason = task.AgentRestarted
				}
				settled = time.AfterFunc(agentSettles, func() { k.say(task.ReportRunning, reason) })
			}
		},
	})
	ran := !began.IsZero() && (settled == nil || !settled.Stop())
	k.known = k.known || ran
	if ran && time.Since(began) >= agentProven {
		k.failures = 0
	}
	switch {
	case err != nil && (ctx.Err() != nil || noVerdict(err)):
		return err
	case err != nil:
		return fmt.Errorf("unable to start %s [create]: %w", k.name, err)
	default:
		return fmt.Errorf("%s process exited with exit code: %d", k.name, code)
	}
}

// say tells the task what its agent does.
func (k *keeper) say(status task.ReportStatus, reason string) {
	k.runner.tell(task.ManagedAgentChanged{Container: k.container, Name: k.name, Status: status, Reason: reason, At: time.Now()})
}

// agentPause is the pause after so many failures.
func agentPause(failures int) time.Duration {
	d := float64(agentPauseMin)
	for range failures - 1 {
		d = min(d*agentPauseGrows, float64(agentPauseMax))
	}
	return time.Duration(d * (1 + agentJitter*(2*rand.Float64()-1)))
}

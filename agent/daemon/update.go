package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/update"
	"github.com/berthd/berth/runtime/logs"
)

// RestartError ends an agent that is to be started again at once, as another version of this program.
type RestartError struct{ Version string }

// Error says what is started next.
func (e *RestartError) Error() string {
	return "the agent is to be started again, as version " + e.Version
}

// newLogProcess is how long a log process may take to be there again after it gave way. Writers have a pipe's room to go on; if it takes
// longer they are about to wait, and that is worse than an update that is not made.
const newLogProcess = 15 * time.Second

// UpdateState is where the settings have the record of updates.
func UpdateState(c *config.Config) string { return filepath.Join(c.Paths.Data, "update") }

// updating is what the agent does about other versions of itself. Its parts do nothing in a program that no package installed.
type updating struct {
	agent   *agent
	log     *zap.Logger
	record  update.Record
	proving bool
	// published counts what telemetry collected to be sent.
	published atomic.Int64
	// retiring is the log process that was asked to give way, and since when. It belongs to the gate's goroutine.
	retiring      logs.Process
	retiringSince time.Time
}

// beginUpdating finds out whether this version has to prove itself. That nobody can say is no reason not to run tasks.
func beginUpdating(a *agent) *updating {
	u := &updating{agent: a, log: a.log.Named("update")}
	if a.options.Updater == nil {
		return u
	}
	var err error
	if u.record, u.proving, err = a.options.Updater.Begin(); err != nil {
		u.log.Error("cannot find out about the last update", zap.Error(err))
	}
	if u.record.Phase == update.Returned {
		u.log.Warn("the last update came back", zap.String("version", u.record.To), zap.String("why", u.record.Reason), zap.Time("at", u.record.Ended))
	}
	return u
}

// run proves this version, if it has to be, and then waits for ctx. It ends the agent when this version is no good.
func (u *updating) run(ctx context.Context) error {
	switch {
	case u.agent.options.Updater == nil:
	case u.proving:
		if err := u.prove(ctx); err != nil {
			return err
		}
	default:
		u.dropCopies()
		if err := u.sameLogProcess(ctx); err != nil && ctx.Err() == nil {
			u.log.Info("the log process is to become this version", zap.Error(err))
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// prove waits at the gate.
func (u *updating) prove(ctx context.Context) error {
	deadline := u.agent.options.Config.Agent.UpdateDeadline
	u.log.Info("this version has to prove itself", zap.String("from", u.record.From), zap.String("to", u.record.To), zap.Duration("within", deadline))
	tell(u.log, systemd.Status("proving version "+u.record.To))
	err := update.Gate(ctx, deadline, u.conditions())
	switch {
	case err == nil:
		if u.record, err = u.agent.options.Updater.Confirm(); err != nil {
			u.log.Error("cannot keep that this version proved itself", zap.Error(err))
			return nil
		}
		u.dropCopies()
		u.log.Info("updated", zap.String("from", u.record.From), zap.String("to", u.record.To), zap.Duration("took", u.record.Took()))
		tell(u.log, systemd.Status("updated to version "+u.record.To))
		return nil
	case !errors.Is(err, update.ErrGate):
		return nil // The agent is stopped by somebody; the next one proves itself.
	}
	if u.record, err = u.agent.options.Updater.Return(err.Error()); err != nil {
		u.log.Error("cannot return to the old version; going on with this one", zap.Error(err))
		return nil
	}
	u.log.Error("returning to the old version", zap.String("from", u.record.To), zap.String("to", u.record.From), zap.String("why", u.record.Reason))
	return &RestartError{u.record.From}
}

// dropCopies removes what only an older version could want.
func (u *updating) dropCopies() {
	if err := store.DropCopies(filepath.Join(u.agent.options.Config.Paths.Data, "agent.db")); err != nil {
		u.log.Warn("cannot tidy up after the update", zap.Error(err))
	}
}

// conditions are what a new version has to show.
func (u *updating) conditions() []update.Condition {
	a := u.agent
	all := []update.Condition{
		{Name: "containerd", Met: func(context.Context) error { return u.well("containerd") }},
		{Name: "task engine", Met: func(context.Context) error { return u.well("engine") }},
		{Name: "tasks", Met: func(context.Context) error { return u.adopted() }},
	}
	if c := &a.options.Config; u.record.Connected {
		all = append(all, update.Condition{Name: "ACS", Met: func(context.Context) error { return u.connected("acs") }})
		if !c.Metrics.Disabled || !c.Task.DisableHealthChecks {
			all = append(all, update.Condition{Name: "metrics", Met: func(context.Context) error { return u.flowing() }})
		}
	}
	// Last, and only once the rest is well: an agent that is about to return does not touch it.
	rest := all
	return append(all, update.Condition{Name: "log process", Met: func(ctx context.Context) error {
		for _, c := range rest {
			if c.Met(ctx) != nil {
				return errors.New("not asked yet")
			}
		}
		return u.sameLogProcess(ctx)
	}})
}

// well asks the board about a part.
func (u *updating) well(name string) error {
	for _, p := range u.agent.verdict().Parts {
		if p.Name == name {
			if p.Status != health.OK {
				return fmt.Errorf("%s %s", p.Status, p.Reason)
			}
			return nil
		}
	}
	return errors.New("not known")
}

// adopted is met when every task is known that ran before.
func (u *updating) adopted() error {
	known := map[string]bool{}
	for _, t := range u.agent.engine.Tasks() {
		known[t.ID()] = true
	}
	for _, id := range u.record.Tasks {
		if !known[id] {
			return fmt.Errorf("task %s ran before and is not known", id)
		}
	}
	return nil
}

func (u *updating) connected(name string) error {
	up, _, why := u.agent.sessions.link(name).Status()
	switch {
	case up:
		return nil
	case why != nil:
		return why
	}
	return errors.New("not connected yet")
}

// flowing is met when telemetry is connected and has been sent what tasks use.
func (u *updating) flowing() error {
	if err := u.connected("tcs"); err != nil {
		return err
	}
	if !u.agent.options.Config.Metrics.Disabled && u.published.Load() == 0 {
		return errors.New("none published yet")
	}
	return nil
}

// sameLogProcess is met when the log process is of this version. One of another is asked, once, to give way: this agent holds the pipes
// of all containers meanwhile.
func (u *updating) sameLogProcess(ctx context.Context) error {
	client, version := u.agent.host.logs, u.agent.options.Version
	p, err := client.Process(ctx)
	switch {
	case errors.Is(err, logs.ErrOld):
		return nil // From before there were updates; it goes on as it is.
	case err == nil && p.Version == version:
		return nil
	case err == nil && p != u.retiring:
		if err := client.Retire(ctx, p); err != nil {
			return err
		}
		u.log.Info("replacing the log process", zap.Int("pid", p.PID), zap.String("from", p.Version), zap.String("to", version))
		u.retiring, u.retiringSince = p, time.Now()
	}
	if err == nil {
		err = fmt.Errorf("it is of version %s", p.Version)
	}
	if !u.retiringSince.IsZero() && time.Since(u.retiringSince) > newLogProcess {
		return fmt.Errorf("%w: %w", update.ErrHopeless, err)
	}
	return err
}

// before is how the host is now, for the version that comes after.
func (u *updating) before() update.Before {
	b := update.Before{}
	b.Connected = u.connected("acs") == nil
	for _, t := range u.agent.engine.Tasks() {
		if !t.Forgotten && t.State.StoppedAt.IsZero() && t.Desired != task.ReportStopped {
			b.Tasks = append(b.Tasks, t.ID())
		}
	}
	return b
}

// counted counts what is collected to be published.
type counted struct {
	tcs.Metrics

	times *atomic.Int64
}

// Collect counts and collects.
func (c counted) Collect() ([]tcs.Sample, int) {
	c.times.Add(1)
	return c.Metrics.Collect()
}

package drain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

const (
	// askPatience is how long one call of ECS may take.
	askPatience = 10 * time.Second
	// stopPause is how often it is looked for tasks to stop once it is time: one may still have been on its way here.
	stopPause = time.Second
)

// Tasks are those of the host.
type Tasks interface {
	// Running are the ids of the tasks that have not been told to stop.
	Running() []string
	// Stop begins to stop a task, in the order of its containers' dependencies. A task that is gone is no error.
	Stop(ctx context.Context, id, reason string) error
}

// Config is what a Drainer needs.
type Config struct {
	// Saved is what the last agent kept, and Keep keeps it: once it returns nil, a kill loses nothing.
	Saved State
	Keep  func(State) error
	// Set asks ECS for a status; nil means that it is accepted. Get is the status that ECS holds.
	Set   func(ctx context.Context, s Status) error
	Get   func(ctx context.Context) (Status, error)
	Tasks Tasks
	// Tell is told what happens, in a word or two and a sentence; nil tells nobody.
	Tell func(what, detail string)
	// Metadata is where EC2 announces things; nil where there is none, or nothing is to be listened to. Spot says whether its
	// announcements about spot instances count.
	Metadata Metadata
	Spot     bool
	// Joined says whether ECS knows the host at all: one that waits in a warm pool for its first service has none to leave.
	Joined func() bool
	Log    *zap.Logger
}

// Drainer carries out orders. Its methods may be called at once.
type Drainer struct {
	cfg  Config
	spot atomic.Bool // whether announcements about spot instances count now

	mu    sync.Mutex // guards the fields below, and that what is kept last is newest
	state State
	// orders counts them: an answer of ECS to an older one does not count.
	orders int
	// changed is closed, and made anew, when state changes.
	changed chan struct{}
}

// New makes a Drainer; Run lets it work.
func New(c Config) *Drainer {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Joined == nil {
		c.Joined = func() bool { return true }
	}
	if c.Tell == nil {
		c.Tell = func(string, string) {}
	}
	d := &Drainer{cfg: c, state: c.Saved, changed: make(chan struct{})}
	d.spot.Store(c.Spot)
	return d
}

// ListenForSpot says whether announcements about spot instances count from now on. What was ordered because of one stands.
func (d *Drainer) ListenForSpot(on bool) { d.spot.Store(on) }

// State is the last order and how it fares.
func (d *Drainer) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Drain orders the host out of service for a person. After stop, what still runs is stopped; a negative stop is never. It returns once
// the order is kept.
func (d *Drainer) Drain(reason string, stop time.Duration) error {
	now := time.Now()
	o := State{Status: Draining, By: Person, Reason: reason, Since: now}
	if stop >= 0 {
		o.StopAt = now.Add(stop)
	}
	return d.order(o)
}

// Cancel orders the host back into service for a person.
func (d *Drainer) Cancel(reason string) error {
	return d.order(State{Status: Active, By: Person, Reason: reason, Since: time.Now()})
}

// Run carries out orders and listens to EC2 until ctx ends.
func (d *Drainer) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { d.ask(ctx) })
	group.Go(func() { d.stop(ctx) })
	if d.cfg.Metadata != nil {
		group.Go(func() { d.watch(ctx) })
	}
	group.Wait()
	return context.Cause(ctx)
}

// order keeps a new order and wakes those who carry it out.
func (d *Drainer) order(o State) error {
	if err := d.change(func(s *State) bool { s.order(o); return true }); err != nil {
		return err
	}
	d.cfg.Log.Info("the host's place in the cluster changes", zap.String("to", string(o.Status)), zap.String("by", string(o.By)),
		zap.String("reason", o.Reason), zap.Time("stopTasksAt", o.StopAt))
	what := "draining"
	if o.Status == Active {
		what = "drain cancelled"
	}
	d.cfg.Tell(what, o.Reason)
	return nil
}

// change edits the state, if edit says that there is something to change, and keeps it before anybody sees it.
func (d *Drainer) change(edit func(*State) bool) error { return d.edit(true, edit) }

// edit is change; one that is not news wakes nobody, and an answer of ECS still counts.
func (d *Drainer) edit(news bool, edit func(*State) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.state
	if !edit(&next) {
		return nil
	}
	if err := d.cfg.Keep(next); err != nil {
		return fmt.Errorf("cannot keep the order to drain: %w", err)
	}
	d.state = next
	if !news {
		return nil
	}
	d.orders++
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

// look is the state, which order it is, and a channel that is closed when it changes.
func (d *Drainer) look() (State, int, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, d.orders, d.changed
}

// ask asks ECS for what is ordered until that is accepted.
func (d *Drainer) ask(ctx context.Context) {
	ladder := backoff.Ladder{First: time.Second, Last: 10 * time.Second, Factor: 1.1, Jitter: 0.1}
	for {
		s, order, changed := d.look()
		s = s.Effective()
		if s.Status == "" || s.Accepted {
			ladder.Reset()
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err := d.askOnce(ctx, &s); err != nil {
			if ctx.Err() != nil {
				return
			}
			if s.Trouble == "" {
				d.cfg.Log.Warn("ECS does not accept the host's new status yet; asking until it does", zap.String("status", string(s.Status)), zap.Error(err))
			}
			d.trouble(order, err)
			timer := time.NewTimer(ladder.Next())
			select {
			case <-timer.C:
			case <-changed:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		d.accepted(order, s.Status)
	}
}

// askOnce asks, and not for long. Where the host goes down ECS is first asked what it holds now: that is to be so again afterwards.
func (d *Drainer) askOnce(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askPatience, errors.New("ECS does not answer"))
	defer cancel()
	if s.By != Shutdown || s.Down == nil {
		return d.cfg.Set(ctx, s.Status)
	}
	before := s.Down.Before
	if before == "" {
		var err error
		if before, err = d.cfg.Get(ctx); err != nil {
			return err
		}
		// A Down is another one each time it is changed: what was read of it stays what it was.
		if err := d.edit(false, func(s *State) bool {
			if s.Down == nil || s.Down.Before != "" {
				return false
			}
			down := *s.Down
			down.Before = before
			s.Down = &down
			return true
		}); err != nil {
			return err
		}
	}
	if before == Draining {
		return nil
	}
	return d.cfg.Set(ctx, s.Status)
}

// trouble remembers why ECS did not accept an order.
func (d *Drainer) trouble(order int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.orders == order {
		d.state.Trouble = err.Error()
	}
}

// accepted keeps that ECS has taken an order, unless there is another one by now. If that cannot be kept it is asked for once more,
// which does no harm.
func (d *Drainer) accepted(order int, status Status) {
	err := d.change(func(s *State) bool {
		if d.orders != order {
			return false
		}
		s.Trouble = ""
		if s.Effective().By == Shutdown && s.Down != nil {
			down := *s.Down
			down.Accepted = true
			s.Down = &down
		} else {
			s.Accepted = true
		}
		return true
	})
	if err != nil {
		d.cfg.Log.Error("cannot keep that ECS accepted the host's status", zap.Error(err))
		d.trouble(order, err)
		return
	}
	d.cfg.Log.Info("ECS has accepted the host's status", zap.String("status", string(status)))
	d.cfg.Tell("ECS has accepted", string(status))
}

// stop stops what still runs when it is time.
func (d *Drainer) stop(ctx context.Context) {
	for {
		s, _, changed := d.look()
		var timer *time.Timer
		var due <-chan time.Time // never, without a time to stop
		if s.draining() && !s.StopAt.IsZero() {
			wait := time.Until(s.StopAt)
			if wait <= 0 {
				d.stopAll(ctx, &s)
				wait = stopPause
			}
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// stopAll tells every task to stop that runs yet.
func (d *Drainer) stopAll(ctx context.Context, s *State) {
	for _, id := range d.cfg.Tasks.Running() {
		if err := d.cfg.Tasks.Stop(ctx, id, "Host is draining: "+s.Reason); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("cannot stop task; trying again", zap.String("task", id), zap.Error(err))
		}
	}
}

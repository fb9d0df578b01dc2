package drain

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// shutPatience is how long a host that goes down waits for ECS to accept that, before its tasks are stopped: a service that
	// misses one looks for another place at once.
	shutPatience = 3 * time.Second
	// shutLook is how often it is looked whether ECS has accepted.
	shutLook = 20 * time.Millisecond
)

// GoingDown takes the host out of service for as long as the boot lasts. It returns once that is kept, and ECS has accepted it, refused
// it, or had time to: a host goes down whatever ECS says. It may be called again, also by the next agent of the same boot.
func (d *Drainer) GoingDown(ctx context.Context, boot string) error {
	err := d.change(func(s *State) bool {
		if s.Down != nil && s.Down.Boot == boot {
			return false
		}
		down := Down{Boot: boot, Since: time.Now()}
		if s.Down != nil {
			down.Before = s.Down.Before
		}
		s.Down, s.Trouble = &down, ""
		return true
	})
	if err != nil {
		return err
	}
	d.cfg.Tell("draining", "the host is shutting down")
	deadline := time.NewTimer(shutPatience)
	defer deadline.Stop()
	ticker := time.NewTicker(shutLook)
	defer ticker.Stop()
	for {
		if s := d.State().Effective(); s.Accepted || s.Trouble != "" || !d.cfg.Joined() {
			return nil
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Up puts the host back to what it was before it went down, if it did: the shutdown was cancelled, or the host is up again.
func (d *Drainer) Up() error {
	was := false
	err := d.change(func(s *State) bool {
		if was = s.Down != nil; was {
			s.up(time.Now())
		}
		return was
	})
	if was && err == nil {
		s := d.State()
		d.cfg.Log.Info("the host is up, and its place in the cluster what it was before it went down", zap.String("status", string(s.Status)))
	}
	return err
}

// Down is the boot in which the host went down, or goes down; "" when it does not.
func (d *Drainer) Down() string {
	if s := d.State(); s.Down != nil {
		return s.Down.Boot
	}
	return ""
}

package drain

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Metadata is the instance metadata service.
type Metadata interface {
	// Get is the value of a path below latest/meta-data; set is false where the service answers that there is none.
	Get(ctx context.Context, path string) (value string, set bool, err error)
}

// Where EC2 says what it is about to do.
const (
	pathSpot      = "spot/instance-action"
	pathRebalance = "events/recommendations/rebalance"
	pathLifecycle = "autoscaling/target-lifecycle-state"
)

const (
	// spotPause is how often it is asked for an interruption, which is told two minutes before (spec/host.md §6.2).
	spotPause = time.Second
	// slowly is in how many rounds the rest is asked for once: nothing of it is that urgent.
	slowly = 5
	// stopMargin is how long before an interruption the tasks are stopped that still run: the default stop timeout, so that EC2 does
	// not cut them off.
	stopMargin = 30 * time.Second
	// over is how long after an interruption has begun its notice may still be missing by accident.
	over = time.Minute
)

// watch listens to EC2 until ctx ends.
func (d *Drainer) watch(ctx context.Context) {
	ticker := time.NewTicker(spotPause)
	defer ticker.Stop()
	var trouble string
	for round := 0; ; round++ {
		err := d.hear(ctx, round%slowly == 0)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			trouble = ""
		case err.Error() != trouble: // once, not each second
			trouble = err.Error()
			d.cfg.Log.Warn("cannot hear what EC2 announces; asking on", zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// hear asks once for all that may be announced; without all, for an interruption alone.
func (d *Drainer) hear(ctx context.Context, all bool) error {
	spot := d.spot.Load()
	if s := d.State(); spot && (all || s.By != Spot || !s.draining()) {
		if err := d.hearSpot(ctx); err != nil {
			return err
		}
	}
	if !all {
		return nil
	}
	if spot {
		if err := d.hearRebalance(ctx); err != nil {
			return err
		}
	}
	if !d.cfg.Joined() {
		return nil
	}
	return d.hearLifecycle(ctx)
}

// hearSpot acts on the notice of an interruption, and on its end: an instance that was stopped or hibernated comes back as the same
// host.
func (d *Drainer) hearSpot(ctx context.Context) error {
	text, set, err := d.cfg.Metadata.Get(ctx, pathSpot)
	if err != nil {
		return err
	}
	now := time.Now()
	if !set {
		s := d.State()
		if s.draining() && s.By == Spot && !s.Ends.IsZero() && now.After(s.Ends.Add(over)) {
			return d.order(State{Status: Active, By: Spot, Reason: "the instance is back from its interruption", Since: now})
		}
		return nil
	}
	text = strings.TrimSpace(text)
	if d.State().Notice == text {
		return nil
	}
	var notice struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(text), &notice); err != nil {
		return fmt.Errorf("cannot read %s: %w", pathSpot, err)
	}
	o := State{Status: Draining, By: Spot, Since: now, Reason: "EC2 interrupts this spot instance: " + notice.Action + " at " + notice.Time.UTC().Format(time.RFC3339)}
	switch notice.Action {
	case "terminate":
	case "stop", "hibernate":
		o.Ends = notice.Time
	default:
		return fmt.Errorf("cannot act on %s: unknown action %q", pathSpot, notice.Action)
	}
	// What is hibernated runs on afterwards, and a notice of the past is not one to hurry for.
	if notice.Action != "hibernate" && notice.Time.After(now) {
		o.StopAt = notice.Time.Add(-stopMargin)
	}
	return d.announced(o, func(s *State) { s.Notice = text })
}

// hearRebalance acts on the recommendation to leave.
func (d *Drainer) hearRebalance(ctx context.Context) error {
	text, set, err := d.cfg.Metadata.Get(ctx, pathRebalance)
	text = strings.TrimSpace(text)
	if err != nil || !set || d.State().Rebalance == text {
		return err
	}
	o := State{Status: Draining, By: Rebalance, Since: time.Now(), Reason: "EC2 recommends to leave this spot instance, which is likely to be interrupted"}
	return d.announced(o, func(s *State) { s.Rebalance = text })
}

// hearLifecycle acts on what the Auto Scaling group wants of the instance.
func (d *Drainer) hearLifecycle(ctx context.Context) error {
	target, set, err := d.cfg.Metadata.Get(ctx, pathLifecycle)
	if err != nil || !set {
		return err
	}
	target = strings.TrimSpace(target)
	switch {
	case target == inService:
		return d.wanted()
	case target != terminated && !strings.HasPrefix(target, warmed), target == d.State().Lifecycle:
		return nil
	}
	o := State{Status: Draining, By: Lifecycle, Since: time.Now(), Reason: "the Auto Scaling group takes this instance out of service: " + target}
	return d.announced(o, func(s *State) { s.Lifecycle = target })
}

// wanted acts on a group that wants the instance in service: it ends what the group itself began, and nothing else.
func (d *Drainer) wanted() error {
	const reason = "the Auto Scaling group puts this instance into service"
	began := false
	err := d.change(func(s *State) bool {
		if s.Lifecycle == "" {
			return false
		}
		if began = s.By == Lifecycle && s.draining(); began {
			s.order(State{Status: Active, By: Lifecycle, Reason: reason, Since: time.Now()})
		}
		s.Lifecycle = ""
		return true
	})
	if began && err == nil {
		d.cfg.Log.Info("this host is put back into service", zap.String("reason", reason))
		d.cfg.Tell("drain cancelled", reason)
	}
	return err
}

// announced keeps an order of EC2 together with what announced it, in one write.
func (d *Drainer) announced(o State, remember func(*State)) error {
	err := d.change(func(s *State) bool {
		s.order(o)
		remember(s)
		return true
	})
	if err != nil {
		return err
	}
	d.cfg.Log.Warn("this host is taken out of service", zap.String("by", string(o.By)), zap.String("reason", o.Reason), zap.Time("stopTasksAt", o.StopAt))
	d.cfg.Tell("draining", o.Reason)
	return nil
}

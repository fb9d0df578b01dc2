package drain

import "time"

// Cause says who ordered.
type Cause string

// The causes.
const (
	// Person is somebody at the host.
	Person Cause = "person"
	// Spot is the notice that EC2 interrupts the instance.
	Spot Cause = "spot interruption"
	// Rebalance is the recommendation to leave an instance that is likely to be interrupted.
	Rebalance Cause = "rebalance recommendation"
	// Lifecycle is the Auto Scaling group: it terminates the instance, or returns it to the warm pool.
	Lifecycle Cause = "auto scaling"
	// Shutdown is the host itself, which goes down or is up again.
	Shutdown Cause = "shutdown"
)

// Status is what ECS is to hold of the host, in its own words.
type Status string

// The statuses.
const (
	Active   Status = "ACTIVE"
	Draining Status = "DRAINING"
)

// State is the last order and how it fares. It is what survives a restart of the agent. The zero value: nothing was ever ordered.
type State struct {
	Status Status `json:"status,omitempty"`
	By     Cause  `json:"by,omitempty"`
	// Reason is the order in plain words.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// StopAt is when the tasks that still run are stopped; zero is never.
	StopAt time.Time `json:"stopAt,omitzero"`
	// Accepted says that ECS has taken the order.
	Accepted bool `json:"accepted,omitempty"`
	// Ends is when the cause begins to take effect; afterwards it may be over. Zero for causes that are never over by themselves.
	Ends time.Time `json:"ends,omitzero"`
	// Notice is the last notice of an interruption that was acted on, Rebalance the last recommendation, and Lifecycle what the Auto
	// Scaling group wants that is not service.
	Notice    string `json:"notice,omitempty"`
	Rebalance string `json:"rebalance,omitempty"`
	Lifecycle string `json:"lifecycle,omitempty"`
	// Down is not nil while the host goes down, whatever the order is.
	Down *Down `json:"down,omitempty"`
	// Trouble is why ECS has not accepted the order yet. It is not kept.
	Trouble string `json:"-"`
}

// Down is that the host goes down. It ends with the boot.
type Down struct {
	Boot  string    `json:"boot"`
	Since time.Time `json:"since"`
	// Before is what ECS held of the host then, once that is known: whoever had it DRAINING wants that after the boot as well.
	Before Status `json:"before,omitempty"`
	// Accepted says that ECS holds the host DRAINING now.
	Accepted bool `json:"accepted,omitempty"`
}

// Effective is the order that counts now: the last one, or that the host goes down.
func (s State) Effective() State {
	if s.Down != nil && !s.draining() {
		s.Status, s.By, s.Reason, s.Since, s.Accepted = Draining, Shutdown, "the host is shutting down", s.Down.Since, s.Down.Accepted
		s.StopAt, s.Ends = time.Time{}, time.Time{}
	}
	return s
}

// up ends that the host goes down. ECS is asked for ACTIVE only where it was asked for DRAINING because of that, and was not before.
func (s *State) up(now time.Time) {
	before := s.Down.Before
	s.Down = nil
	if before == Active && !s.draining() {
		s.order(State{Status: Active, By: Shutdown, Reason: "the host is up", Since: now})
	}
}

// draining says whether the host is out of service, or is to be.
func (s *State) draining() bool { return s.Status == Draining }

// order puts o, which has Status, By, Reason, Since, StopAt and Ends, in the place of the last one. A drain that is under way keeps
// the earlier of two times to stop tasks, and a cause that comes after a person's does not take it over: it must not end it either.
func (s *State) order(o State) {
	if s.draining() && o.draining() {
		o.StopAt = earlier(s.StopAt, o.StopAt)
		if o.By != Person {
			if s.By == Person || s.By == Spot {
				o.By, o.Reason, o.Since, o.Ends = s.By, s.Reason, s.Since, s.Ends
			}
			o.Accepted = s.Accepted // Nothing new to ECS.
		}
	}
	o.Notice, o.Rebalance, o.Lifecycle, o.Down = s.Notice, s.Rebalance, s.Lifecycle, s.Down
	*s = o
}

// earlier is the earlier of two times, of which a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

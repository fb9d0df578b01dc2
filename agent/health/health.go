// Package health collects what the parts of the agent say about themselves and answers with one verdict: for systemd's STATUS line
// and watchdog, for `berth ps` and `berth doctor`, and for the instance status that ECS shows.
//
// A part has two voices. It reports (ok, or impaired with a reason a person can act on), which is about the host: containerd does
// not answer, ECS is out of reach. And it beats, which is about the agent itself: the loop that should turn still turns. An impaired
// host is not a reason to restart the agent, so reports never touch the watchdog; a loop that stands still is, so a stale beat
// withholds the watchdog's ping and systemd starts us anew.
//
// The package has no clock; every call brings the time.
package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Status is how a part is, in the words of the ECS telemetry service (control-plane.md §5.7).
type Status string

// The statuses, from best to worst as Verdict ranks them.
const (
	OK               Status = "OK"
	InsufficientData Status = "INSUFFICIENT_DATA"
	Initializing     Status = "INITIALIZING"
	Impaired         Status = "IMPAIRED"
)

// Type is what kind of part ECS takes it for.
type Type string

// The types of the telemetry service.
const (
	ContainerRuntime   Type = "ContainerRuntime"
	Agent              Type = "Agent"
	EBSDaemon          Type = "EBSDaemon"
	AcceleratedCompute Type = "ACCELERATED_COMPUTE"
)

// Part is one part's last report.
type Part struct {
	Name   string `json:"name"`
	Type   Type   `json:"type"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Changed is when Status became what it is, Updated when the part last reported at all.
	Changed time.Time `json:"changed"`
	Updated time.Time `json:"updated"`
}

// Verdict is the health of the whole agent at one moment.
type Verdict struct {
	Status Status `json:"status"`
	Parts  []Part `json:"parts"`
	// Stale names the parts whose beat is overdue; the watchdog is not fed while there is one.
	Stale []string `json:"stale,omitempty"`
}

// Healthy tells whether nothing is impaired and nothing stands still. A part that is still initializing counts as healthy, as it does
// for ECS.
func (v Verdict) Healthy() bool { return v.Status != Impaired && len(v.Stale) == 0 }

// Summary is one line for a status display: "ok", or what is wrong.
func (v Verdict) Summary() string {
	var wrong []string
	for _, name := range v.Stale {
		wrong = append(wrong, name+" stands still")
	}
	for _, p := range v.Parts {
		if p.Status != OK {
			s := p.Name + " " + strings.ToLower(string(p.Status))
			if p.Reason != "" {
				s += ": " + p.Reason
			}
			wrong = append(wrong, s)
		}
	}
	if len(wrong) == 0 {
		return "ok"
	}
	return strings.Join(wrong, "; ")
}

// Board is where parts report. Its methods may be called from any goroutine; none of them blocks on anything but the lock.
type Board struct {
	mu    sync.Mutex // guards parts and what they point to
	parts []*part
}

type part struct {
	Part

	within time.Duration // longest time between beats; 0 means that this part does not beat
	beat   time.Time
}

// NewBoard makes an empty board.
func NewBoard() *Board { return &Board{} }

// Declare adds a part that starts out initializing. If within is positive the part has to beat at least that often, counted from at
// on. Declaring a part again starts it over.
func (b *Board) Declare(name string, t Type, within time.Duration, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(name)
	b.parts = append(b.parts, &part{
		Part:   Part{Name: name, Type: t, Status: Initializing, Changed: at, Updated: at},
		within: within, beat: at,
	})
}

// Retire removes a part, because it ended in good order.
func (b *Board) Retire(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(name)
}

func (b *Board) remove(name string) {
	b.parts = slices.DeleteFunc(b.parts, func(p *part) bool { return p.Name == name })
}

func (b *Board) find(name string) *part {
	for _, p := range b.parts {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Report records how a part is. It answers whether the status changed, so that the caller logs a change once and not every round. A
// part that was never declared is ignored: a report may cross its retirement.
func (b *Board) Report(name string, s Status, reason string, at time.Time) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.find(name)
	if p == nil {
		return false
	}
	if changed = p.Status != s; changed {
		p.Changed = at
	}
	p.Status, p.Reason, p.Updated = s, reason, at
	return changed
}

// Beat records that a part's loop turned.
func (b *Board) Beat(name string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.find(name); p != nil && at.After(p.beat) {
		p.beat = at
	}
}

// Alive tells whether every part that has to beat did so in time.
func (b *Board) Alive(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.stale(at)) == 0
}

func (b *Board) stale(at time.Time) []string {
	var names []string
	for _, p := range b.parts {
		if p.within > 0 && at.Sub(p.beat) > p.within {
			names = append(names, p.Name)
		}
	}
	return names
}

// Verdict answers the health of the whole. A board without parts has insufficient data.
func (b *Board) Verdict(at time.Time) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := Verdict{Status: InsufficientData, Parts: []Part{}, Stale: b.stale(at)}
	for i, p := range b.parts {
		v.Parts = append(v.Parts, p.Part)
		if i == 0 {
			v.Status = p.Status
		}
		v.Status = worse(v.Status, p.Status)
	}
	return v
}

// Instance answers one status per type, the worst of its parts, in the order the types were declared: what the telemetry service is
// told.
func (b *Board) Instance() []Part {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Part
	for _, p := range b.parts {
		i := slices.IndexFunc(out, func(o Part) bool { return o.Type == p.Type })
		if i < 0 {
			out = append(out, p.Part)
			continue
		}
		if o := out[i]; worse(o.Status, p.Status) != o.Status {
			out[i] = p.Part
		}
	}
	return out
}

func worse(a, b Status) Status {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func rank(s Status) int {
	switch s {
	case OK:
		return 0
	case InsufficientData:
		return 1
	case Initializing:
		return 2
	case Impaired:
		return 3
	}
	panic(fmt.Sprintf("health: unknown status %q", s))
}

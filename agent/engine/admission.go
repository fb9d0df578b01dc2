package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/berthd/berth/agent/task"
)

// errBusy says that what a task needs is held by another task of ours: waiting
// helps.
var errBusy = errors.New("held by another task")

// applicant is a task that wants to begin.
type applicant struct {
	id     string
	demand task.Demand
	// lease takes ports and addresses; errBusy keeps the task waiting, any other
	// error refuses it.
	lease func() error
	// answer is called once: with nil when the task may begin, else with why it
	// never will. It must not block.
	answer func(error)
	// waits is why it was not admitted when last looked at.
	waits string
}

// admission decides which tasks may begin: the service frees a stopping task's
// resources early and may place the next one before the old one is gone.
//
// Waiting tasks are looked at in the order they came, each time something is
// given back; one that does not fit does not hold up those behind it.
type admission struct {
	capacity Capacity

	mu      sync.Mutex // guards all below
	used    Capacity
	held    map[string]task.Demand
	taken   map[exclusive]string // the task that has what one task at a time can have
	waiting []*applicant
}

// exclusive is something of the host that one task at a time can have. A fixed
// port counts in every network mode: that of a task in host mode is bound by the
// task itself, and by nobody of ours.
type exclusive struct{ kind, name string }

// String is what people call it.
func (e exclusive) String() string {
	if e.kind == "gpu" {
		return "GPU " + e.name
	}
	return "host port " + e.name + "/" + e.kind
}

func newAdmission(c Capacity) *admission {
	return &admission{capacity: c, held: map[string]task.Demand{}, taken: map[exclusive]string{}}
}

// exclusives are what a demand wants for its task alone.
func exclusives(d task.Demand) []exclusive {
	var all []exclusive
	for _, n := range d.TCP {
		all = append(all, exclusive{"tcp", strconv.Itoa(int(n))})
	}
	for _, n := range d.UDP {
		all = append(all, exclusive{"udp", strconv.Itoa(int(n))})
	}
	for _, id := range d.GPUs {
		all = append(all, exclusive{"gpu", id})
	}
	return all
}

// apply asks for a task to begin.
func (a *admission) apply(ap *applicant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.tooBig(ap.demand); err != nil {
		ap.answer(err)
		return
	}
	if !a.admit(ap) {
		a.waiting = append(a.waiting, ap)
	}
}

// restore takes what a task already holds.
func (a *admission) restore(id string, d task.Demand) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.take(id, d)
}

// cancel takes a task out of the queue.
func (a *admission) cancel(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(ap *applicant) bool { return ap.id == id })
}

// release gives back what a task holds and lets in whoever fits now. The
// task's ports and addresses must be free already.
func (a *admission) release(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d, ok := a.held[id]; ok {
		delete(a.held, id)
		a.used.CPU -= d.CPU
		a.used.Memory -= d.Memory
		for _, e := range exclusives(d) {
			if a.taken[e] == id {
				delete(a.taken, e)
			}
		}
	}
	a.waiting = slices.DeleteFunc(a.waiting, func(ap *applicant) bool { return ap.id == id || a.admit(ap) })
}

// why says what a waiting task waits for, or "".
func (a *admission) why(id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ap := range a.waiting {
		if ap.id == id {
			return ap.waits
		}
	}
	return ""
}

// admit answers the applicant if it can begin, or never can, and says whether
// it did.
func (a *admission) admit(ap *applicant) bool {
	if ap.waits = a.lacks(ap.demand); ap.waits != "" {
		return false
	}
	switch err := ap.lease(); {
	case errors.Is(err, errBusy):
		ap.waits = err.Error()
		return false
	case err != nil:
		ap.answer(err)
	default:
		a.take(ap.id, ap.demand)
		ap.answer(nil)
	}
	return true
}

func (a *admission) take(id string, d task.Demand) {
	if _, ok := a.held[id]; ok {
		return
	}
	a.held[id] = d
	a.used.CPU += d.CPU
	a.used.Memory += d.Memory
	for _, e := range exclusives(d) {
		if _, taken := a.taken[e]; !taken {
			a.taken[e] = id
		}
	}
}

// lacks says what is not free now.
func (a *admission) lacks(d task.Demand) string {
	switch {
	case a.capacity.CPU > 0 && a.used.CPU+d.CPU > a.capacity.CPU:
		return fmt.Sprintf("needs %d CPU units, %d of %d are free", d.CPU, a.capacity.CPU-a.used.CPU, a.capacity.CPU)
	case a.capacity.Memory > 0 && a.used.Memory+d.Memory > a.capacity.Memory:
		return fmt.Sprintf("needs %d MiB of memory, %d of %d are free", d.Memory, a.capacity.Memory-a.used.Memory, a.capacity.Memory)
	}
	for _, e := range exclusives(d) {
		if owner, taken := a.taken[e]; taken {
			return fmt.Sprintf("needs %s, which task %s has", e, owner)
		}
	}
	return ""
}

// tooBig refuses what would wait for ever.
func (a *admission) tooBig(d task.Demand) error {
	switch {
	case a.capacity.CPU > 0 && d.CPU > a.capacity.CPU:
		return fmt.Errorf("the task needs %d CPU units and this host has %d in all", d.CPU, a.capacity.CPU)
	case a.capacity.Memory > 0 && d.Memory > a.capacity.Memory:
		return fmt.Errorf("the task needs %d MiB of memory and this host has %d MiB in all", d.Memory, a.capacity.Memory)
	default:
		return nil
	}
}

package taskmeta

import (
	"net/netip"
	"sync"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
)

// Task is a task as the engine sees it at one moment. Nobody changes what it
// points to.
type Task struct {
	State task.State
	// Endpoints are the addresses by container name; "" is the whole task's.
	Endpoints map[string]ipam.Endpoint
	// Desired is RUNNING or STOPPED.
	Desired task.ReportStatus
	// Settled names the containers that have come to their end.
	Settled map[string]bool
}

// definition is the task's.
func (t *Task) definition() *task.Definition { return &t.State.Definition }

// Index finds tasks by what callers know. Its methods may be called at once.
type Index struct {
	mu sync.RWMutex // guards what follows
	// tasks by ARN.
	tasks map[string]*Task
	// byID are containers by metadata id, byAddress by address.
	byID      map[string]place
	byAddress map[netip.Addr]place
}

// place is a container of a task; the name is "" for an address that all
// containers of the task share.
type place struct{ arn, name string }

// NewIndex makes an empty index.
func NewIndex() *Index {
	return &Index{tasks: map[string]*Task{}, byID: map[string]place{}, byAddress: map[netip.Addr]place{}}
}

// Put keeps the newest view of a task.
func (x *Index) Put(t *Task) {
	arn := t.definition().ARN
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.tasks[arn]
	x.tasks[arn] = t
	if old == nil {
		for i := range t.definition().Containers {
			if c := &t.definition().Containers[i]; c.MetadataID != "" {
				x.byID[c.MetadataID] = place{arn, c.Name}
			}
		}
	}
	if old != nil && sameAddresses(old.Endpoints, t.Endpoints) {
		return
	}
	if old != nil {
		x.forget(old)
	}
	for name, e := range t.Endpoints {
		for _, a := range addresses(e) {
			x.byAddress[a] = place{arn, name}
		}
	}
}

// Drop forgets a task.
func (x *Index) Drop(arn string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.tasks[arn]
	if old == nil {
		return
	}
	delete(x.tasks, arn)
	x.forget(old)
	for i := range old.definition().Containers {
		delete(x.byID, old.definition().Containers[i].MetadataID)
	}
}

// forget removes a task's addresses, but those that have passed to another.
func (x *Index) forget(t *Task) {
	arn := t.definition().ARN
	for _, e := range t.Endpoints {
		for _, a := range addresses(e) {
			if x.byAddress[a].arn == arn {
				delete(x.byAddress, a)
			}
		}
	}
}

// Task finds a task by its ARN.
func (x *Index) Task(arn string) (*Task, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	t, ok := x.tasks[arn]
	return t, ok
}

// Container finds a container by its metadata id.
func (x *Index) Container(metadataID string) (*Task, string, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	p, ok := x.byID[metadataID]
	if !ok {
		return nil, "", false
	}
	return x.tasks[p.arn], p.name, true
}

// At finds out who has an address. The name is "" where all containers of the
// task share it.
func (x *Index) At(a netip.Addr) (*Task, string, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	p, ok := x.byAddress[a.Unmap()]
	if !ok {
		return nil, "", false
	}
	return x.tasks[p.arn], p.name, true
}

// addresses are those from which an endpoint's requests come.
func addresses(e ipam.Endpoint) []netip.Addr {
	var all []netip.Addr
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

func sameAddresses(a, b map[string]ipam.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for name, e := range a {
		other, ok := b[name]
		if !ok || e.Addresses != other.Addresses {
			return false
		}
	}
	return true
}

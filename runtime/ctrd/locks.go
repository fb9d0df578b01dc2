package ctrd

import (
	"context"
	"sync"
)

// keyed is a set of locks, one for each key, made when needed and dropped when
// nobody holds or waits for them.
type keyed struct {
	mu    sync.Mutex // guards locks and every entry's users
	locks map[string]*entry
}

type entry struct {
	users int
	held  chan struct{} // one token: held
}

func newKeyed() *keyed { return &keyed{locks: make(map[string]*entry)} }

// lock waits for the key's lock and returns the function that gives it back, or
// the context's cause.
func (k *keyed) lock(ctx context.Context, key string) (func(), error) {
	k.mu.Lock()
	e, ok := k.locks[key]
	if !ok {
		e = &entry{held: make(chan struct{}, 1)}
		k.locks[key] = e
	}
	e.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.locks, key)
		}
	}
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// groups keeps the end of a shim apart from the start of another container in
// it: deleting the last task of a group ends the shim, and a task that is being
// created just then would be given to a dying process. Creators of one group go
// together; a deletion goes alone.
type groups struct {
	mu    sync.Mutex // guards gates and every gate's users
	gates map[string]*gate
}

type gate struct {
	users int
	rw    sync.RWMutex
}

func newGroups() *groups { return &groups{gates: make(map[string]*gate)} }

// enter waits until nothing is deleted in the group and returns the way out.
func (g *groups) enter(group string) func() {
	gate := g.use(group)
	gate.rw.RLock()
	return func() { gate.rw.RUnlock(); g.leave(group, gate) }
}

// tryAlone enters alone if nobody is in the group, and says whether it could.
func (g *groups) tryAlone(group string) (func(), bool) {
	gate := g.use(group)
	if !gate.rw.TryLock() {
		g.leave(group, gate)
		return nil, false
	}
	return func() { gate.rw.Unlock(); g.leave(group, gate) }, true
}

// enterAlone waits until nothing is created or deleted in the group and returns
// the way out.
func (g *groups) enterAlone(group string) func() {
	gate := g.use(group)
	gate.rw.Lock()
	return func() { gate.rw.Unlock(); g.leave(group, gate) }
}

func (g *groups) use(group string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	gt, ok := g.gates[group]
	if !ok {
		gt = &gate{}
		g.gates[group] = gt
	}
	gt.users++
	return gt
}

func (g *groups) leave(group string, gt *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gt.users--; gt.users == 0 {
		delete(g.gates, group)
	}
}

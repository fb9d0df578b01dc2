package volumes

import (
	"context"
	"sync"
)

// locks are locks by name, which exist only while somebody wants them.
type locks struct {
	mu   sync.Mutex // guards held
	held map[string]*namedLock
}

type namedLock struct {
	token chan struct{} // holds one token while nobody has the lock
	want  int           // how many have or wait for it
}

func newLocks() *locks { return &locks{held: map[string]*namedLock{}} }

// lock waits for the lock of a name; unlock gives it back.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	n := l.held[name]
	if n == nil {
		n = &namedLock{token: make(chan struct{}, 1)}
		n.token <- struct{}{}
		l.held[name] = n
	}
	n.want++
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.want--; n.want == 0 {
			delete(l.held, name)
		}
	}
	select {
	case <-n.token:
		return func() { n.token <- struct{}{}; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
}

package logs

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

// ring is mode=non-blocking: a bounded queue in memory before a driver. A line
// that does not fit is dropped and counted; the writer never waits for long.
//
// Write waits a moment for the queue to run empty, and as long as the disk is
// well it does: then nothing is in memory alone. What is in the queue when the
// disk is not, and the process is killed -9, is lost.
type ring struct {
	inner   Driver
	limit   int64
	log     *zap.Logger
	dropped tally

	mu    sync.Mutex // guards queue, size, ended, late and mark
	queue []Entry
	size  int64
	ended bool
	// late is set while the driver has not taken what Write was last given within
	// ringPatience; mark is its position once it has.
	late  bool
	mark  Mark
	empty chan struct{} // closed when the queue has run empty; nil while nobody waits

	// wake tells the sender that there is work; one note is enough.
	wake   chan struct{}
	cancel context.CancelCauseFunc
	done   chan struct{}
}

var _ Driver = (*ring)(nil)

// ringPatience is how long a Write waits for the driver.
const ringPatience = 20 * time.Millisecond

// entryCost is the queue's own memory for a line, in bytes.
const entryCost = 64

// newRing puts a queue of limit bytes before a driver, which it then owns.
func newRing(inner Driver, limit int64, log *zap.Logger) *ring {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &ring{
		inner: inner, limit: limit, log: log, cancel: cancel,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	r.dropped.log, r.dropped.what = log, "lines dropped: the buffer of mode=non-blocking is full"
	go r.run(ctx)
	return r
}

// Write takes everything, into the queue or into nothing.
func (r *ring) Write(ctx context.Context, entries []Entry) (int, error) {
	if empty := r.put(entries); empty != nil {
		timer := time.NewTimer(ringPatience)
		defer timer.Stop()
		select {
		case <-empty:
		case <-ctx.Done():
		case <-timer.C:
			r.mu.Lock()
			r.late = len(r.queue) > 0
			r.mu.Unlock()
		}
	}
	return len(entries), nil
}

// put queues entries and answers what tells that they are taken; nil when the
// driver is too slow to wait for.
func (r *ring) put(entries []Entry) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.nudge()
	for _, e := range entries {
		cost := int64(len(e.Line)) + entryCost
		if r.size > 0 && r.size+cost > r.limit {
			r.dropped.add(1)
			continue
		}
		e.Line = append([]byte(nil), e.Line...)
		r.queue = append(r.queue, e)
		r.size += cost
	}
	if r.late || len(r.queue) == 0 {
		return nil
	}
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	return r.empty
}

// nudge wakes the sender.
func (r *ring) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends what is queued until Close, and then what is left.
func (r *ring) run(ctx context.Context) {
	defer close(r.done)
	for {
		if !r.send(ctx) {
			return
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// send sends until the queue is empty; it answers whether more can come.
func (r *ring) send(ctx context.Context) bool {
	wait, stuck := retryFirst, false
	for {
		r.mu.Lock()
		batch, ended := r.queue, r.ended
		r.mu.Unlock()
		if len(batch) == 0 {
			return !ended
		}
		n, err := r.inner.Write(ctx, batch)
		r.drop(batch[:n])
		if err == nil {
			wait, stuck = retryFirst, false
			continue
		}
		if !stuck {
			r.log.Warn("cannot write log, trying again until it works", zap.Error(err),
				zap.Int64("dropped", r.dropped.count()))
			stuck = true
		}
		if !backoff.Wait(ctx, wait) {
			return false
		}
		wait = min(2*wait, retryMost)
	}
}

// drop takes entries that were sent off the front of the queue.
func (r *ring) drop(sent []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range sent {
		r.size -= int64(len(e.Line)) + entryCost
	}
	clear(sent)
	if r.queue = r.queue[len(sent):]; len(r.queue) > 0 {
		return
	}
	r.queue, r.late, r.mark = nil, false, r.inner.Mark()
	if r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// Mark is the driver's once it has everything, and unknown while it runs behind.
func (r *ring) Mark() Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 {
		return Mark{}
	}
	return r.mark
}

// Sync returns when the queue as it is now has been sent and synced.
func (r *ring) Sync(ctx context.Context) error {
	tick := time.NewTicker(retryFirst)
	defer tick.Stop()
	for {
		r.mu.Lock()
		empty := len(r.queue) == 0
		r.mu.Unlock()
		if empty {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close sends what is queued until ctx ends, and closes the driver. What could
// not be sent is counted as dropped.
func (r *ring) Close(ctx context.Context) error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.nudge()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.cancel(context.Cause(ctx))
		<-r.done
	}
	r.cancel(nil)
	if left := len(r.queue); left > 0 {
		r.dropped.add(int64(left))
	}
	r.dropped.tell()
	return r.inner.Close(ctx)
}

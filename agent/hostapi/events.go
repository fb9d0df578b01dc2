package hostapi

import (
	"context"
	"fmt"
	"sync"
)

// eventsKept is how many events a late reader can still see.
const eventsKept = 1000

// Events keeps the last 1000 events and lets any number of readers follow. A publisher never waits for a reader: a reader that falls
// behind by more than the ring holds is told how many it missed. The zero value is ready; all methods may be called from any
// goroutine.
type Events struct {
	mu   sync.Mutex // guards all below
	ring []Event
	next uint64        // number of the event that comes next; ring holds [next-len(ring), next)
	more chan struct{} // closed when an event arrives, nil if nobody waits
}

// Publish adds an event. It does not block.
func (e *Events) Publish(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ring) < eventsKept {
		e.ring = append(e.ring, ev)
	} else {
		e.ring[e.next%eventsKept] = ev
	}
	e.next++
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

// Read calls emit with every kept event, oldest first, and then, with follow, with each that comes until ctx ends, which is no error.
// It returns emit's error if emit fails.
func (e *Events) Read(ctx context.Context, follow bool, emit func(Event) error) error {
	var at uint64
	for first := true; ; first = false {
		batch, missed, wait := e.since(&at, first)
		if missed > 0 {
			if err := emit(Event{Time: batch[0].Time, What: "events missed", Detail: fmt.Sprintf("%d events came faster than they were read", missed)}); err != nil {
				return err
			}
		}
		for _, ev := range batch {
			if err := emit(ev); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		if wait == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait:
		}
	}
}

// since copies what came from *at on and moves *at behind it. If there is nothing, wait is closed when something comes.
func (e *Events) since(at *uint64, first bool) (batch []Event, missed uint64, wait <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	oldest := e.next - uint64(len(e.ring))
	if *at < oldest {
		if !first {
			missed = oldest - *at
		}
		*at = oldest
	}
	for ; *at < e.next; *at++ {
		batch = append(batch, e.ring[*at%eventsKept])
	}
	if len(batch) == 0 {
		if e.more == nil {
			e.more = make(chan struct{})
		}
		wait = e.more
	}
	return batch, missed, wait
}

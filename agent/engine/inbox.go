package engine

import (
	"sync"

	"github.com/berthd/berth/agent/task"
)

// message is a fact for a task, or a question to its machine.
type message struct {
	fact task.Fact
	ask  func(*task.Machine)
	// written, when not nil, is closed once what the fact changed is on the disk.
	written chan struct{}
}

// inbox is a task's queue of messages. It has no bound, because whoever brings
// a fact (a timer, the event stream, another task's release) must not wait.
type inbox struct {
	// more holds one token while there is something to take.
	more chan struct{}

	mu     sync.Mutex // guards queue
	queue  []message
	closed bool
}

func newInbox() *inbox { return &inbox{more: make(chan struct{}, 1)} }

// put adds messages and says whether anybody will read them.
func (b *inbox) put(messages ...message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, messages...)
	select {
	case b.more <- struct{}{}:
	default:
	}
	return true
}

// take removes all messages.
func (b *inbox) take() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue = nil
	return queue
}

// close refuses further messages.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

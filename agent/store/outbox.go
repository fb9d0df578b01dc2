package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/berthd/berth/agent/task"
)

// waiting is an outbox entry as it is kept.
type waiting struct {
	// Task is the task that the change was committed with: changes are sent in
	// order within a task, and tasks do not wait for each other.
	Task   string
	Change task.Change
}

func entryKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// decodeEntry reads an entry back.
func decodeEntry(key, value []byte) (waiting, error) {
	var w waiting
	if len(key) != len(entryKey(0)) {
		return w, fmt.Errorf("the key is no id: %q", key)
	}
	body, err := decode(key, value)
	if err != nil {
		return w, err
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return w, fmt.Errorf("the entry is not readable: %w", err)
	}
	return w, nil
}

// queue knows which entries wait for which task, so that the heads are found
// without reading a day's outbox each time.
type queue struct {
	ids   map[string][]uint64 // of each task, rising; never an empty slice
	tasks map[uint64]string   // the reverse
}

func newQueue() queue {
	return queue{ids: make(map[string][]uint64), tasks: make(map[uint64]string)}
}

func (q *queue) add(name string, id uint64) {
	q.ids[name] = append(q.ids[name], id)
	q.tasks[id] = name
}

// remove forgets id and answers whether another entry of its task waits.
func (q *queue) remove(id uint64) (more bool) {
	name, ok := q.tasks[id]
	if !ok {
		return false
	}
	delete(q.tasks, id)
	rest := slices.DeleteFunc(q.ids[name], func(other uint64) bool { return other == id })
	if len(rest) == 0 {
		delete(q.ids, name)
		return false
	}
	q.ids[name] = rest
	return true
}

// heads are the oldest ids of each task, rising.
func (q *queue) heads() []uint64 {
	heads := make([]uint64, 0, len(q.ids))
	for _, ids := range q.ids {
		heads = append(heads, ids[0])
	}
	slices.Sort(heads)
	return heads
}

// Heads are the oldest outbox entries of each task, in the order of their IDs:
// what may be sent now, since the changes of a task are sent one after the
// other. It is empty when nothing waits.
func (s *Store) Heads() ([]task.Entry, error) {
	var entries []task.Entry
	err := s.view(func(tx *bbolt.Tx) error {
		s.mu.Lock()
		heads := s.queue.heads()
		s.mu.Unlock()
		bucket := tx.Bucket([]byte(bucketOutbox))
		for _, id := range heads {
			key := entryKey(id)
			value := bucket.Get(key)
			if value == nil {
				continue // made or done while this transaction was begun: Changed tells
			}
			w, err := decodeEntry(key, value)
			if err != nil {
				return fmt.Errorf("cannot read outbox entry %d: %w", id, err)
			}
			entries = append(entries, task.Entry{ID: id, Change: w.Change})
		}
		return nil
	})
	return entries, err
}

// Done forgets the entry with that ID: it was sent, or will never be. An ID that
// is not known is no error. It returns when that is on disk; an entry whose Done
// was lost is sent a second time, which ECS bears.
func (s *Store) Done(id uint64) error {
	return s.write(request{
		apply: func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bucketOutbox)).Delete(entryKey(id))
		},
		after: func() {
			if s.queue.remove(id) {
				s.signal()
			}
		},
	})
}

// Changed has an element when Heads may answer something new since the last
// receive, and from the start when entries wait. It is one channel for the life
// of the Store, for one receiver.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Waiting says whether an entry of the task that was committed under that name
// is in the outbox.
func (s *Store) Waiting(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue.ids[name]) > 0
}

// Pending is how many entries wait in the outbox.
func (s *Store) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue.tasks)
}

// signal wakes the receiver of Changed, once for many changes.
func (s *Store) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// load fills the queue from the database, in the order of the keys, without the
// entries that cannot be read: Recovered has named them.
func (q *queue) load(tx *bbolt.Tx) error {
	return tx.Bucket([]byte(bucketOutbox)).ForEach(func(key, value []byte) error {
		if w, err := decodeEntry(key, value); err == nil {
			q.add(w.Task, binary.BigEndian.Uint64(key))
		}
		return nil
	})
}

// put adds changes to the outbox and answers their ids.
func put(tx *bbolt.Tx, bodies [][]byte) ([]uint64, error) {
	bucket := tx.Bucket([]byte(bucketOutbox))
	ids := make([]uint64, 0, len(bodies))
	for _, body := range bodies {
		id, err := bucket.NextSequence()
		if err != nil {
			return nil, err
		}
		key := entryKey(id)
		if err := bucket.Put(key, encode(key, body)); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

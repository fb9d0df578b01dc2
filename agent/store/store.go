package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/berthd/berth/agent/task"
)

var (
	// ErrClosed is what a Store answers after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked is what Open answers while another process has the database.
	ErrLocked = errors.New("the database is in use")
)

// A Store is the database of one agent. All methods may be called at once by
// many goroutines.
type Store struct {
	path      string
	recovered string
	db        *bbolt.DB

	// requests is without capacity: a caller that was received is in the
	// writer's hands, and one that was not sees closing instead.
	requests chan request
	closing  chan struct{}
	stopped  chan struct{} // closed when the writer has returned
	close    sync.Once
	// changed has capacity one: see Changed.
	changed chan struct{}

	mu    sync.Mutex // guards what is below
	meta  Meta
	queue queue
}

// newStore starts the writer on a database that was looked through.
func newStore(path string, db *bbolt.DB, recovered string) (*Store, error) {
	s := &Store{
		path:      path,
		recovered: recovered,
		db:        db,
		requests:  make(chan request),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
		changed:   make(chan struct{}, 1),
		queue:     newQueue(),
	}
	err := db.View(func(tx *bbolt.Tx) error {
		s.meta.load(tx)
		return s.queue.load(tx)
	})
	if err != nil {
		return nil, err
	}
	if len(s.queue.tasks) > 0 {
		s.signal()
	}
	go s.writer()
	return s, nil
}

// Recovered says in a sentence what was wrong with the database when it was
// opened and what was done, for the log; it is empty when all was well.
func (s *Store) Recovered() string { return s.recovered }

// Commit makes record the task's record, or forgets the task when record is nil,
// and puts changes into the outbox, all or nothing; it returns when that is on
// disk. Entries that wait in the outbox outlive their task's record. When it
// fails (the disk is full), nothing was changed, and it may be tried again.
func (s *Store) Commit(name string, record []byte, changes ...task.Change) error {
	return s.keep(bucketTasks, name, record, name, changes)
}

// keep writes a record, or with nil deletes it, and puts changes into the outbox
// among those of the subject.
func (s *Store) keep(bucket, name string, record []byte, subject string, changes []task.Change) error {
	if name == "" || len(name) > bbolt.MaxKeySize {
		return fmt.Errorf("cannot store %.40q: the name has %d bytes", name, len(name))
	}
	bodies := make([][]byte, len(changes))
	for i, change := range changes {
		body, err := json.Marshal(waiting{Task: subject, Change: change})
		if err != nil {
			return fmt.Errorf("cannot encode a change of %s: %w", subject, err)
		}
		bodies[i] = body
	}
	key := []byte(name)
	var ids []uint64
	return s.write(request{
		apply: func(tx *bbolt.Tx) (err error) {
			if record == nil {
				err = tx.Bucket([]byte(bucket)).Delete(key)
			} else {
				err = tx.Bucket([]byte(bucket)).Put(key, encode(key, record))
			}
			if err != nil {
				return err
			}
			ids, err = put(tx, bodies)
			return err
		},
		after: func() {
			for _, id := range ids {
				s.queue.add(subject, id)
			}
			if len(ids) > 0 {
				s.signal()
			}
		},
	})
}

// Tasks are the records of all tasks by name, without the damaged ones that
// Recovered named. They are the caller's to keep.
func (s *Store) Tasks() (map[string][]byte, error) { return s.records(bucketTasks) }

// Reset forgets everything: tasks, attachments, outbox and Meta. It is for a host that is not
// the one it was (spec/task-engine.md §9.2).
func (s *Store) Reset() error {
	blank := Meta{ManifestSequence: NoManifest}
	return s.write(request{
		apply: func(tx *bbolt.Tx) error {
			// IDs go on from where they were: a sender may still hold an old one.
			last := tx.Bucket([]byte(bucketOutbox)).Sequence()
			for _, name := range []string{bucketTasks, bucketAttachments, bucketOutbox} {
				if err := tx.DeleteBucket([]byte(name)); err != nil {
					return err
				}
				if _, err := tx.CreateBucket([]byte(name)); err != nil {
					return err
				}
			}
			if err := tx.Bucket([]byte(bucketOutbox)).SetSequence(last); err != nil {
				return err
			}
			return blank.save(tx)
		},
		after: func() {
			s.meta = blank
			s.queue = newQueue()
		},
	})
}

// Close waits for the write under way and lets go of the file. Whoever calls the
// Store after that gets ErrClosed.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closing)
		<-s.stopped
		if err = s.db.Close(); err != nil {
			err = fmt.Errorf("cannot close %s: %w", s.path, err)
		}
	})
	return err
}

// view reads.
func (s *Store) view(read func(*bbolt.Tx) error) error {
	err := s.db.View(read)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

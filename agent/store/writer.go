package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// maxGroup bounds a transaction, and with it how long its first caller waits.
const maxGroup = 256

// A request is one caller's part of a transaction.
type request struct {
	// apply writes. It may run more than once, each time in a new transaction.
	apply func(*bbolt.Tx) error
	// after runs when the write is on disk, with Store.mu held.
	after func()
	// answer takes the outcome. Its capacity is one, so that the writer never
	// waits for a caller.
	answer chan error
}

// write hands r to the writer and waits until it is on disk.
func (s *Store) write(r request) error {
	r.answer = make(chan error, 1)
	select {
	case s.requests <- r:
		return <-r.answer
	case <-s.closing:
		return ErrClosed
	}
}

// writer is the only goroutine that writes. What came in while the last
// transaction was synced makes the next one; it waits for nobody.
func (s *Store) writer() {
	defer close(s.stopped)
	for {
		select {
		case first := <-s.requests:
			s.commit(s.group(first))
		case <-s.closing:
			return
		}
	}
}

// group is first and all who stand in line behind it.
func (s *Store) group(first request) []request {
	group := []request{first}
	for len(group) < maxGroup {
		select {
		case next := <-s.requests:
			group = append(group, next)
		default:
			return group
		}
	}
	return group
}

// commit writes the group in one transaction and answers each caller. One whose
// own part cannot be applied is answered and left out; a transaction that
// cannot be written fails for all that are in it.
func (s *Store) commit(group []request) {
	for len(group) > 0 {
		culprit := -1
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for i, r := range group {
				if err := r.apply(tx); err != nil {
					culprit = i
					return err
				}
			}
			return nil
		})
		if culprit >= 0 {
			group[culprit].answer <- fmt.Errorf("cannot write %s: %w", s.path, err)
			group = append(group[:culprit:culprit], group[culprit+1:]...)
			continue
		}
		if err != nil {
			err = fmt.Errorf("cannot write %s (%s): %w", s.path, freeText(s.path), err)
		} else {
			s.mu.Lock()
			for _, r := range group {
				r.after()
			}
			s.mu.Unlock()
		}
		for _, r := range group {
			r.answer <- err
		}
		return
	}
}

package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ledger owns the state: every look and every change goes through it. With a
// file, a change returns once it is on disk; changes that come while a write is
// under way share the next one.
type ledger struct {
	file string
	wake chan struct{} // Tells run that there is something to write; one token says enough.

	mu      sync.Mutex // Guards all below.
	written *sync.Cond // Some change reached the disk, or never will.
	state   *state
	changed uint64 // Number of the last change.
	saved   uint64 // Number of the last change on disk.
	failed  error  // Why writing fails at the moment.
	closed  bool
}

var errClosed = errors.New("the server is shutting down")

// openLedger reads the state from its file, if there is one.
func openLedger(file string, env *environment) (*ledger, error) {
	l := &ledger{file: file, wake: make(chan struct{}, 1), state: newState(env)}
	l.written = sync.NewCond(&l.mu)
	if file == "" {
		return l, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, os.MkdirAll(filepath.Dir(file), 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read state: %w", err)
	}
	if err := json.Unmarshal(raw, l.state); err != nil {
		return nil, fmt.Errorf("cannot read state in %s: %w", file, err)
	}
	l.state.fill()
	return l, nil
}

// fill makes up for maps that a file left out.
func (s *state) fill() {
	fresh := newState(s.env)
	fillMap(&s.Clusters, fresh.Clusters)
	fillMap(&s.Definitions, fresh.Definitions)
	fillMap(&s.Revisions, fresh.Revisions)
	fillMap(&s.Instances, fresh.Instances)
	fillMap(&s.Tasks, fresh.Tasks)
	fillMap(&s.Tokens, fresh.Tokens)
}

func fillMap[V any](at *map[string]V, empty map[string]V) {
	if *at == nil {
		*at = empty
	}
}

// view lets look see the state. It must not keep anything of it.
func (l *ledger) view(look func(*state)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	look(l.state)
}

// change lets apply change the state, and returns when the change is on disk.
// When apply fails it must have changed nothing.
func (l *ledger) change(apply func(*state) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.state.sweep()
	if err := apply(l.state); err != nil {
		return err
	}
	l.changed++
	if l.file == "" {
		return nil
	}
	mine := l.changed
	l.failed = nil
	select {
	case l.wake <- struct{}{}:
	default:
	}
	for l.saved < mine && l.failed == nil && !l.closed {
		l.written.Wait()
	}
	switch {
	case l.saved >= mine:
		return nil
	case l.failed != nil:
		return l.failed
	default:
		return errClosed
	}
}

// run writes changes until the context ends, and once more then.
func (l *ledger) run(ctx context.Context) error {
	for {
		select {
		case <-l.wake:
			_ = l.save() // Those who wait for it are told.
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.mu.Unlock()
			return l.save()
		}
	}
}

// save writes the state as it is now.
func (l *ledger) save() error {
	l.mu.Lock()
	if l.file == "" {
		l.mu.Unlock()
		return nil
	}
	raw, err := json.Marshal(l.state)
	number := l.changed
	l.mu.Unlock()
	if err == nil {
		err = replaceFile(l.file, raw)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = fmt.Errorf("cannot keep state: %w", err)
	} else {
		l.saved = number
	}
	l.written.Broadcast()
	return l.failed
}

// replaceFile writes beside a file, syncs, and puts the new one in its place. A
// crash leaves the old content or the new one.
func replaceFile(name string, content []byte) error {
	dir := filepath.Dir(name)
	beside, err := os.CreateTemp(dir, filepath.Base(name)+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(beside.Name()) }() // Gone already when all went well.
	_, err = beside.Write(content)
	err = errors.Join(err, beside.Sync(), beside.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(beside.Name(), name); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

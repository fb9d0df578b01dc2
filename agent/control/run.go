package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/berthd/berth/agent/health"
)

// Runner is a part that runs until its context ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Run keeps parts running (the sessions, the reporter) until ctx ends or one of
// them does, which ends the others. It answers why, when all have ended.
func Run(ctx context.Context, parts ...Runner) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for _, p := range parts {
		group.Go(func() {
			err := p.Run(ctx)
			if ctx.Err() == nil {
				cancel(fmt.Errorf("%T ended: %w", p, ended(ctx, err)))
			}
		})
	}
	<-ctx.Done()
	group.Wait()
	return context.Cause(ctx)
}

// Board is where the state of a connection is told; *health.Board is one.
type Board interface {
	Report(name string, s health.Status, reason string, at time.Time) (changed bool)
}

// graceful is how long a connection may be away before that is called a fault:
// sessions end and come back in the normal course of things.
const graceful = time.Minute

// Link watches one connection and tells a Board about it. Connected is handed to
// a session's configuration.
type Link struct {
	name  string
	board Board

	mu    sync.Mutex // guards the fields below
	up    bool
	since time.Time
	why   error
	// fault fires when the connection has been away for too long; nil while it is
	// up.
	fault *time.Timer
}

// NewLink makes a link that is down. The name is the board's.
func NewLink(name string, board Board) *Link {
	l := &Link{name: name, board: board, since: time.Now()}
	l.mu.Lock() // the timer may fire before this returns
	defer l.mu.Unlock()
	l.fault = time.AfterFunc(graceful, l.report)
	return l
}

// Connected says that the connection is up, or down and why.
func (l *Link) Connected(up bool, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up != up {
		l.since = time.Now()
	}
	l.up, l.why = up, why
	switch {
	case up:
		if l.fault != nil {
			l.fault.Stop()
			l.fault = nil
		}
		l.board.Report(l.name, health.OK, "", time.Now())
	case l.fault == nil:
		l.fault = time.AfterFunc(graceful, l.report)
	}
}

// report tells the board of a connection that has been away for long.
func (l *Link) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up || l.fault == nil {
		return
	}
	reason := "not connected yet"
	if l.why != nil {
		reason = l.why.Error()
	}
	l.board.Report(l.name, health.Impaired, reason, time.Now())
}

// Status says whether the connection is up, since when it is what it is, and why
// it is down.
func (l *Link) Status() (up bool, since time.Time, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up, l.since, l.why
}

// Close stops watching.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		l.fault.Stop()
		l.fault = nil
	}
}

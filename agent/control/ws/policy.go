package ws

import (
	"errors"
	"time"

	"github.com/berthd/berth/runtime/backoff"
)

// flapping is the life below which even an orderly end is not answered at once:
// a service that closes every connection must not be asked in a tight loop.
const flapping = time.Second

// Policy says how long to wait before the next connection, from why and after
// how long the last one ended (spec/control-plane.md §4.5, §5.4). It is for one
// goroutine.
type Policy struct {
	Ladder backoff.Ladder
	// Settled is the life after which a session counts as good, so that the
	// ladder starts anew; zero never does.
	Settled time.Duration
	// Idle says that a session which was closed for being idle ended in good order.
	Idle bool
}

// After is the delay after a session that ended with end and had lived so long;
// zero is at once. For a connection that never came about, lived is zero.
func (p *Policy) After(end error, lived time.Duration) time.Duration {
	if (Orderly(end) || p.Idle && errors.Is(end, ErrIdle)) && lived >= flapping {
		p.Ladder.Reset()
		return 0
	}
	if p.Settled > 0 && lived >= p.Settled {
		p.Ladder.Reset()
	}
	return p.Ladder.Next()
}

// Orderly says whether a session ended in the normal course of things: the peer
// went away, or the session was over.
func Orderly(end error) bool {
	if errors.Is(end, ErrExpired) {
		return true
	}
	closed, ok := errors.AsType[*CloseError](end)
	if !ok {
		return false
	}
	switch closed.Code {
	case CodeNormal, CodeGoingAway, CodeAbnormal, CodeServerError:
		return true
	}
	return false
}

// Package backoff says how long to wait before trying again: a ladder of delays
// that grow up to a limit, with some chance added so that hosts do not try in
// step, and a Wait that ends with its context.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Ladder is a sequence of growing delays. Its fields do not change; Next and
// Reset are for one goroutine.
type Ladder struct {
	// First is the first delay and Last the longest, before the jitter.
	First, Last time.Duration
	// Factor is what a delay is multiplied by to give the next one.
	Factor float64
	// Jitter is the largest share of a delay that is added to it by chance.
	Jitter float64

	next time.Duration
}

// Next is the delay to wait now, between d and d×(1+Jitter).
func (l *Ladder) Next() time.Duration {
	d := max(l.next, l.First)
	l.next = min(time.Duration(float64(d)*l.Factor), l.Last)
	return Jittered(d, time.Duration(float64(d)*l.Jitter))
}

// Reset goes back to First.
func (l *Ladder) Reset() { l.next = 0 }

// Jittered is d plus less than jitter, by chance.
func Jittered(d, jitter time.Duration) time.Duration {
	if jitter <= 0 {
		return d
	}
	return d + rand.N(jitter)
}

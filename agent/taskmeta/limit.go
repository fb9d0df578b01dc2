package taskmeta

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// crowd is how many buckets are kept before those that are full again are looked
// for.
const crowd = 256

// limiter has a token bucket for each caller.
type limiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex // guards buckets
	buckets map[string]*rate.Limiter
}

func newLimiter(perSecond rate.Limit, burst int) *limiter {
	return &limiter{rate: perSecond, burst: burst, buckets: map[string]*rate.Limiter{}}
}

// allow takes a token of the caller's, if there is one.
func (l *limiter) allow(caller string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[caller]
	if b == nil {
		if len(l.buckets) >= crowd {
			l.forget(now)
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.buckets[caller] = b
	}
	return b.AllowN(now, 1)
}

// forget drops the buckets that are full again: a new one is the same. The
// caller holds the lock.
func (l *limiter) forget(now time.Time) {
	for caller, b := range l.buckets {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, caller)
		}
	}
}

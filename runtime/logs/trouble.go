package logs

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// trouble is a series of failures: the first is logged, and the end of it.
type trouble struct {
	log  *zap.Logger
	what string

	failures atomic.Int64
	since    atomic.Int64 // Unix nanoseconds; 0 while all is well
	last     atomic.Pointer[string]
}

// failed counts a failure.
func (t *trouble) failed(err error) {
	t.failures.Add(1)
	text := err.Error()
	t.last.Store(&text)
	if t.since.CompareAndSwap(0, time.Now().UnixNano()) {
		t.log.Warn(t.what+", trying again until it works", zap.Error(err))
	}
}

// recovered ends a series of failures.
func (t *trouble) recovered() {
	if since := t.since.Load(); since != 0 && t.since.CompareAndSwap(since, 0) {
		t.log.Info("log is written again", zap.Duration("after", time.Since(time.Unix(0, since))))
	}
}

// begun is when the series began, or zero.
func (t *trouble) begun() time.Time {
	if since := t.since.Load(); since != 0 {
		return time.Unix(0, since)
	}
	return time.Time{}
}

// reason is the last failure of a series that goes on.
func (t *trouble) reason() string {
	if text := t.last.Load(); text != nil && t.since.Load() != 0 {
		return *text
	}
	return ""
}

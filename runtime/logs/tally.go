package logs

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// tellEvery is how often the journal hears of what goes on being lost.
const tellEvery = time.Minute

// tally counts lines that are lost, and tells it: the first at once, further
// ones once in a while. It may be used by many goroutines.
type tally struct {
	log  *zap.Logger
	what string

	n        atomic.Int64
	told     atomic.Int64 // of n
	toldWhen atomic.Int64 // Unix nanoseconds
}

// add counts n more.
func (t *tally) add(n int64, why ...zap.Field) {
	if n == 0 {
		return
	}
	t.n.Add(n)
	last := t.toldWhen.Load()
	if now := time.Now().UnixNano(); now-last >= int64(tellEvery) && t.toldWhen.CompareAndSwap(last, now) {
		t.tell(why...)
	}
}

// tell tells what has not been told yet.
func (t *tally) tell(why ...zap.Field) {
	total := t.n.Load()
	if more := total - t.told.Swap(total); more > 0 {
		t.log.Warn(t.what, append(why, zap.Int64("lines", more), zap.Int64("total", total))...)
	}
}

// count is how many there were.
func (t *tally) count() int64 { return t.n.Load() }

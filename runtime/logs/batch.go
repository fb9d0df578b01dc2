package logs

import "sync"

const (
	// batchSize is how much is encoded for one write, in bytes.
	batchSize = 64 << 10
	// batchLines is how many lines go to a driver at once.
	batchLines = 256
)

// batch is the memory for one write under way. Containers share what there is:
// a log process needs as many as it has writes at the same moment, not as it
// has containers.
type batch struct {
	entries []Entry
	out     []byte
}

// batches is a pool, which is of use only when shared.
var batches = sync.Pool{New: func() any { //nolint:gochecknoglobals // see above
	return &batch{entries: make([]Entry, 0, batchLines), out: make([]byte, 0, batchSize+2*maxLine)}
}}

// takeBatch answers an empty batch.
func takeBatch() *batch {
	b, ok := batches.Get().(*batch)
	if !ok {
		panic("logs: something else in the pool of batches")
	}
	return b
}

// giveBack makes the batch available again, unless an odd line has made it
// large.
func (b *batch) giveBack() {
	if cap(b.out) > 4*batchSize {
		return
	}
	clear(b.entries[:cap(b.entries)])
	b.entries, b.out = b.entries[:0], b.out[:0]
	batches.Put(b)
}

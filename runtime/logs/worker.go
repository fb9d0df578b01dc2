package logs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Retrying a driver that fails, and ending a container.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
	// closeGrace is how long a closed container's pipe may stay open in some
	// process before it is given up.
	closeGrace = 2 * time.Second
	// stopGrace is how long a stopping log process goes on reading a pipe that
	// does not run empty; the next process reads the rest.
	stopGrace = time.Second
	// releaseGrace is how long a driver may take to send what it has queued.
	releaseGrace = 5 * time.Second
)

// errStopped ends the work of a stopping log process.
var errStopped = errors.New("log process is stopping")

// worker carries one container's lines. A goroutine per stream reads; done is
// closed when they, and the driver, have ended.
//
//	        end            both pipes at their end
//	reading ───► draining ─────────────────────────► closed, spool gone
//	   │             │
//	   └─── stop ────┴──► spool kept, for the next process
type worker struct {
	c   Container
	dir string
	log *zap.Logger

	mu     sync.Mutex // guards the spool's state and the driver's calls
	spool  *spool
	driver Driver

	streams []*stream
	cancel  context.CancelCauseFunc // ends run without draining to the end
	done    chan struct{}
	err     error // errStopped if before its end, what release said; read after done
	count   counters
}

// counters are what Status shows; a restart begins them anew.
type counters struct {
	lines, bytes, failures atomic.Int64
	stuckSince             atomic.Int64 // Unix nanoseconds; 0 while the driver takes lines
}

// workerConfig is what a worker is made of.
type workerConfig struct {
	dir, dataDir string
	drivers      map[string]Factory
	log          *zap.Logger
}

// newWorker opens everything a container needs and begins to read. The worker
// stops when ctx ends.
func newWorker(ctx context.Context, c Container, cfg workerConfig) (_ *worker, err error) {
	if err := check(cfg.drivers, c); err != nil {
		return nil, err
	}
	w := &worker{
		c: c, dir: cfg.dir, done: make(chan struct{}),
		log: cfg.log.With(zap.String("container", c.ID), zap.String("task", c.Task)),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.release(ctx))
		}
	}()
	var recovered int
	if w.spool, recovered, err = openSpool(filepath.Join(cfg.dir, spoolName)); err != nil {
		return nil, err
	}
	if recovered > 0 {
		w.log.Info("took over unwritten output", zap.Int("bytes", recovered))
	}
	mark := w.spool.state().mark
	driver, err := cfg.drivers[c.driver()].Open(ctx, DriverConfig{Container: c, DataDir: cfg.dataDir, Mark: mark, Log: w.log})
	if err != nil {
		return nil, err
	}
	w.driver = driver
	if size, err := parseMode(c.Options); err == nil && size > 0 && c.driver() != DriverNone {
		w.driver = newRing(driver, size, w.log)
	}
	for i, name := range c.streams() {
		s, err := openStream(w, i, name)
		if err != nil {
			return nil, err
		}
		w.streams = append(w.streams, s)
	}
	ctx, w.cancel = context.WithCancelCause(ctx)
	go w.run(ctx)
	return w, nil
}

// run reads until the container's end or the process's.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	defer w.cancel(nil)
	var group sync.WaitGroup
	var stopped atomic.Bool
	for _, s := range w.streams {
		group.Go(func() {
			switch err := s.run(ctx); {
			case errors.Is(err, errStopped):
				stopped.Store(true)
			case err != nil:
				w.log.Error("lost a stream of output", zap.Error(err))
			}
		})
	}
	group.Wait()
	w.err = w.release(ctx)
	if stopped.Load() {
		w.err = errors.Join(errStopped, w.err)
	}
}

// release gives back what newWorker took; what is not written stays in the
// spool.
func (w *worker) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), releaseGrace, errStopped)
	defer cancel()
	var errs []error
	for _, s := range w.streams {
		errs = append(errs, s.file.Close())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.driver != nil {
		errs = append(errs, w.driver.Close(ctx))
	}
	if w.spool != nil {
		errs = append(errs, w.spool.close())
	}
	return errors.Join(errs...)
}

// end asks for the container's end and waits for it: every pipe read to its
// end, everything written; w.err says whether it was synced too.
func (w *worker) end(ctx context.Context) error {
	for _, s := range w.streams {
		s.end()
	}
	select {
	case <-w.done:
		if errors.Is(w.err, errStopped) {
			return errStopped
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot finish log of %s: %w", w.c.ID, context.Cause(ctx))
	}
}

// took says that n further bytes of stream i are in the spool, and passes on
// every whole line, all of it when final. It returns when the driver has taken
// them: the pipe is where a slow driver makes itself felt.
func (w *worker) took(ctx context.Context, i, n int, final bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spool.grow(i, n)
	defer w.spool.tidy(i)
	batch := takeBatch()
	defer batch.giveBack()
	for {
		entries := cut(batch.entries[:0], w.spool.held(i), w.streams[i].stream, final)
		if len(entries) == 0 {
			return nil
		}
		if err := w.write(ctx, i, entries); err != nil {
			return err
		}
	}
}

// write makes the driver take all entries, however often it must be asked.
func (w *worker) write(ctx context.Context, i int, entries []Entry) error {
	wait := retryFirst
	for len(entries) > 0 {
		n, err := w.driver.Write(ctx, entries)
		if n > 0 {
			size := 0
			for _, e := range entries[:n] {
				size += len(e.Line)
			}
			w.spool.consume(i, size, w.driver.Mark())
			w.count.lines.Add(int64(n))
			w.count.bytes.Add(int64(size))
			entries = entries[n:]
			wait = retryFirst
		}
		if err == nil {
			w.recovered()
			continue
		}
		w.failed(err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
	return nil
}

// failed counts a failure of the driver and logs the first of a series.
func (w *worker) failed(err error) {
	w.count.failures.Add(1)
	if w.count.stuckSince.CompareAndSwap(0, time.Now().UnixNano()) {
		w.log.Warn("cannot write log, trying again until it works", zap.String("driver", w.c.driver()), zap.Error(err))
	}
}

// recovered ends a series of failures.
func (w *worker) recovered() {
	if since := w.count.stuckSince.Swap(0); since != 0 {
		w.log.Info("log is written again", zap.Duration("after", time.Since(time.Unix(0, since))))
	}
}

// pause waits for a time, or for ctx to end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errStopped
	}
}

// Status is one container's figures since the log process started.
type Status struct {
	ID     string `json:"id"`
	Task   string `json:"task,omitempty"`
	Name   string `json:"name,omitempty"`
	Driver string `json:"driver"`
	// Lines and Bytes were taken by the driver; Dropped lines were not, for want
	// of room in the buffer of mode=non-blocking.
	Lines   int64 `json:"lines"`
	Bytes   int64 `json:"bytes"`
	Dropped int64 `json:"dropped"`
	// Waiting is how many bytes are in the pipes, unread.
	Waiting int64 `json:"waiting"`
	// Failures counts writes that the driver refused; StuckSince is when the
	// series began that has not ended yet (zero: it works).
	Failures   int64     `json:"failures"`
	StuckSince time.Time `json:"stuckSince,omitzero"`
}

// status reads the worker's figures.
func (w *worker) status() Status {
	st := Status{
		ID: w.c.ID, Task: w.c.Task, Name: w.c.Name, Driver: w.c.driver(),
		Lines: w.count.lines.Load(), Bytes: w.count.bytes.Load(), Failures: w.count.failures.Load(),
	}
	if since := w.count.stuckSince.Load(); since != 0 {
		st.StuckSince = time.Unix(0, since)
	}
	if r, ok := w.driver.(*ring); ok {
		st.Dropped = r.dropped.Load()
		st.Lines -= st.Dropped
	}
	for _, s := range w.streams {
		st.Waiting += s.waiting()
	}
	return st
}

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

	"github.com/berthd/berth/runtime/backoff"
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
	trouble trouble
}

// counters are what Status shows; a restart begins them anew.
type counters struct{ lines, bytes atomic.Int64 }

// workerConfig is what a worker is made of.
type workerConfig struct {
	dir, dataDir string
	// queue takes the lines for a remote driver; nil for a local one, which
	// factory then opens.
	queue   *queue
	factory Factory
	log     *zap.Logger
}

// newWorker opens everything a container needs and begins to read. The worker
// stops when ctx ends.
func newWorker(ctx context.Context, c Container, cfg workerConfig) (_ *worker, err error) {
	w := &worker{
		c: c, dir: cfg.dir, done: make(chan struct{}),
		log: cfg.log.With(zap.String("container", c.ID), zap.String("task", c.Task)),
	}
	w.trouble = trouble{log: w.log, what: "cannot write log"}
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
	if err := w.openDriver(ctx, cfg); err != nil {
		return nil, err
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

// openDriver opens the container's driver or, for a remote one, the writing end
// of its queue.
func (w *worker) openDriver(ctx context.Context, cfg workerConfig) error {
	buffer, err := parseMode(w.c.Options)
	if err != nil {
		return err
	}
	mark := w.spool.state().mark
	if cfg.queue != nil {
		if err := cfg.queue.write(mark, buffer > 0); err != nil {
			return err
		}
		w.driver = cfg.queue
	} else if w.driver, err = cfg.factory.Open(ctx, DriverConfig{
		Container: w.c, DataDir: cfg.dataDir, Mark: mark, Log: w.log,
		Rejected: func(int, error) {}, // local drivers reject nothing
	}); err != nil {
		w.driver = nil
		return err
	}
	if buffer > 0 && w.c.driver() != DriverNone {
		w.driver = newRing(w.driver, buffer, w.log)
	}
	return nil
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
			w.trouble.recovered()
			continue
		}
		w.trouble.failed(err)
		if !backoff.Wait(ctx, wait) {
			return errStopped
		}
		if !errors.Is(err, errFull) { // there is room again as soon as the far end has taken something
			wait = min(2*wait, retryMost)
		}
	}
	return nil
}

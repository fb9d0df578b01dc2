package logs

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

// shipMost is the longest pause before a log service that does not answer is
// tried again.
const shipMost = 30 * time.Second

// errNothing is said of a driver that neither takes anything nor says why.
var errNothing = errors.New("log driver took nothing")

// errRemoved ends a shipper whose container is removed.
var errRemoved = errors.New("log is removed")

// shipper takes the lines of one container from its queue to a remote driver. It
// outlives the worker: what the container said last is delivered when the log
// service is back, be it after the container's end.
//
//	waiting for secrets ─► shipping ──► ended and nothing waits: done
//	                          │  ▲
//	                          └──┘ the service fails: try again, for ever
type shipper struct {
	c       Container // without the values of secrets
	factory Factory
	q       *queue
	dir     string // the container's, with the pipes
	memory  string // see DriverConfig
	log     *zap.Logger
	cancel  context.CancelCauseFunc
	done    chan struct{}

	mu sync.Mutex // guards ended and finished
	// ended is set while nothing writes to the queue; finished, once, when all of
	// it is delivered then.
	ended, finished bool
	// secrets brings the container with its secret options; room for one, the
	// newest counts.
	secrets chan Container
	// lines is what a batch holds back or offers; only run uses it.
	lines   gather
	entries []Entry

	delivered atomic.Int64
	rejected  tally
	trouble   trouble
}

// newShipper begins to ship a queue, which it then owns. With secrets missing it
// waits for supply.
func newShipper(ctx context.Context, c Container, cfg workerConfig, q *queue) *shipper {
	s := &shipper{
		c: c, factory: cfg.factory, q: q, dir: cfg.dir, log: q.log, done: make(chan struct{}), secrets: make(chan Container, 1),
	}
	s.trouble = trouble{log: q.log, what: "cannot deliver log; lines wait on disk"}
	s.rejected = tally{log: q.log, what: "lines rejected by the log service"}
	s.c.Secrets = nil
	if inMemory(cfg.dir) {
		s.memory = cfg.dir
	}
	ctx, s.cancel = context.WithCancelCause(ctx)
	go s.run(ctx, c)
	return s
}

// supply brings secret options that were missing.
func (s *shipper) supply(c Container) {
	for {
		select {
		case s.secrets <- c:
			return
		default:
		}
		select {
		case <-s.secrets:
		default:
		}
	}
}

// run ships until there is nothing left of a container that has ended, or until
// ctx ends.
func (s *shipper) run(ctx context.Context, c Container) {
	defer close(s.done)
	defer s.cancel(nil)
	defer func() {
		s.rejected.tell()
		if err := s.q.shut(); err != nil {
			s.log.Warn("cannot end log", zap.Error(err))
		}
	}()
	s.remember()
	for !c.complete() {
		s.log.Warn("secret log options are not known since the log process was started anew; lines wait on disk for the agent to bring them",
			zap.Strings("options", c.SecretNames))
		select {
		case c = <-s.secrets:
		case <-ctx.Done():
			return
		}
	}
	if s.factory.Batch != nil {
		s.lines.batch = s.factory.Batch(c.withSecrets())
	}
	s.lines.batch = s.lines.batch.withDefaults()
	// A call under way is given a moment when the process stops.
	calls, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errRemoved) || !s.trouble.begun().IsZero() {
			cancel(context.Cause(ctx))
			return
		}
		timer := time.AfterFunc(stopGrace, func() { cancel(errStopped) })
		context.AfterFunc(calls, func() { timer.Stop() })
	})
	defer stop()
	driver := s.open(ctx, c)
	if driver == nil {
		return
	}
	s.ship(ctx, calls, driver)
	if err := driver.Close(calls); err != nil {
		s.log.Debug("cannot end log driver", zap.Error(err))
	}
}

// open opens the driver, however often that takes; it answers nil when ctx ends.
func (s *shipper) open(ctx context.Context, c Container) Driver {
	wait := retryFirst
	for ctx.Err() == nil {
		driver, err := s.factory.Open(ctx, DriverConfig{
			Container: c.withSecrets(), DataDir: filepath.Join(s.q.dir, "driver"), Memory: s.memory, Log: s.log,
			Rejected: func(lines int, why error) { s.rejected.add(int64(lines), zap.Error(why)) },
		})
		if err == nil {
			return driver
		}
		s.trouble.failed(err)
		wait = s.pause(ctx, wait)
	}
	return nil
}

// pause waits before another try and answers how long the next pause is to be.
func (s *shipper) pause(ctx context.Context, wait time.Duration) time.Duration {
	backoff.Wait(ctx, backoff.Jittered(wait/2, wait)) // The loop looks at ctx.
	return min(2*wait, shipMost)
}

// ship reads and writes until the end.
func (s *shipper) ship(ctx, calls context.Context, driver Driver) {
	from := newSource(s.q)
	defer from.close()
	wait := retryFirst
	for {
		// Asked before reading: nothing is added after it.
		ended := s.hasEnded()
		empty, err := s.read(from)
		stopping := ctx.Err() != nil
		if empty {
			s.lines.release(time.Now(), ended || stopping, from.at)
		}
		switch {
		case err != nil:
			s.trouble.failed(err)
			wait = s.pause(ctx, wait)
		case s.due(empty, ended || stopping):
			if err = s.write(calls, driver); err != nil {
				s.trouble.failed(err)
				wait = s.pause(ctx, wait)
				break
			}
			s.trouble.recovered()
			wait = retryFirst
			continue
		case ended && empty && !s.lines.waiting():
			if s.finish() {
				return
			}
		default:
			from.rest()
			s.sleep(ctx)
		}
		if stopping {
			return
		}
	}
}

// read gathers as much as may be offered at once. It answers whether that was
// all there is.
func (s *shipper) read(from *source) (empty bool, err error) {
	for !s.lines.full() {
		start := from.at
		text, ok, err := from.line()
		if err != nil || !ok {
			return err == nil, err
		}
		if start.inode != from.at.inode { // the first line of the next file
			start = position{inode: from.at.inode, total: from.at.total - int64(len(text)) - 1}
		}
		e, err := parseRecord(text)
		if err != nil {
			s.log.Debug("passed over a queued line that cannot be read", zap.Error(err))
			continue
		}
		s.lines.add(e, start, from.at)
	}
	return false, nil
}

// due says whether what is ready should go now.
func (s *shipper) due(empty, last bool) bool {
	if len(s.lines.ready) == 0 {
		return false
	}
	return !empty || last || time.Since(s.lines.begun) >= s.lines.batch.Linger
}

// write offers what is ready to the driver, and moves the cursor over what it
// took.
func (s *shipper) write(ctx context.Context, driver Driver) error {
	ready := s.lines.ready
	s.entries = slices.Grow(s.entries[:0], len(ready))
	for _, o := range ready {
		s.entries = append(s.entries, o.Entry)
	}
	n, err := driver.Write(ctx, s.entries)
	clear(s.entries)
	if n > 0 {
		s.delivered.Add(int64(n))
		after := ready[n-1].after
		s.lines.taken(n)
		err = errors.Join(err, s.q.take(after))
	}
	if len(s.lines.ready) == 0 {
		s.entries = nil
	}
	if n == 0 && err == nil {
		err = errNothing
	}
	return err
}

// sleep waits for more to read, or for what is held back to be due.
func (s *shipper) sleep(ctx context.Context) {
	var timeout <-chan time.Time
	if d := s.lines.due(time.Now()); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-s.q.more:
	case <-timeout:
	case <-s.secrets: // they are known already
	case <-ctx.Done():
	}
}

// end says that nothing writes to the queue any more.
func (s *shipper) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.q.wake()
}

// resume says that the container goes on; it answers false when it is too late,
// and another shipper is needed once this one is done.
func (s *shipper) resume() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = false
	return !s.finished
}

// hasEnded says whether nothing writes to the queue.
func (s *shipper) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// finish makes the end final, unless the container goes on.
func (s *shipper) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = s.ended
	return s.finished
}

// over says whether the shipper has done all it will do.
func (s *shipper) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// complete says whether all secret options are there.
func (c Container) complete() bool {
	return !slices.ContainsFunc(c.SecretNames, func(name string) bool {
		_, ok := c.Secrets[name]
		return !ok
	})
}

// withSecrets is the container as drivers see it.
func (c Container) withSecrets() Container {
	if len(c.Secrets) == 0 {
		return c
	}
	options := make(map[string]string, len(c.Options)+len(c.Secrets))
	maps.Copy(options, c.Options)
	maps.Copy(options, c.Secrets)
	c.Options = options
	return c
}

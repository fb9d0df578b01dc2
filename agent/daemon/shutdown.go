package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/runtime/backoff"
)

const (
	// lockName is what systemd keeps the lock of logind under.
	lockName = "shutdown"
	// lockWho and lockWhy are what systemd-inhibit --list shows.
	lockWho = "Berth"
	lockWhy = "tasks are stopped in order, and ECS is told"
)

// logind is who says that the host is going to be shut down, before it is.
type logind interface {
	Delay(ctx context.Context, who, why string) (*os.File, error)
	Preparing(ctx context.Context) (bool, error)
	Patience(ctx context.Context) (time.Duration, error)
	Next(ctx context.Context) (systemd.Word, error)
	Close() error
}

var _ logind = (*systemd.Logind)(nil)

// shutdowns hears from logind when the host goes down, while everything on it
// still runs, and delays that until its tasks have ended.
//
//	               Down                  tasks ended, ECS told, or no time left
//	lock is held ───────► DRAINING, stop ──────────────────────────────────────► lock is let go ──► SIGTERM ──► leave
//	     ▲                                                                            │
//	     └──────────────────────────── ACTIVE ◄───────────────────────────────────────┘ Up: it was cancelled
//
// systemd keeps a copy of the lock, so that a shutdown waits for an agent that
// is just restarted or killed. A host without logind goes down without a word:
// then leave is where its tasks are stopped, and the same where the shutdown
// waits no longer. What it is told is kept by the drain.
type shutdowns struct {
	log *zap.Logger
	// dial begins a conversation with logind, and goingDown asks systemd.
	dial      func(ctx context.Context) (logind, error)
	goingDown func(ctx context.Context) (bool, error)
	// keep and forget are systemd's, as they are for the lock.
	keep   func(*os.File) error
	forget func() error
	// boot is which one this is; down is the one that the drain knows of.
	boot string
	down func() string
	// leave takes the host out of service and stops its tasks; stay puts it back.
	leave, stay func(ctx context.Context)

	// lock is nil where there is none.
	lock *os.File
	// quiet is why there was no logind the last time.
	quiet string
}

// newShutdowns begins with the lock that the last agent had.
func newShutdowns(a *agent, lock *os.File) (*shutdowns, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	s := &shutdowns{
		log:       a.log.Named("shutdown"),
		dial:      func(ctx context.Context) (logind, error) { return systemd.DialLogind(ctx) },
		goingDown: systemd.GoingDown,
		keep:      func(f *os.File) error { return systemd.Keep(lockName, f) },
		forget:    func() error { return systemd.Forget(lockName) },
		boot:      strings.TrimSpace(string(boot)), down: a.drainer.Down, lock: lock,
	}
	s.leave = func(ctx context.Context) {
		if err := a.drainer.GoingDown(ctx, s.boot); err != nil {
			s.log.Error("this host goes down without being DRAINING", zap.Error(err))
		}
		a.goodbye.say(ctx)
	}
	s.stay = func(context.Context) {
		a.goodbye.unsaid()
		if err := a.drainer.Up(); err != nil {
			s.log.Error("this host is up and stays DRAINING: berth drain --cancel", zap.Error(err))
		}
	}
	return s, nil
}

// run listens to logind until ctx ends, whichever logind and bus that is.
func (s *shutdowns) run(ctx context.Context) error {
	defer func() { s.hold(nil) }() // systemd has a copy, for the next agent.
	if down := s.down(); down != "" && down != s.boot {
		s.stay(ctx)
	}
	ladder := backoff.Ladder{First: time.Second, Last: 30 * time.Second, Factor: 2, Jitter: 0.1}
	for {
		err := s.listen(ctx, ladder.Reset)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.quiet != err.Error() { // once, and on most hosts without logind just that
			s.quiet = err.Error()
			s.log.Info("logind cannot say when this host is shut down; systemd will", zap.Error(err))
		}
		s.settle(ctx)
		if !backoff.Wait(ctx, ladder.Next()) {
			return context.Cause(ctx)
		}
	}
}

// settle ends, where there is no logind to ask, what the last agent of this
// boot was told of a shutdown that did not come.
func (s *shutdowns) settle(ctx context.Context) {
	if s.down() == "" {
		return
	}
	if going, err := s.goingDown(ctx); err == nil && !going {
		s.stay(ctx)
	}
}

// listen is one conversation. well is called once it has begun.
func (s *shutdowns) listen(ctx context.Context, well func()) (err error) {
	l, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	word := systemd.Anew
	for {
		if err := s.hear(ctx, l, word); err != nil {
			return err
		}
		well()
		s.quiet = ""
		if word, err = l.Next(ctx); err != nil {
			return err
		}
	}
}

// hear acts on one word.
func (s *shutdowns) hear(ctx context.Context, l logind, word systemd.Word) error {
	if word != systemd.Down {
		preparing, err := l.Preparing(ctx)
		if err != nil {
			return err
		}
		if preparing {
			word = systemd.Down
		}
	}
	if word == systemd.Down {
		s.log.Info("a shutdown of this host has begun")
		s.leave(ctx)
		if ctx.Err() == nil { // Otherwise the next agent goes on.
			s.release()
		}
		return nil
	}
	// Up is also what logind says when the shutdown is done and it is still there to say so.
	if going, err := s.goingDown(ctx); err != nil || going {
		return err
	}
	if s.down() != "" {
		s.log.Info("the shutdown of this host was cancelled")
		s.stay(ctx)
	}
	return s.take(ctx, l)
}

// take takes a lock, in the place of the one before: that is another logind's,
// or another agent's, and perhaps not worth anything.
func (s *shutdowns) take(ctx context.Context, l logind) error {
	lock, err := l.Delay(ctx, lockWho, lockWhy)
	if err != nil {
		return err
	}
	if err := s.keep(lock); err != nil {
		s.log.Warn("a shutdown does not wait for an agent that is just restarted", zap.Error(err))
	}
	s.hold(lock)
	patience, err := l.Patience(ctx)
	if err != nil {
		return err
	}
	s.log.Info("a shutdown of this host waits until its tasks have ended", zap.Duration("atMost", patience))
	return nil
}

// release lets the shutdown go on.
func (s *shutdowns) release() {
	if err := s.forget(); err != nil {
		s.log.Warn("the shutdown may wait for nothing", zap.Error(err))
	}
	s.hold(nil)
}

// hold keeps a lock, or none, in the place of the one before.
func (s *shutdowns) hold(lock *os.File) {
	if s.lock != nil {
		if err := s.lock.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.log.Warn("cannot let go of a lock of logind", zap.Error(err))
		}
	}
	s.lock = lock
}

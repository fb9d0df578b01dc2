package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// answerGrace is how long a log process that ends goes on to answer, which by
// then means to refuse.
const answerGrace = 200 * time.Millisecond

// ErrRunning: another log process serves this socket.
var ErrRunning = errors.New("a log process is running already")

// ServerConfig is what a log process is made of.
type ServerConfig struct {
	// Socket, Dir and DataDir are the unix socket, the directory of the
	// containers' directories, and that of the log files; empty ones are
	// DefaultSocket, DefaultDir and DefaultDataDir.
	Socket, Dir, DataDir string
	// Drivers are added to those of this package.
	Drivers map[string]Factory
	// QueueLimit is how many bytes of each container's lines may wait on disk for
	// a log service; zero is 128 MiB.
	QueueLimit int64
	// IdleExit ends the process when for so long no container was open and no
	// client was seen; zero never does.
	IdleExit time.Duration
	// LockWait is how long to wait for another log process to end; zero is five
	// seconds.
	LockWait time.Duration
	// Ready is called when every container found has been adopted and the socket
	// answers.
	Ready func()
	// Version is that of this program, for clients that ask which one it is.
	Version string
	// Log is where the process logs; nil is nowhere.
	Log *zap.Logger
}

// withDefaults fills in what is empty.
func (c ServerConfig) withDefaults() ServerConfig {
	c.Socket = cmp.Or(c.Socket, DefaultSocket)
	c.Dir = cmp.Or(c.Dir, DefaultDir)
	c.DataDir = cmp.Or(c.DataDir, DefaultDataDir)
	c.LockWait = cmp.Or(c.LockWait, 5*time.Second)
	c.QueueLimit = cmp.Or(c.QueueLimit, 128<<20)
	if c.Ready == nil {
		c.Ready = func() {}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	drivers := builtin()
	maps.Copy(drivers, c.Drivers)
	c.Drivers = drivers
	return c
}

// server is the log process.
type server struct {
	cfg ServerConfig
	// stop is the context workers run in; it ends when the process is to end.
	stop func() context.Context

	mu      sync.Mutex // guards workers and shippers, and serialises what changes a container
	workers map[string]*worker
	// shippers are those of containers with a remote driver, also of ended ones
	// with lines that wait.
	shippers map[string]*shipper

	clients  atomic.Int64  // requests under way
	lastSeen atomic.Int64  // when the last one ended, Unix nanoseconds
	quit     chan struct{} // closed when the process is to end
	// retired has room for one: asking twice is asking once.
	retired chan struct{}
}

// Run is the log process: it adopts every container in cfg.Dir and answers on
// cfg.Socket until ctx ends, or nothing is to be done for cfg.IdleExit. Then it
// reads what is in the pipes, syncs the files and returns; what comes later
// waits in pipe and spool for the next process. It answers ErrRunning when
// another process holds the socket's lock for longer than cfg.LockWait.
func Run(ctx context.Context, cfg ServerConfig) (err error) {
	cfg = cfg.withDefaults()
	for _, dir := range []string{filepath.Dir(cfg.Socket), cfg.Dir, cfg.DataDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("cannot start log process: %w", err)
		}
	}
	lock, err := takeLock(ctx, cfg.Socket+".lock", cfg.LockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{
		cfg: cfg, stop: func() context.Context { return ctx },
		workers: make(map[string]*worker), shippers: make(map[string]*shipper), quit: make(chan struct{}),
		retired: make(chan struct{}, 1),
	}
	s.lastSeen.Store(time.Now().UnixNano())
	listener, err := listen(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	web.SetKeepAlivesEnabled(false) // a connection costs little here, and one kept costs memory
	var group sync.WaitGroup
	for _, id := range s.adopt() {
		group.Go(func() {
			if err := s.close(ctx, id); err != nil && ctx.Err() == nil {
				cfg.Log.Error("cannot finish log", zap.String("container", id), zap.Error(err))
			}
		})
	}
	var serveErr error // read after group.Wait
	group.Go(func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			serveErr = fmt.Errorf("cannot serve %s: %w", cfg.Socket, err)
			cancel(serveErr)
		}
	})
	adopted := len(s.status())
	cfg.Ready()
	cfg.Log.Info("log process serves", zap.String("socket", cfg.Socket), zap.Int("containers", adopted))
	idle := s.waitForEnd(ctx)
	close(s.quit)
	cancel(errStopped)
	err = s.stopWorkers()
	grace, release := context.WithTimeoutCause(context.WithoutCancel(ctx), answerGrace, errStopped)
	defer release()
	if web.Shutdown(grace) != nil {
		err = errors.Join(err, web.Close())
	}
	group.Wait()
	cfg.Log.Info("log process ends", zap.Bool("idle", idle), zap.NamedError("cause", context.Cause(ctx)))
	return errors.Join(serveErr, err)
}

// stopWorkers waits for all workers and shippers to end; none is begun any more.
func (s *server) stopWorkers() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		<-w.done
		if !errors.Is(w.err, errStopped) {
			err = errors.Join(err, w.err)
		}
	}
	for _, sh := range s.shippers {
		<-sh.done
	}
	return err
}

// waitForEnd returns when ctx ends or a client wants another process (false), or
// the process was idle for long enough (true).
func (s *server) waitForEnd(ctx context.Context) bool {
	var looks <-chan time.Time // never, for a process that waits for ever
	if s.cfg.IdleExit > 0 {
		tick := time.NewTicker(max(s.cfg.IdleExit/4, time.Millisecond))
		defer tick.Stop()
		looks = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.retired:
			return false
		case <-looks:
		}
		s.mu.Lock()
		s.prune()
		busy := len(s.workers) > 0 || len(s.shippers) > 0 || s.clients.Load() > 0
		s.mu.Unlock()
		if busy {
			s.lastSeen.Store(time.Now().UnixNano())
		} else if time.Since(time.Unix(0, s.lastSeen.Load())) >= s.cfg.IdleExit {
			return true
		}
	}
}

// adopt opens every container whose directory is there. One that cannot be
// opened is logged and left; its agent will ask again. It answers with those
// whose end was asked for.
func (s *server) adopt() (closing []string) {
	s.revive()
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		s.cfg.Log.Error("cannot look for containers", zap.Error(err))
		return nil
	}
	for _, entry := range entries {
		id := entry.Name()
		// One without a configuration is being made just now.
		if checkID(id) != nil || !exists(filepath.Join(s.cfg.Dir, id, configName)) {
			continue
		}
		if err := s.open(id, nil); err != nil {
			s.cfg.Log.Error("cannot adopt container", zap.String("container", id), zap.Error(err))
			continue
		}
		if exists(filepath.Join(s.cfg.Dir, id, closingName)) {
			closing = append(closing, id)
		}
	}
	return closing
}

// close reads a container's pipes to their end, writes everything and says so
// by a file. Closing what is not open is no error.
func (s *server) close(ctx context.Context, id string) error {
	s.mu.Lock()
	w := s.workers[id]
	s.mu.Unlock()
	if w == nil {
		return nil
	}
	if err := w.end(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers[id] != w {
		return nil
	}
	if err := touch(filepath.Join(w.dir, closedName)); err != nil {
		return err
	}
	delete(s.workers, id)
	if sh := s.shippers[id]; sh != nil {
		sh.end()
	}
	// An error of the driver's end is told once: asking again could not mend it.
	return errors.Join(w.err, removeAll(filepath.Join(w.dir, spoolName), filepath.Join(w.dir, stdoutName),
		filepath.Join(w.dir, stderrName), filepath.Join(w.dir, stdinName), filepath.Join(w.dir, closingName)))
}

// remove ends a container without waiting for its pipes, and deletes everything
// about it.
func (s *server) remove(ctx context.Context, id string) error {
	s.mu.Lock()
	w := s.workers[id]
	s.mu.Unlock()
	if w != nil {
		// Not drained: on a full disk that would never end.
		w.cancel(errStopped)
		select {
		case <-w.done:
		case <-ctx.Done():
			return fmt.Errorf("cannot remove log: %w", context.Cause(ctx))
		}
	}
	if err := s.recall(ctx, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workers, id)
	delete(s.shippers, id)
	if err := errors.Join(
		os.RemoveAll(filepath.Join(s.cfg.DataDir, id)), os.RemoveAll(filepath.Join(s.cfg.Dir, id)),
	); err != nil {
		return fmt.Errorf("cannot remove log: %w", err)
	}
	return nil
}

// status is that of every open container, and of those whose lines wait, by id.
func (s *server) status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune()
	all := make(map[string]*Status, len(s.workers))
	for id, w := range s.workers {
		all[id] = &Status{ID: id, Task: w.c.Task, Name: w.c.Name, Driver: w.c.driver()}
		w.status(all[id])
	}
	for id, sh := range s.shippers {
		if all[id] == nil {
			all[id] = &Status{ID: id, Task: sh.c.Task, Name: sh.c.Name, Driver: sh.c.driver()}
		}
		sh.status(all[id])
	}
	list := make([]Status, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		list = append(list, *all[id])
	}
	return list
}

// takeLock makes this the only log process, waiting for another to end.
func takeLock(ctx context.Context, path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock log process: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrRunning)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("cannot lock log process: %w", err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("cannot lock log process: %w", context.Cause(ctx)), f.Close())
		}
	}
}

// listen listens on a unix socket that root alone may use.
func listen(ctx context.Context, path string) (net.Listener, error) {
	// We hold the lock: a socket that is there is a dead one.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen: %w", err), listener.Close())
	}
	return listener, nil
}

package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/durable"
)

// removeGrace is how long the removal of a container waits for lines that are on
// their way to a log service that is well.
const removeGrace = 5 * time.Second

// open begins to read a container's pipes, and to deliver its lines. One that is
// read already is left as it is; of one that was finished only what waits is
// delivered. secrets are the values of secret options, nil when nobody is there
// to say.
func (s *server) open(id string, secrets container.SecretOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop().Err() != nil {
		return errStopped
	}
	dir := filepath.Join(s.cfg.Dir, id)
	c, err := loadContainer(dir)
	if err != nil {
		return err
	}
	if c.Secrets, err = s.secrets(dir, c, secrets); err != nil {
		return err
	}
	if sh := s.shippers[id]; sh != nil && c.complete() && len(c.Secrets) > 0 {
		sh.supply(c)
	}
	if s.workers[id] != nil {
		return nil
	}
	finished := exists(filepath.Join(dir, closedName))
	// Nothing that was let pass once is refused later, when only values of secrets
	// may have been lost.
	if !finished && c.complete() {
		if err := check(s.cfg.Drivers, c.withSecrets()); err != nil {
			return err
		}
	}
	cfg := workerConfig{
		dir: dir, dataDir: filepath.Join(s.cfg.DataDir, id), factory: s.cfg.Drivers[c.driver()], log: s.cfg.Log,
	}
	if cfg.factory.Open == nil {
		return fmt.Errorf("%w: unknown log driver %q", ErrOptions, c.driver())
	}
	if cfg.factory.Remote {
		return s.openRemote(c, cfg, finished)
	}
	if finished {
		return nil
	}
	return s.begin(c, cfg)
}

// begin begins to read. The caller holds mu.
func (s *server) begin(c Container, cfg workerConfig) error {
	w, err := newWorker(s.stop(), c, cfg)
	if err != nil {
		return err
	}
	s.workers[c.ID] = w
	return nil
}

// openRemote is open for a remote driver: a shipper, and a worker that fills its
// queue. The caller holds mu.
func (s *server) openRemote(c Container, cfg workerConfig, finished bool) error {
	if sh := s.shippers[c.ID]; sh != nil {
		if finished {
			return nil
		}
		if sh.resume() {
			cfg.queue = sh.q
			return s.begin(c, cfg)
		}
		<-sh.done // it has nothing left to do but to close files
		delete(s.shippers, c.ID)
	}
	rules, err := parseCache(c.Options)
	if err != nil {
		return err
	}
	log := s.cfg.Log.With(zap.String("container", c.ID), zap.String("task", c.Task), zap.String("driver", c.driver()))
	q, err := openQueue(cfg.dataDir, rules, s.cfg.QueueLimit, log)
	if err != nil {
		return err
	}
	if finished && q.backlog() == 0 {
		return q.shut()
	}
	// The worker first: it takes back what a killed process wrote and did not give
	// up.
	if !finished {
		cfg.queue = q
		if err := s.begin(c, cfg); err != nil {
			return errors.Join(err, q.shut())
		}
	}
	sh := newShipper(s.stop(), c, cfg, q)
	s.shippers[c.ID] = sh
	if finished {
		sh.end()
	}
	return nil
}

// prune forgets shippers that are done. The caller holds mu.
func (s *server) prune() {
	for id, sh := range s.shippers {
		if sh.over() {
			delete(s.shippers, id)
		}
	}
}

// recall ends the shipper of a container that is removed. What a log service
// that is well is about to take is waited for.
func (s *server) recall(ctx context.Context, id string) error {
	s.mu.Lock()
	sh := s.shippers[id]
	s.mu.Unlock()
	if sh == nil {
		return nil
	}
	sh.end()
	if sh.trouble.begun().IsZero() {
		timer := time.NewTimer(removeGrace)
		defer timer.Stop()
		select {
		case <-sh.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	sh.cancel(errRemoved)
	select {
	case <-sh.done:
	case <-ctx.Done():
		return fmt.Errorf("cannot remove log: %w", context.Cause(ctx))
	}
	if left := sh.q.backlog(); left > 0 {
		sh.log.Warn("log is removed with lines that were never delivered", zap.Int64("bytes", left))
	}
	return nil
}

// secrets are the values of a container's secret options: those given, else those
// of before. They are kept beside the pipes, readable by root, if that directory
// is in memory as /run is; elsewhere a log process that is started anew waits
// for the agent to bring them.
func (s *server) secrets(dir string, c Container, given container.SecretOptions) (container.SecretOptions, error) {
	if len(c.SecretNames) == 0 {
		return nil, nil
	}
	path := filepath.Join(dir, secretsName)
	if len(given) > 0 {
		if !inMemory(dir) {
			return given, nil
		}
		data, err := json.Marshal(map[string]string(given))
		if err != nil {
			return nil, fmt.Errorf("cannot keep secret log options: %w", err)
		}
		return given, durable.ReplaceWhole(path, data, 0o600)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read secret log options: %w", err)
	}
	var kept map[string]string
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, errors.New("cannot read secret log options: they are damaged")
	}
	return kept, nil
}

// inMemory says whether a directory is in a file system that never reaches a
// disk.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/durable"
)

// The directory with a container's pipes is in memory, and goes when the host is
// restarted. Its lines are on disk, and so that they can still be delivered, the
// configuration lies beside them, as it is in the other directory: without the
// values of secret options.

// remember puts the configuration beside the queue. A disk that is full is no
// reason not to deliver now.
func (s *shipper) remember() {
	if err := copyConfig(s.dir, s.q.dir); err != nil {
		s.log.Warn("cannot keep log configuration; lines that wait are not delivered after a restart of the host", zap.Error(err))
	}
}

// revive makes the directories again of containers that a restart of the host has
// ended, and that have lines in a queue. To the rest of the log process they have
// been closed.
func (s *server) revive() {
	kept, err := filepath.Glob(filepath.Join(s.cfg.DataDir, "*", configName))
	if err != nil {
		panic(err) // the pattern is ours
	}
	for _, path := range kept {
		id := filepath.Base(filepath.Dir(path))
		dir := filepath.Join(s.cfg.Dir, id)
		if checkID(id) != nil || exists(filepath.Join(dir, configName)) {
			continue
		}
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = touch(filepath.Join(dir, closedName))
		}
		// The configuration last: without it there is no container.
		if err := errors.Join(err, copyConfig(filepath.Dir(path), dir)); err != nil {
			s.cfg.Log.Warn("cannot deliver lines from before the host was restarted", zap.String("container", id), zap.Error(err))
		}
	}
}

// copyConfig makes a directory have another's configuration.
func copyConfig(from, to string) error {
	data, err := os.ReadFile(filepath.Join(from, configName))
	if err != nil {
		return fmt.Errorf("cannot read log configuration: %w", err)
	}
	path := filepath.Join(to, configName)
	if has, err := os.ReadFile(path); err == nil && bytes.Equal(has, data) {
		return nil
	}
	return durable.ReplaceWhole(path, data, 0o600)
}

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/durable"
)

// bases are files, one for each container that its restart policy has started
// again, of what its counters had reached before. They are where a reboot empties
// the directory: it ends the containers too. The zero value keeps nothing.
type bases struct {
	dir string
	log *zap.Logger
}

func newBases(a *agent) bases {
	return bases{filepath.Join(a.options.Config.Paths.Run, "figures"), a.log.Named("metrics")}
}

// sweepBases deletes those of containers that have come to their end.
func (a *agent) sweepBases() {
	runs := map[string]bool{}
	for _, t := range a.engine.Tasks() {
		for _, c := range t.State.Containers {
			runs[t.ContainerID(c.Name)] = !t.Settled[c.Name]
		}
	}
	if err := a.observer.bases.sweep(func(id string) bool { return runs[id] }); err != nil {
		a.log.Warn("cannot remove what is left of containers' figures", zap.Error(err))
	}
}

func (b bases) path(id string) string { return filepath.Join(b.dir, id+".json") }

// of is a container's; zero where none is kept.
func (b bases) of(id string) (base metrics.Base) {
	if b.dir == "" {
		return base
	}
	text, err := os.ReadFile(b.path(id))
	if err == nil {
		err = json.Unmarshal(text, &base)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("a container's figures begin anew: what they had reached cannot be read", zap.String("container", id), zap.Error(err))
		return metrics.Base{}
	}
	return base
}

// keep writes a container's, whole or not at all.
func (b bases) keep(id string, base metrics.Base) {
	if b.dir == "" {
		return
	}
	if err := b.write(id, base); err != nil {
		b.log.Warn("a container's figures will begin anew with the next agent", zap.String("container", id), zap.Error(err))
	}
}

func (b bases) write(id string, base metrics.Base) error {
	text, err := json.Marshal(base)
	if err != nil {
		return fmt.Errorf("cannot encode figures: %w", err)
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	// Not synced: it does not outlive the power either way.
	if err := durable.ReplaceUnsynced(b.path(id), text, 0o600); err != nil {
		return fmt.Errorf("cannot write figures: %w", err)
	}
	return nil
}

// forget deletes a container's.
func (b bases) forget(id string) {
	if b.dir == "" {
		return
	}
	if err := os.Remove(b.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("cannot remove a container's figures", zap.String("container", id), zap.Error(err))
	}
}

// sweep deletes those of containers that nobody knows, and what was written by
// half.
func (b bases) sweep(known func(id string) bool) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for figures: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if id, whole := name[:len(name)-len(filepath.Ext(name))], filepath.Ext(name) == ".json"; whole && known(id) {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(b.dir, name)))
	}
	return errors.Join(errs...)
}

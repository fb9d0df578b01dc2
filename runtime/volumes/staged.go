package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/durable"
	"github.com/berthd/berth/runtime/volume"
)

// A staged EBS volume is noted on our disk from before it is mounted until after
// it is unmounted, so that one whose task is not known any more is let go of: EC2
// cannot detach it before.

// stagedPrefix begins the names of the notes; it is no volume's.
const stagedPrefix = ".ebs-"

// staged is an EBS volume and whose it is.
type staged struct {
	User   string     `json:"user"`
	Volume volume.EBS `json:"volume"`
}

func (v *Volumes) stagedNote(e volume.EBS) string {
	return filepath.Join(v.cfg.Dir, stagedPrefix+e.Directory)
}

// noteStaged writes the note, unless it is there.
func (v *Volumes) noteStaged(user string, e volume.EBS) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot note EBS volume %s: %w", e.VolumeID, explain(err, v.cfg.Dir))
	}
	note := v.stagedNote(e)
	if was, err := readStaged(note); err == nil && was == (staged{user, e}) {
		return nil
	}
	data, err := json.Marshal(staged{user, e})
	if err != nil {
		return fail(err)
	}
	if err := durable.Replace(note, data, 0o600); err != nil {
		return fail(err)
	}
	return nil
}

func readStaged(note string) (s staged, err error) {
	data, err := os.ReadFile(note)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	return s, err
}

func (v *Volumes) forgetStaged(e volume.EBS) error {
	if err := os.Remove(v.stagedNote(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget EBS volume %s: %w", e.VolumeID, err)
	}
	return nil
}

// sweepStaged unmounts the EBS volumes of users that are not known.
func (v *Volumes) sweepStaged(ctx context.Context, known func(user string) bool) error {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return fmt.Errorf("cannot list volumes: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), stagedPrefix) {
			continue
		}
		s, err := readStaged(filepath.Join(v.cfg.Dir, entry.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read note of an EBS volume: %w", err))
			continue
		}
		if known(s.User) {
			continue
		}
		v.log.Info("an EBS volume was mounted for a task that is gone", zap.String("volume", s.Volume.VolumeID), zap.String("task", s.User))
		errs = append(errs, v.unstageEBS(ctx, s.Volume))
	}
	return errors.Join(errs...)
}

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
	"time"

	"github.com/google/uuid"

	"github.com/berthd/berth/runtime/durable"
	"github.com/berthd/berth/runtime/volume"
)

// record is what volume.json says.
type record struct {
	Name    string            `json:"name"`
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Keep is for volumes that outlive their users, Mounted for those whose content
	// is a file system that is mounted while somebody uses it.
	Keep    bool      `json:"keep,omitempty"`
	Mounted bool      `json:"mounted,omitempty"`
	Created time.Time `json:"created"`
}

func (v *Volumes) dir(name string) string        { return filepath.Join(v.cfg.Dir, name) }
func (v *Volumes) data(name string) string       { return filepath.Join(v.cfg.Dir, name, dataName) }
func (v *Volumes) user(name, user string) string { return filepath.Join(v.dir(name), usersName, user) }

// list are the names of all volumes.
func (v *Volumes) list() ([]string, error) {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list volumes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// read is the record of a volume. A directory with _data that somebody made by
// hand is a shared volume without labels and options; anything less is
// fs.ErrNotExist.
func (v *Volumes) read(name string) (record, error) {
	data, err := os.ReadFile(filepath.Join(v.dir(name), recordName))
	if errors.Is(err, fs.ErrNotExist) {
		if st, serr := os.Lstat(v.data(name)); serr == nil && st.IsDir() {
			return record{Name: name, Driver: volume.DriverLocal, Keep: true}, nil
		}
	}
	if err != nil {
		return record{}, fmt.Errorf("cannot read volume %s: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("cannot read volume %s: %w", name, err)
	}
	return r, nil
}

// create makes the directories of a volume. It appears complete or not at all.
func (v *Volumes) create(r record) error {
	fresh := filepath.Join(v.cfg.Dir, newPrefix+r.Name)
	err := func() error {
		if err := os.RemoveAll(fresh); err != nil {
			return err
		}
		for _, dir := range []string{fresh, filepath.Join(fresh, usersName)} {
			if err := os.Mkdir(dir, 0o711); err != nil {
				return err
			}
		}
		if err := os.Mkdir(filepath.Join(fresh, dataName), 0o755); err != nil {
			return err
		}
		// Whatever the umask, the content is like Docker's.
		if err := os.Chmod(filepath.Join(fresh, dataName), 0o755); err != nil {
			return err
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := writeSynced(filepath.Join(fresh, recordName), data); err != nil {
			return err
		}
		if err := durable.SyncDir(fresh); err != nil {
			return err
		}
		if err := os.Rename(fresh, v.dir(r.Name)); err != nil {
			return err
		}
		return durable.SyncDir(v.cfg.Dir)
	}()
	if err != nil {
		return errors.Join(fmt.Errorf("cannot create volume %s: %w", r.Name, explain(err, v.cfg.Dir)), os.RemoveAll(fresh))
	}
	return nil
}

// use notes a user.
func (v *Volumes) use(name, user string) error {
	dir := filepath.Join(v.dir(name), usersName)
	err := os.MkdirAll(dir, 0o711)
	if err == nil {
		err = writeSynced(filepath.Join(dir, user), nil)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot use volume %s: %w", name, explain(err, dir))
	}
	return nil
}

// unuse forgets a user.
func (v *Volumes) unuse(name, user string) error {
	if err := os.Remove(v.user(name, user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot leave volume %s: %w", name, err)
	}
	return nil
}

// users are those of a volume.
func (v *Volumes) users(name string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(v.dir(name), usersName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list users of volume %s: %w", name, err)
	}
	users := make([]string, len(entries))
	for i, e := range entries {
		users[i] = e.Name()
	}
	return users, nil
}

// delete removes a volume with its content. It vanishes from its place first, so
// that a crash leaves only what Sweep removes.
func (v *Volumes) delete(ctx context.Context, r record) error {
	// A container may have mounted something inside that has come out to the host.
	if err := v.unmountBelow(ctx, v.dir(r.Name)); err != nil {
		return err
	}
	gone := filepath.Join(v.cfg.Dir, gonePrefix+r.Name+"-"+uuid.NewString()[:8])
	if err := os.Rename(v.dir(r.Name), gone); err != nil {
		return fmt.Errorf("cannot delete volume %s: %w", r.Name, err)
	}
	return v.erase(ctx, gone)
}

// erase deletes a directory that is no volume any more. Nothing that is mounted
// there is deleted with it.
func (v *Volumes) erase(ctx context.Context, dir string) error {
	if err := v.unmountBelow(ctx, dir); err != nil {
		return err
	}
	var r record
	if data, err := os.ReadFile(filepath.Join(dir, recordName)); err == nil {
		_ = json.Unmarshal(data, &r) // What cannot be read was never complete and has nothing mounted.
	}
	if r.Mounted {
		// The content was never ours: the mount point itself has to be empty.
		if err := os.Remove(filepath.Join(dir, dataName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot delete mount point of volume %s: %w", r.Name, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot delete volume: %w", err)
	}
	return nil
}

// sweepRemains removes what create and delete have left when they were cut off.
func (v *Volumes) sweepRemains(ctx context.Context) error {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return fmt.Errorf("cannot list volumes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), gonePrefix) {
			errs = append(errs, v.erase(ctx, filepath.Join(v.cfg.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// writeSynced writes a file that is on the disk when it returns. It is for files
// that nobody reads before their directory is renamed, or that are empty.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

package resources

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/firelens"
	"github.com/berthd/berth/runtime/durable"
)

// routerFiles are the files of a task's log router.
type routerFiles struct{ root, task string }

func (f routerFiles) dir() string     { return filepath.Join(f.root, f.task) }
func (f routerFiles) sockets() string { return filepath.Join(f.dir(), "socket") }
func (f routerFiles) socket() string  { return filepath.Join(f.sockets(), firelens.SocketName) }
func (f routerFiles) config() string  { return filepath.Join(f.dir(), "config", "fluent.conf") }
func (f routerFiles) external() string {
	return filepath.Join(f.dir(), "config", "external.conf")
}

// make makes the directories. Only root looks into them from the host; the
// router's user, "uid[:gid]" or "" for the image's, makes its socket in its own.
func (f routerFiles) make(user string) error {
	if err := os.MkdirAll(f.root, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(f.config()), f.sockets()} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the router may be any user; see above
			return err
		}
	}
	if user == "" {
		return nil
	}
	name, group, _ := strings.Cut(user, ":")
	uid, err := strconv.Atoi(name)
	if err != nil {
		return fmt.Errorf("unable to determine the user ID: %w", err)
	}
	gid, err := strconv.Atoi(group)
	if err != nil {
		gid = os.Getgid() // also for a name of a group, which only the image knows
	}
	return os.Chown(f.sockets(), uid, gid)
}

// has says whether a file is there.
func (f routerFiles) has(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// write makes a file whole or not at all. One that says the same already stays:
// it may be mounted.
func (f routerFiles) write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return durable.ReplaceWhole(path, data, 0o644) // the router may be any user
}

// Sweep deletes the directories of routers whose tasks nobody knows: those of a
// state that was lost.
func (f Firelens) Sweep(known func(task string) bool) error {
	entries, err := os.ReadDir(f.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for files of log routers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !known(e.Name()) {
			errs = append(errs, routerFiles{f.Dir, e.Name()}.remove())
		}
	}
	return errors.Join(errs...)
}

// remove deletes everything.
func (f routerFiles) remove() error {
	if err := os.RemoveAll(f.dir()); err != nil {
		return fmt.Errorf("cannot remove the log router's files: %w", err)
	}
	return nil
}

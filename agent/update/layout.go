package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/runtime/durable"
)

// Names in an Install's directory.
const (
	versionsName = "versions"
	currentName  = "current"
	previousName = "previous"
	rootKeyName  = "root.json"
	programName  = "berth"
	stagePrefix  = ".stage-"
)

// ErrNotInstalled: this program is not one of a package, so there is nothing that an update could replace.
var ErrNotInstalled = errors.New("this program does not come from a package")

// Install is where the versions of the program are. Its methods change one name at a time, durably; one process at a time may change it
// (see Record).
type Install struct{ dir string }

// FindInstall is the Install that the program at path belongs to, links resolved, and the version whose program it is. The error matches
// ErrNotInstalled for one that lies elsewhere.
func FindInstall(path string) (in *Install, version string, err error) {
	path, err = filepath.EvalSymlinks(strings.TrimSuffix(path, " (deleted)"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("cannot find this program: %w", err)
	}
	of := filepath.Dir(path)
	if filepath.Base(path) != programName || filepath.Base(filepath.Dir(of)) != versionsName {
		return nil, "", ErrNotInstalled
	}
	return &Install{filepath.Dir(filepath.Dir(of))}, filepath.Base(of), nil
}

// OpenInstall is the Install in dir, which must exist.
func OpenInstall(dir string) (*Install, error) {
	if _, err := os.Stat(filepath.Join(dir, versionsName)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	return &Install{dir}, nil
}

// RootKey is the path of the root metadata that came with the package.
func (in *Install) RootKey() string { return filepath.Join(in.dir, rootKeyName) }

// Program is the path of a version's program.
func (in *Install) Program(version string) string {
	return filepath.Join(in.dir, versionsName, version, programName)
}

// CurrentProgram is a path that leads to whichever version is current. Containers that outlive an update remember this one, and not that
// of a version that will be gone.
func (in *Install) CurrentProgram() string { return filepath.Join(in.dir, currentName, programName) }

// Current is the version that is started next; "" when there is none.
func (in *Install) Current() (string, error) { return in.link(currentName) }

// Previous is the version that a bad update returns to; "" when there is none.
func (in *Install) Previous() (string, error) { return in.link(previousName) }

func (in *Install) link(name string) (string, error) {
	target, err := os.Readlink(filepath.Join(in.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("cannot read version: %w", err)
	}
	return filepath.Base(target), nil
}

// Has says whether there is a program of that version.
func (in *Install) Has(version string) bool {
	info, err := os.Stat(in.Program(version))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

// switchTo makes version the current one, and from the previous one. Told twice the same it does the same.
func (in *Install) switchTo(version, from string) error {
	if !in.Has(version) {
		return fmt.Errorf("cannot switch to version %s: its program is not in %s", version, in.dir)
	}
	if from != "" && from != version {
		if err := in.point(previousName, from); err != nil {
			return err
		}
	}
	return in.point(currentName, version)
}

// point makes a link lead to a version, in one step.
func (in *Install) point(name, version string) error {
	beside := filepath.Join(in.dir, "."+name+"-new")
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot switch to version %s: %w", version, err)
	}
	if err := os.Symlink(filepath.Join(versionsName, version), beside); err != nil {
		return fmt.Errorf("cannot switch to version %s: %w", version, err)
	}
	if err := os.Rename(beside, filepath.Join(in.dir, name)); err != nil {
		return fmt.Errorf("cannot switch to version %s: %w", version, err)
	}
	return durable.SyncDir(in.dir)
}

// stage makes a directory for a program that is on its way. keep puts it in its place.
func (in *Install) stage() (dir string, err error) {
	dir, err = os.MkdirTemp(filepath.Join(in.dir, versionsName), stagePrefix)
	if err != nil {
		return "", fmt.Errorf("cannot stage update: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", errors.Join(fmt.Errorf("cannot stage update: %w", err), os.RemoveAll(dir))
	}
	return dir, nil
}

// keep makes a staged directory that of a version, in the place of one that may be there.
func (in *Install) keep(staged, version string) error {
	place := filepath.Dir(in.Program(version))
	if err := durable.SyncDir(staged); err != nil {
		return err
	}
	// A directory cannot be renamed over one with something in it. Only one that is neither current nor previous is ever replaced.
	if err := os.RemoveAll(place); err != nil {
		return fmt.Errorf("cannot stage update: %w", err)
	}
	if err := os.Rename(staged, place); err != nil {
		return fmt.Errorf("cannot stage update: %w", err)
	}
	return durable.SyncDir(filepath.Dir(place))
}

// prune removes what an update left half done, and versions that are neither current nor previous nor among spare.
func (in *Install) prune(spare ...string) error {
	current, err := in.Current()
	if err != nil {
		return err
	}
	previous, err := in.Previous()
	if err != nil {
		return err
	}
	if current == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(in.dir, versionsName))
	if err != nil {
		return fmt.Errorf("cannot look for old versions: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); name != current && name != previous && !slices.Contains(spare, name) {
			errs = append(errs, os.RemoveAll(filepath.Join(in.dir, versionsName, name)))
		}
	}
	return errors.Join(errs...)
}

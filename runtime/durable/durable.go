// Package durable puts small files in their places in one step: they are written
// beside, and renamed. Whoever reads sees the old content or the new one, never a
// part, and writers of the same file do not disturb each other: the last one wins.
//
// What else is promised is for the caller to choose, because an fsync is the
// dearest thing that the start of a container can do:
//
//	                  after a crash of the program   after a power cut
//	Replace           the new content                the new content
//	ReplaceWhole      the new content                the old content or the new one
//	Add               the content                    the content, or no file
//	ReplaceUnsynced   the new content                anything, also an empty file
//
// A program that is killed on the way leaves a file whose name begins with
// Leftover in the same directory. Who owns the directory removes it, with the
// directory or by Sweep.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Leftover begins the names of files that are being written.
const Leftover = ".new-"

// Replace writes the file at path with exactly that mode, whatever the umask. When
// it returns without an error the file survives a power cut. After an error the old
// file is there, or, where only the directory could not be synced, the new one.
func Replace(path string, data []byte, mode fs.FileMode) error {
	if err := put(path, data, mode, how{sync: true, move: os.Rename}); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceWhole is Replace without the sync of the directory: a power cut may bring
// the old file back.
func ReplaceWhole(path string, data []byte, mode fs.FileMode) error {
	return put(path, data, mode, how{sync: true, move: os.Rename})
}

// ReplaceUnsynced is Replace without any sync, for what a power cut ends anyway: files
// in memory, and files of what runs now.
func ReplaceUnsynced(path string, data []byte, mode fs.FileMode) error {
	return put(path, data, mode, how{move: os.Rename})
}

// Add is ReplaceWhole unless there is a file already, which then stays as it is,
// whoever else adds one at this moment.
func Add(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return put(path, data, mode, how{sync: true, move: link})
}

// link moves a file unless there is one.
func link(from, to string) error {
	if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Remove(from)
}

// SyncDir makes the names in a directory survive a power cut: files that were made,
// renamed and removed.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot sync directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("cannot sync directory: %w", err)
	}
	return nil
}

// Sweep removes what killed programs have left in a directory, and touches nothing
// that was written at before or later: that may be about to get its name. No
// directory is no error.
func Sweep(dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for what was not written whole: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), Leftover) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it got its name
		}
		if err == nil && info.ModTime().Before(before) {
			err = remove(filepath.Join(dir, e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// how a file gets to its place.
type how struct {
	sync bool
	move func(from, to string) error
}

// put writes a file beside the path and moves it there. It leaves nothing beside.
func put(path string, data []byte, mode fs.FileMode, h how) error {
	// The owner of the directory may begin names of its own so; none ends so.
	f, err := os.CreateTemp(filepath.Dir(path), Leftover+"*~")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode))
	if err == nil && h.sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = h.move(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", path, err), remove(f.Name()))
	}
	return nil
}

// remove deletes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove what was not written whole: %w", err)
	}
	return nil
}

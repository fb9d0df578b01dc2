package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/berthd/berth/runtime/durable"
)

const (
	// lockTimeout is how long Open waits for an agent that is on its way out.
	lockTimeout = 2 * time.Second
	// initialMap is mapped from the start, so that a database of common size is
	// never mapped anew while readers hold it. The file stays sparse.
	initialMap = 1 << 20
)

// Open opens the database at path, or begins one; a directory that is missing is
// made with mode 0700, the file has mode 0600.
//
// A file that is no database, or a damaged one, or one of a newer schema is
// renamed to path.corrupt-TIME (path.newer-TIME), and a fresh one is begun; a
// single damaged record is left out, and the file as it was copied to
// path.damaged-TIME. Recovered then says so. Before a database is migrated it is
// copied to path.schema-N; an older agent that finds a newer schema goes back to
// the copy that it understands, if there is one (see DropCopies). Errors are left
// for what trying again can help: ErrLocked, no permission, no space.
func Open(path string) (*Store, error) {
	return open(path, lockTimeout, migrations())
}

func open(path string, patience time.Duration, steps []migration) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the database: %w", err)
	}
	var recovered string
	db, err := openDatabase(path, patience, steps)
	if reason, ok := errors.AsType[*unbelievable](err); ok {
		if recovered, err = setAside(path, reason, newestCopy(path, len(steps))); err != nil {
			return nil, err
		}
		db, err = openDatabase(path, patience, steps)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the database %s: %w", path, err)
	}
	damaged, err := findDamaged(db)
	if err == nil {
		if len(damaged) > 0 {
			recovered = dropDamaged(path, db, damaged)
		}
		var s *Store
		if s, err = newStore(path, db, recovered); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("cannot read the database %s: %w", path, err), db.Close())
}

// setAside puts an unusable database aside and says so. What Open finds then is
// the copy, if a newer agent made one and the database is unusable for being its;
// else nothing.
func setAside(path string, reason *unbelievable, copied string) (said string, err error) {
	kept := aside(path, reason.kind)
	if reason.kind != "newer" || copied == "" {
		if err := rename(path, kept); err != nil {
			return "", fmt.Errorf("cannot put the unusable database aside (%w): %w", reason, err)
		}
		return fmt.Sprintf("the database %s was unusable (%v): it was put aside as %s and a fresh one begun", path, reason, kept), nil
	}
	// At no moment is there no database.
	if err := os.Link(path, kept); err != nil {
		return "", fmt.Errorf("cannot put the newer database aside: %w", err)
	}
	if err := rename(copied, path); err != nil {
		return "", fmt.Errorf("cannot go back to the older database: %w", err)
	}
	return fmt.Sprintf("the database %s was a newer agent's (%v): it was put aside as %s, and the one from before that agent is used again",
		path, reason, kept), nil
}

// unbelievable is why a file cannot be used though it could be read.
type unbelievable struct {
	kind string // becomes part of the name it is put aside under
	err  error
}

func (u *unbelievable) Error() string { return u.err.Error() }
func (u *unbelievable) Unwrap() error { return u.err }

// openDatabase opens, checks and migrates the file. It answers *unbelievable
// when another try will not help.
func openDatabase(path string, patience time.Duration, steps []migration) (db *bbolt.DB, err error) {
	// bbolt reads the file through a mapping and trusts what it sees: a file that
	// was cut short ends in a fault, and one that was damaged in a panic.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var file *os.File
	defer func() {
		if p := recover(); p != nil {
			err = &unbelievable{kind: "corrupt", err: fmt.Errorf("its pages are damaged: %v", p)}
			// After a panic bbolt cannot be closed; its lock goes with the file.
			_ = file.Close()
		}
	}()
	opened, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         patience,
		InitialMmapSize: initialMap,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	if err != nil {
		return nil, openError(path, err)
	}
	if err := prepare(opened, file, steps); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

// prepare makes a database that bbolt could open one that we can use.
func prepare(db *bbolt.DB, file *os.File, steps []migration) error {
	if err := file.Chmod(0o600); err != nil {
		return err
	}
	if err := check(db, file); err != nil {
		return &unbelievable{kind: "corrupt", err: err}
	}
	err := migrate(db, steps)
	switch {
	case errors.Is(err, errNewer):
		return &unbelievable{kind: "newer", err: err}
	case errors.Is(err, errForeign):
		return &unbelievable{kind: "corrupt", err: err}
	case err != nil:
		return err
	}
	// The name of a new file must be as durable as what is written into it.
	return durable.SyncDir(filepath.Dir(file.Name()))
}

// openError says what bbolt's error means for us.
func openError(path string, err error) error {
	if errors.Is(err, bbolterrors.ErrTimeout) {
		if pid := lockHolder(path); pid > 0 {
			return fmt.Errorf("another berth agent (pid %d) holds it: %w", pid, ErrLocked)
		}
		return fmt.Errorf("another process holds it: %w", ErrLocked)
	}
	var errno syscall.Errno
	var pathError *fs.PathError
	if errors.As(err, &errno) || errors.As(err, &pathError) {
		return err
	}
	return &unbelievable{kind: "corrupt", err: err}
}

// check reads the whole database once. bbolt's own check, which knows the order of
// keys and which pages are free, comes last: it runs on a goroutine of its own,
// where a pointer to nowhere would end the agent.
func check(db *bbolt.DB, file *os.File) error {
	return db.View(func(tx *bbolt.Tx) error {
		content := make([]byte, tx.Size())
		if n, err := file.ReadAt(content, 0); err != nil {
			return fmt.Errorf("%d of its %d bytes are there: %w", n, len(content), err)
		}
		root := uint64(tx.Cursor().Bucket().RootPage())
		if err := checkPages(content, db.Info().PageSize, root); err != nil {
			return err
		}
		var first error
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
		}
		return first
	})
}

// damage is a record that cannot be believed.
type damage struct {
	bucket string
	key    []byte
	err    error
}

// findDamaged looks through all records.
func findDamaged(db *bbolt.DB) ([]damage, error) {
	var found []damage
	look := func(tx *bbolt.Tx, bucket string, test func(key, value []byte) error) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
			if err := test(key, value); err != nil {
				found = append(found, damage{bucket, bytes.Clone(key), err})
			}
			return nil
		})
	}
	record := func(key, value []byte) error {
		_, err := decode(key, value)
		return err
	}
	err := db.View(func(tx *bbolt.Tx) error {
		return errors.Join(
			look(tx, bucketMeta, func(key, value []byte) error {
				if string(key) == keySchema {
					return nil // read before
				}
				return record(key, value)
			}),
			look(tx, bucketTasks, record),
			look(tx, bucketAttachments, record),
			look(tx, bucketOutbox, func(key, value []byte) error {
				_, err := decodeEntry(key, value)
				return err
			}),
		)
	})
	return found, err
}

// dropDamaged keeps a copy of the file as it is, removes what is damaged, and
// says all that. That it can do neither (the disk is full) is said too, and is
// no reason not to start: readers pass over damaged records.
func dropDamaged(path string, db *bbolt.DB, found []damage) string {
	var said strings.Builder
	fmt.Fprintf(&said, "records in the database %s were damaged and are left out:", path)
	for _, d := range found {
		fmt.Fprintf(&said, " %s/%q (%v)", d.bucket, d.key, d.err)
	}
	kept := aside(path, "damaged")
	err := db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(kept, 0o600) })
	if err != nil {
		fmt.Fprintf(&said, "; the file as it was could not be kept: %v", err)
		return said.String()
	}
	fmt.Fprintf(&said, "; the file as it was is kept as %s", kept)
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, d := range found {
			if err := tx.Bucket([]byte(d.bucket)).Delete(d.key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(&said, "; they could not be removed: %v", err)
	}
	return said.String()
}

// aside is a name beside path for a file of that kind, made now.
func aside(path, kind string) string {
	return fmt.Sprintf("%s.%s-%s", path, kind, time.Now().UTC().Format("20060102T150405.000000000Z"))
}

// rename renames and makes that durable.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(from))
}

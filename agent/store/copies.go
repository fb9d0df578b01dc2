package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
)

// copyName is where the database lies as it was before it was migrated from a schema.
func copyName(path string, schema int) string { return path + ".schema-" + strconv.Itoa(schema) }

// keepCopy copies the database before a migration, so that the agent that wrote it can be returned to (agent/update). That there is no
// room for it is no reason not to start: then that agent learns its tasks again.
func keepCopy(db *bbolt.DB, schema int) {
	place := copyName(db.Path(), schema)
	err := db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(place+".new", 0o600) })
	if err == nil {
		err = os.Rename(place+".new", place)
	}
	if err != nil {
		_ = os.Remove(place + ".new")
	}
}

// newestCopy is the copy of the highest schema up to known, or "".
func newestCopy(path string, known int) string {
	for schema := known; schema > 0; schema-- {
		if _, err := os.Stat(copyName(path, schema)); err == nil {
			return copyName(path, schema)
		}
	}
	return ""
}

// DropCopies removes the copies that were made of the database at path before it was migrated. It is for an agent that has proved itself:
// none is returned to any more, and what is in the copies is no longer true.
func DropCopies(path string) error {
	names, err := filepath.Glob(path + ".schema-*")
	if err != nil {
		return fmt.Errorf("cannot look for copies of the database: %w", err)
	}
	var errs []error
	for _, name := range names {
		if _, err := strconv.Atoi(strings.TrimPrefix(name, path+".schema-")); err == nil {
			errs = append(errs, os.Remove(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove a copy of the database: %w", err)
	}
	return nil
}

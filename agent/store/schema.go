package store

import (
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// The buckets and the key that are needed to know what a database is.
const (
	bucketMeta        = "meta"
	bucketTasks       = "tasks"
	bucketAttachments = "attachments"
	bucketOutbox      = "outbox"
	keySchema         = "schema"
)

var (
	errForeign = errors.New("no database of an agent")
	errNewer   = errors.New("written by a newer agent")
)

// A migration brings a database from one schema to the next, within the
// transaction it is given.
type migration func(*bbolt.Tx) error

// migrations is the history of the schema: the migration at index n makes
// schema n+1 out of schema n, and schema 0 is an empty file. To change the
// drawing, append one; never edit one that was released.
func migrations() []migration {
	return []migration{createV1, addAttachmentsV2}
}

func createV1(tx *bbolt.Tx) error {
	for _, name := range []string{bucketMeta, bucketTasks, bucketOutbox} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}

// addAttachmentsV2 makes room for what ECS attaches to the host.
func addAttachmentsV2(tx *bbolt.Tx) error {
	_, err := tx.CreateBucket([]byte(bucketAttachments))
	return err
}

// schemaOf reads the schema of the database, 0 when nothing was written yet.
func schemaOf(tx *bbolt.Tx) (int, error) {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return 0, errForeign
		}
		return 0, nil
	}
	text := string(meta.Get([]byte(keySchema)))
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("%w: schema %q", errForeign, text)
	}
	return version, nil
}

// migrate brings the database up to the last of steps, all or nothing. It writes
// only when there is something to do: an agent starts on a full disk too.
func migrate(db *bbolt.DB, steps []migration) error {
	var version int
	err := db.View(func(tx *bbolt.Tx) (err error) {
		version, err = schemaOf(tx)
		return err
	})
	if err != nil {
		return err
	}
	if version > len(steps) {
		return fmt.Errorf("%w: schema %d, this one knows up to %d", errNewer, version, len(steps))
	}
	if version == len(steps) {
		return db.View(complete)
	}
	if version > 0 {
		keepCopy(db, version)
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for n := version; n < len(steps); n++ {
			if err := steps[n](tx); err != nil {
				return fmt.Errorf("cannot migrate from schema %d to %d: %w", n, n+1, err)
			}
		}
		schema := []byte(strconv.Itoa(len(steps)))
		return errors.Join(complete(tx), tx.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), schema))
	})
}

// complete looks whether the buckets are there that the Store works with.
func complete(tx *bbolt.Tx) error {
	for _, name := range []string{bucketMeta, bucketTasks, bucketAttachments, bucketOutbox} {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: it is without bucket %s", errForeign, name)
		}
	}
	return nil
}

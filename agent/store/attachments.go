package store

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/berthd/berth/agent/task"
)

// Attach makes record the attachment's record, or forgets the attachment when
// record is nil, and puts changes into the outbox among those of the subject, all
// or nothing; it returns when that is on disk. A failure has changed nothing.
func (s *Store) Attach(arn string, record []byte, subject string, changes ...task.Change) error {
	return s.keep(bucketAttachments, arn, record, subject, changes)
}

// Attachments are the records of all attachments by ARN, without damaged ones.
// They are the caller's to keep.
func (s *Store) Attachments() (map[string][]byte, error) { return s.records(bucketAttachments) }

// records are those of a bucket that can be believed.
func (s *Store) records(bucket string) (map[string][]byte, error) {
	records := make(map[string][]byte)
	err := s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
			if record, err := decode(key, value); err == nil {
				records[string(key)] = bytes.Clone(record)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

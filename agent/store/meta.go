package store

import (
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// NoManifest is the ManifestSequence before the first task manifest.
const NoManifest int64 = -1

// Meta is what the agent knows of itself over a restart, apart from tasks
// (spec/control-plane.md §A). Empty fields are not known.
type Meta struct {
	// ContainerInstanceARN is what registration answered; an agent that has one
	// registers again under it.
	ContainerInstanceARN string
	// Cluster is the cluster joined, as it was configured.
	Cluster string
	// AvailabilityZone and EC2InstanceID are the host's.
	AvailabilityZone, EC2InstanceID string
	// Drain is the last order to leave service, in the words of whoever gave it.
	Drain string
	// AgentVersion is of the agent that wrote last.
	AgentVersion string
	// BootID is the kernel's at the last write: another one now means that the
	// host was started again, and that no container can be running.
	BootID string
	// ManifestSequence is of the last task manifest that was acted on, or
	// NoManifest (spec/control-plane.md §4.9).
	ManifestSequence int64
}

// texts pairs the keys of the meta bucket with the fields they keep.
func (m *Meta) texts() map[string]*string {
	return map[string]*string{
		"agent-version":          &m.AgentVersion,
		"availability-zone":      &m.AvailabilityZone,
		"boot-id":                &m.BootID,
		"cluster":                &m.Cluster,
		"container-instance-arn": &m.ContainerInstanceARN,
		"drain":                  &m.Drain,
		"ec2-instance-id":        &m.EC2InstanceID,
	}
}

// keyManifest is the one key of Meta that is a number.
const keyManifest = "manifest-sequence"

// save writes m over what is there.
func (m *Meta) save(tx *bbolt.Tx) error {
	bucket := tx.Bucket([]byte(bucketMeta))
	values := map[string]string{keyManifest: ""}
	if m.ManifestSequence >= 0 {
		values[keyManifest] = strconv.FormatInt(m.ManifestSequence, 10)
	}
	for key, field := range m.texts() {
		values[key] = *field
	}
	for key, value := range values {
		var err error
		if value == "" {
			err = bucket.Delete([]byte(key))
		} else {
			err = bucket.Put([]byte(key), encode([]byte(key), []byte(value)))
		}
		if err != nil {
			return fmt.Errorf("cannot save %s: %w", key, err)
		}
	}
	return nil
}

// load reads m. A damaged value is as good as none; Recovered has named it.
func (m *Meta) load(tx *bbolt.Tx) {
	bucket := tx.Bucket([]byte(bucketMeta))
	text := func(key string) string {
		body, err := decode([]byte(key), bucket.Get([]byte(key)))
		if err != nil {
			return ""
		}
		return string(body)
	}
	for key, field := range m.texts() {
		*field = text(key)
	}
	m.ManifestSequence = NoManifest
	if n, err := strconv.ParseInt(text(keyManifest), 10, 64); err == nil && n >= 0 {
		m.ManifestSequence = n
	}
}

// Meta is what was saved last. It never blocks on the disk.
func (s *Store) Meta() Meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta
}

// Update lets change edit the Meta and returns when the result is on disk.
// change runs on the store's own goroutine: it must not call the Store, and it
// may run twice when another write failed beside it.
func (s *Store) Update(change func(*Meta)) error {
	var next Meta
	return s.write(request{
		apply: func(tx *bbolt.Tx) error {
			// From the transaction, not from memory: another Update may be before
			// this one in the same transaction.
			next.load(tx)
			change(&next)
			return next.save(tx)
		},
		after: func() { s.meta = next },
	})
}

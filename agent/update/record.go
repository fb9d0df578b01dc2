package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/durable"
)

// Phase is how far an update is.
type Phase string

// The phases of an update. One that was only staged has none: its program lies beside the others and nobody starts it.
const (
	// Switched: To is started, or is about to be, and has to prove itself.
	Switched Phase = "switched"
	// Confirmed: To has proved itself.
	Confirmed Phase = "confirmed"
	// Returned: From is back, and Reason says why.
	Returned Phase = "returned"
)

// Record is the last update, or the one under way.
type Record struct {
	Phase Phase  `json:"phase"`
	From  string `json:"from"`
	To    string `json:"to"`
	// Reason says why it returned, in the words of whoever saw it.
	Reason string `json:"reason,omitempty"`
	// At is when it was switched, Ended when it was confirmed or had returned.
	At    time.Time `json:"at"`
	Ended time.Time `json:"ended,omitzero"`
	// Starts counts the starts of To that have not come to a good end.
	Starts int `json:"starts,omitempty"`
	// Tasks are the ids of the tasks that ran when it was switched: To has to know them all.
	Tasks []string `json:"tasks,omitempty"`
	// Connected says that the agent was connected to ECS then. One that was not does not have to be now: that it is not To's fault.
	Connected bool `json:"connected,omitempty"`
	// Order is the id of ECS's message that led to it; empty when a person or a package did.
	Order string `json:"order,omitempty"`
}

// Pending says whether version has yet to prove itself.
func (r Record) Pending(version string) bool { return r.Phase == Switched && r.To == version }

// CameBack says why a version that returned is not switched to, and what would do it all the same. It matches ErrCameBack.
func (r Record) CameBack() error {
	return fmt.Errorf("%w (%s); berth update --to %s tries it again", ErrCameBack, r.Reason, r.To)
}

// State is the directory in which the record of an Install's updates is.
type State struct{ dir string }

// OpenState makes the directory when it is missing.
func OpenState(dir string) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make directory: %w", err)
	}
	return &State{dir}, nil
}

// Record is the last update's; its zero value when there was none.
func (s *State) Record() (Record, error) {
	var r Record
	if err := s.read("record.json", &r); err != nil {
		return Record{}, fmt.Errorf("cannot read the record of the update: %w", err)
	}
	return r, nil
}

// read fills v from a file of the directory, and leaves it as it is where there
// is none.
func (s *State) read(name string, v any) error {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// save makes r the last update.
func (s *State) save(r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write the record of the update: %w", err)
	}
	return s.write("record.json", data)
}

// write replaces a file in one step, durably.
func (s *State) write(name string, data []byte) error {
	return durable.Replace(filepath.Join(s.dir, name), data, 0o600)
}

// ErrBusy: another update is being made.
var ErrBusy = errors.New("another update is being made")

// lock keeps others from changing the install until the answer is called. The kernel gives it back when a process dies.
func (s *State) lock() (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock updates: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, errors.Join(fmt.Errorf("cannot lock updates: %w", err), f.Close())
	}
	_ = durable.Sweep(s.dir, time.Now().Add(-time.Hour)) // What stays harms nobody.
	return func() { _ = f.Close() }, nil                 // Nothing was written to it.
}

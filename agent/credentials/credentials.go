// Package credentials keeps the credentials of tasks' roles, in memory only.
//
// ECS sends a set of keys under an id; whoever asks the agent with that id gets
// the keys. A task has up to two sets: its own role's and the execution role's.
// After a restart the agent knows from its store which ids there should be, and
// has to wait for ECS to send the keys again: such an id is expected.
//
//	           Put                 Put
//	(unknown) ────▶ here ◀──────────────── expected ◀── Expect (restart)
//	    ▲             │ RemoveTask, Remove     │
//	    └─────────────┴────────────────────────┘
package credentials

import (
	"fmt"
	"sync"
)

// Role says whose credentials a set is, in the words of ACS.
type Role string

// The roles of a task.
const (
	Application Role = "TaskApplication"
	Execution   Role = "TaskExecution"
)

// Set is one set of keys. It prints as ***.
type Set struct {
	// ID is the path element under which the set is vended.
	ID string
	// TaskARN and Role say whose it is, RoleARN what it may do.
	TaskARN string
	Role    Role
	RoleARN string
	// The keys, and when they end, as ECS wrote it.
	AccessKeyID, SecretAccessKey, SessionToken string
	Expiration                                 string
}

// Format keeps keys out of whatever prints a Set, for every verb.
func (Set) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// MarshalText keeps keys out of encoders.
func (Set) MarshalText() ([]byte, error) { return []byte("***"), nil }

// State is what is known about an id.
type State string

// The states of an id.
const (
	// Unknown: nobody said such an id.
	Unknown State = "unknown"
	// Expected: ECS has to send the keys again.
	Expected State = "expected"
	// Here: the keys are here.
	Here State = "here"
)

// Store holds sets by id. It may be used by many goroutines at once.
type Store struct {
	mu sync.RWMutex // guards the fields below
	// sets by id; one without an AccessKeyID is expected.
	sets map[string]Set
	// arrived is closed and made anew when a set arrives.
	arrived chan struct{}
}

// New makes an empty store.
func New() *Store {
	return &Store{sets: make(map[string]Set), arrived: make(chan struct{})}
}

// Put keeps a set, in place of the one with its id. An older set of the same
// task and role with another id is kept: containers that started with that id
// go on asking for it until the task ends.
func (s *Store) Put(set Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[set.ID] = set
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// Expect says that an id belongs to a task whose keys are still to come. An id
// whose keys are here is left alone, and so is an empty one.
func (s *Store) Expect(taskARN string, role Role, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sets[id]; !ok && id != "" {
		s.sets[id] = Set{ID: id, TaskARN: taskARN, Role: role}
	}
}

// Get is the set of an id. Its keys are good only when the state is Here; whose
// it is, is known of an Expected one too.
func (s *Store) Get(id string) (Set, State) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	set, ok := s.sets[id]
	switch {
	case !ok:
		return Set{}, Unknown
	case set.AccessKeyID == "":
		return set, Expected
	}
	return set, Here
}

// Arrived is closed when the next set arrives; Get then to see whether it is the
// one waited for.
func (s *Store) Arrived() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.arrived
}

// Knows says whether any id belongs to the task.
func (s *Store) Knows(taskARN string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, set := range s.sets {
		if set.TaskARN == taskARN {
			return true
		}
	}
	return false
}

// Remove forgets the task's sets of one role: the task's own when it stops, the
// execution role's when it is cleaned up (spec/host.md §4).
func (s *Store) Remove(taskARN string, role Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, set := range s.sets {
		if set.TaskARN == taskARN && set.Role == role {
			delete(s.sets, id)
		}
	}
}

// RemoveTask forgets all of the task's sets.
func (s *Store) RemoveTask(taskARN string) {
	s.Remove(taskARN, Application)
	s.Remove(taskARN, Execution)
}

// Len is how many ids are known, expected ones among them.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.sets)
}

package ports

import (
	"errors"
	"fmt"

	"github.com/berthd/berth/ipam"
)

// Kinds of errors, for errors.Is.
var (
	// ErrInUse is a fixed port that somebody has. The error is an [*InUseError].
	ErrInUse = errors.New("host port is in use")
	// ErrUnavailable says that the dynamic range has no room. The error is an [*UnavailableError].
	ErrUnavailable = errors.New("no host port is available")
	// ErrBadRange is a dynamic port range that cannot be read or is empty.
	ErrBadRange = errors.New("bad host port range")
)

// Owner is who has a lease. It is comparable, and used as the key of [Table.Release].
type Owner struct {
	Task      string // the task's id, for people
	Container string // the container's id
}

// Process is another program on the host. The zero value is one that could not be found out.
type Process struct {
	PID  int
	Name string
}

// InUseError names who has the port that was asked for: a task of ours, or another process.
type InUseError struct {
	Protocol ipam.Protocol
	Port     uint16
	Owner    Owner   // zero unless the port is leased to a container
	Process  Process // zero if Owner is set, or unknown
	Err      error   // what the kernel said; nil if Owner is set
}

// Error is such as "host port 8080/tcp is in use by another process (nginx, pid 812)".
func (e *InUseError) Error() string {
	head := fmt.Sprintf("host port %d/%s is in use by ", e.Port, e.Protocol)
	switch {
	case e.Owner != Owner{}:
		return head + "task " + e.Owner.Task
	case e.Process != Process{}:
		return fmt.Sprintf("%sanother process (%s, pid %d)", head, e.Process.Name, e.Process.PID)
	}
	return head + "another process"
}

// Is reports that the error is an [ErrInUse].
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// Unwrap returns what the kernel said.
func (e *InUseError) Unwrap() error { return e.Err }

// UnavailableError says that the range has no run of Count free ports. Its words are the ECS agent's (task-engine §12).
type UnavailableError struct {
	Count int
	Range Range
}

// Error is "a host port is unavailable" or "3 contiguous host ports are unavailable".
func (e *UnavailableError) Error() string {
	if e.Count == 1 {
		return "a host port is unavailable"
	}
	return fmt.Sprintf("%d contiguous host ports are unavailable", e.Count)
}

// Is reports that the error is an [ErrUnavailable].
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

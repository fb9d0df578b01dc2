package container

import (
	"errors"
	"fmt"
)

// Errors that a Runtime's error may match with errors.Is.
var (
	// ErrNotFound: there is no such container or image.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning: the container exists and does not run.
	ErrNotRunning = errors.New("not running")
	// ErrUnavailable: the runtime cannot be reached; trying again can help.
	ErrUnavailable = errors.New("container runtime unavailable")
	// ErrNoSpace: the disk is full.
	ErrNoSpace = errors.New("no space left on device")
	// ErrTimeout: the runtime did not answer, or a pull did not move, in time.
	ErrTimeout = errors.New("timed out")
)

// Kind is the step that an error belongs to, and so the name that ECS shows
// for it (spec/task-engine.md §7.5).
type Kind string

// The kinds of error.
const (
	KindManifest  Kind = "CannotPullImageManifestError"
	KindPull      Kind = "CannotPullContainerError"
	KindPullECR   Kind = "CannotPullECRContainerError"
	KindPullAuth  Kind = "CannotPullContainerAuthError"
	KindCreate    Kind = "CannotCreateContainerError"
	KindStart     Kind = "CannotStartContainerError"
	KindStop      Kind = "CannotStopContainerError"
	KindInspect   Kind = "CannotInspectContainerError"
	KindRemove    Kind = "CannotRemoveContainerError"
	KindTimeout   Kind = "DockerTimeoutError"
	KindConfig    Kind = "DockerClientConfigError"
	KindHost      Kind = "HostConfigError"
	KindNetwork   Kind = "ContainerNetworkingError"
	KindResources Kind = "ResourceInitializationError"
)

// Error is a failed step: its kind, the cause, and whether trying again can
// help.
type Error struct {
	Kind  Kind
	Retry bool
	Err   error
}

// Errorf makes an Error that trying again does not mend.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Error is the cause alone: the words that stand behind "<Kind>: " in ECS.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost Error in err's chain, or fallback.
func KindOf(err error, fallback Kind) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return fallback
}

// Retryable says whether doing the same again can help.
func Retryable(err error) bool {
	if errors.Is(err, ErrUnavailable) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Retry
}

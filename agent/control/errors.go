package control

import (
	"context"
	"errors"

	"github.com/berthd/berth/agent/wire/ecs"
)

// The exit codes of the agent that Join's errors ask for, spec/control-plane.md
// §1.8. A supervisor starts the agent again after the one and not after the
// other.
const (
	ExitFailure  = 1
	ExitTerminal = 5
)

// TerminalError is an error that starting again does not mend: somebody has to
// change something.
type TerminalError struct{ Err error }

// Error is the cause's.
func (e *TerminalError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *TerminalError) Unwrap() error { return e.Err }

// ExitCode is the exit code that err asks for.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*TerminalError](err); ok {
		return ExitTerminal
	}
	return ExitFailure
}

// isType says whether the service answered with an error of that type.
func isType(err error, typ string) bool { return errors.Is(err, &ecs.Error{Type: typ}) }

// transient says whether doing the same later can help.
func transient(err error) bool {
	var own interface{ Transient() bool }
	if errors.As(err, &own) && own.Transient() {
		return true
	}
	return isType(err, ecs.ErrTypeThrottling) || isType(err, ecs.ErrTypeServer) || isType(err, ecs.ErrTypeLimitExceeded)
}

// ended is the reason why ctx ended, or err while it has not.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

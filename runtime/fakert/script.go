package fakert

import (
	"context"
	"syscall"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// Config scripts a Runtime. The zero value pulls every image at once and runs
// every container until it is signalled.
type Config struct {
	// Image says what a pull of req.Ref does. It is called without locks, once
	// for each Pull, and may block no longer than a map look-up.
	Image func(req container.PullRequest) Image
	// Container says what the container does. It is called once, in Create.
	Container func(spec container.Spec) Script
}

// Image scripts one pull.
type Image struct {
	// Digest is what the reference resolves to; "" is a digest made of the
	// reference, so that equal references are equal images.
	Digest string
	// Size is the number of bytes to fetch; zero is 1 MiB.
	Size int64
	// ResolveDelay passes before the digest is known, PullDelay before the bytes
	// are here, in ten steps of progress.
	ResolveDelay, PullDelay time.Duration
	// ResolveErr and PullErr fail the step after its delay.
	ResolveErr, PullErr error
	// Config is what the image says of itself: Env, StopSignal, Healthcheck and
	// Labels are taken from it.
	Config container.Image
}

// Script scripts one container.
type Script struct {
	// CreateDelay and StartDelay pass before the step's answer; CreateErr and
	// StartErr are that answer when set.
	CreateDelay, StartDelay time.Duration
	CreateErr, StartErr     error
	// ExitAfter is how long init runs; zero runs until it is signalled.
	ExitAfter time.Duration
	// ExitCode is init's when it ends by itself.
	ExitCode int
	// OOM says that the kernel kills init for want of memory at ExitAfter: the
	// exit code is then 137 and an EventOOM precedes the exit.
	OOM bool
	// IgnoreTerm has init ignore every signal but SIGKILL.
	IgnoreTerm bool
	// TermDelay passes between a signal and the exit that it causes.
	TermDelay time.Duration
	// TermCode is the exit code after a signal that can be handled; zero is 128
	// plus the signal's number. CatchTerm makes TermCode count even when zero.
	TermCode  int
	CatchTerm bool
	// RemoveErr fails Remove.
	RemoveErr error
	// LoseEvents keeps every event of the container from being sent.
	LoseEvents bool
	// Exec answers Exec; nil is exit code 0 at once.
	Exec func(ctx context.Context, req container.ExecRequest) (int, error)
}

// afterSignal says with which code the signal ends init, and whether it does.
func (s Script) afterSignal(sig syscall.Signal) (code int, ends bool) {
	switch {
	case sig == syscall.SIGKILL:
		return 128 + int(sig), true
	case sig == 0 || s.IgnoreTerm:
		return 0, false
	case s.CatchTerm || s.TermCode != 0:
		return s.TermCode, true
	default:
		return 128 + int(sig), true
	}
}

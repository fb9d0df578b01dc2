package task

import (
	"time"

	"github.com/berthd/berth/runtime/container"
)

// Fact is something that happened to a task. Facts may come twice and late.
//
//sumtype:decl
type Fact interface{ fact() }

// The facts about a task as a whole.
type (
	// StopRequested: ECS (or a person at the host) wants the task stopped.
	// Reason is "" when ECS asked, which knows why.
	StopRequested struct {
		Reason string
		At     time.Time
	}
	// Admitted: the host has the CPU, memory, ports and addresses for the task,
	// and they are now its own.
	Admitted struct{}
	// Refused: the host can never run the task, or could not prepare it. The
	// Failure is that of Container, or of the task when Container is "".
	Refused struct {
		Container string
		Failure   Failure
	}
	// Prepared: what the containers share (the task's cgroup) is there.
	Prepared struct{}
	// Released: network, ports, addresses and accounting are given back.
	Released struct{}
	// DrainDue: container changes have waited long enough for a task change to
	// ride on.
	DrainDue struct{}
	// CleanupDue: a stopped task has been kept long enough.
	CleanupDue struct{}
	// Removed: nothing of the task is left on the host.
	Removed struct{}
)

// The facts about one container of the task.
type (
	// Resolved: the image reference is known to mean Digest.
	Resolved struct {
		Container, Digest string
		// ByAgent says that the agent asked the registry, and so that ECS is told.
		ByAgent bool
	}
	// PullBegan: the image is being pulled since At.
	PullBegan struct {
		Container string
		At        time.Time
	}
	// Pulled: the image is on the host, since At. Asked is false when it was
	// there already and no pull was made.
	Pulled struct {
		Container, Digest string
		// ImageID is the digest of the image's configuration.
		ImageID string
		// Healthcheck and Shell are the image's own, for its health check.
		Healthcheck *container.Healthcheck
		Shell       []string
		Asked       bool
		At          time.Time
	}
	// PullFailed: the image cannot be had. StopTask says that the pull behaviour
	// makes this the end of the whole task, and Reason, if not "", why in words of
	// the task's own.
	PullFailed struct {
		Container string
		Failure   Failure
		Reason    string
		StopTask  bool
		Cancelled bool
		At        time.Time
	}
	// Created: the container exists in the runtime since At.
	Created struct {
		Container, RuntimeID string
		Bindings             []Binding
		At                   time.Time
	}
	// CreateFailed: it could not be created, or (Cancelled) need not be any more.
	CreateFailed struct {
		Container string
		Failure   Failure
		Cancelled bool
		At        time.Time
	}
	// Started: init runs since At.
	Started struct {
		Container string
		At        time.Time
	}
	// StartFailed: init could not be started.
	StartFailed struct {
		Container string
		Failure   Failure
		At        time.Time
	}
	// Exited: init has ended.
	Exited struct {
		Container string
		Exit      container.Exit
	}
	// Vanished: the runtime does not know the container any more.
	Vanished struct {
		Container string
		At        time.Time
	}
	// Signalled: the stop signal was sent at At (or SIGKILL, when Kill is set).
	Signalled struct {
		Container string
		Kill      bool
		At        time.Time
	}
	// SignalFailed: the signal could not be sent; it is to be tried again. At is
	// zero where the runtime was away: it has not been asked then.
	SignalFailed struct {
		Container string
		Kill      bool
		At        time.Time
	}
	// StopTimedOut: the container had its time to stop.
	StopTimedOut struct{ Container string }
	// StartTimedOut: the container's startTimeout is over.
	StartTimedOut struct{ Container string }
	// HealthChanged: the health check says so since At, of the run of the container
	// that began at Run (zero is the present one). ExitCode, -1 for a probe that
	// could not be run to its end, and Output are those of the probe that decided.
	HealthChanged struct {
		Container string
		Health    Health
		Run       time.Time
		ExitCode  int
		Output    string
		At        time.Time
	}
	// ManagedAgentChanged: a managed agent runs, or does not, for this Reason.
	ManagedAgentChanged struct {
		Container, Name string
		Status          ReportStatus
		Reason          string
		At              time.Time
	}
)

// Failure is why a step failed, in the words that ECS shows.
type Failure struct {
	// Name is the error's name ("CannotPullContainerError"), Text the rest.
	Name, Text string
}

// String is the reason as ECS shows it: "<Name>: <Text>".
func (f Failure) String() string {
	switch {
	case f == Failure{}:
		return ""
	case f.Name == "":
		return "UnknownError: " + f.Text
	default:
		return f.Name + ": " + f.Text
	}
}

// Health is what a container's health check says.
type Health string

// The states of health, as TCS has them.
const (
	HealthUnknown   Health = "UNKNOWN"
	HealthHealthy   Health = "HEALTHY"
	HealthUnhealthy Health = "UNHEALTHY"
)

func (StopRequested) fact() {}
func (Admitted) fact()      {}
func (Refused) fact()       {}
func (Prepared) fact()      {}
func (Released) fact()      {}
func (DrainDue) fact()      {}
func (CleanupDue) fact()    {}
func (Removed) fact()       {}
func (Resolved) fact()      {}
func (PullBegan) fact()     {}
func (Pulled) fact()        {}
func (PullFailed) fact()    {}
func (Created) fact()       {}
func (CreateFailed) fact()  {}
func (Started) fact()       {}
func (StartFailed) fact()   {}
func (Exited) fact()        {}
func (Vanished) fact()      {}
func (Signalled) fact()     {}
func (SignalFailed) fact()  {}
func (StopTimedOut) fact()  {}
func (StartTimedOut) fact() {}
func (HealthChanged) fact() {}

func (ManagedAgentChanged) fact() {}

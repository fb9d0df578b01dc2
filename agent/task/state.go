package task

import (
	"time"

	"github.com/berthd/berth/runtime/container"
)

// State is everything the machine knows about a task. It is what is written to
// disk, and the machine restored from it goes on as if it had never stopped,
// but that no work is under way.
type State struct {
	Definition Definition
	// StopRequested is what ECS wants; StopReason is why, when the agent itself
	// ended the task.
	StopRequested bool
	StopReason    string
	Admitted      bool
	Prepared      bool
	Released      bool
	CleanupDue    bool
	Removed       bool
	// Sent is the highest status reported.
	Sent ReportStatus
	// Latest is the newest time that a fact has carried: the machine's only idea
	// of now.
	Latest time.Time
	// ExecutionStoppedAt is when the first essential container stopped, StoppedAt
	// when the last container was settled.
	ExecutionStoppedAt, StoppedAt time.Time
	Containers                    []ContainerState
}

// ContainerState is what is known about one container.
type ContainerState struct {
	ImageState
	Times

	Name  string
	Phase Phase
	// RuntimeID is the id in the runtime, "" before Created.
	RuntimeID string
	Bindings  []Binding
	// Failure is the first failed step; it is never replaced.
	Failure Failure
	// Exit is how it ended. It is nil while running and when nobody knows.
	Exit *container.Exit
	// ExitCode is an exit code given without an exit (143, spec §2.3).
	ExitCode      *int
	Pulling       Pulling
	StartTimedOut bool
	Stopping      Stopping
	Health        Health
	HealthSince   time.Time
	Check         Check
	ManagedAgents []ManagedAgentState `json:",omitempty"`
	Restarts      Restarts
	// Sent is the highest status reported.
	Sent ReportStatus
}

// ImageState is what is known about the image of a container.
type ImageState struct {
	// Digest is what the image reference means; DigestByAgent says that the agent
	// asked for it, and so that ECS is told.
	Digest        string
	DigestByAgent bool
	// ImageID is the digest of the image's configuration: what Docker calls the
	// image's id.
	ImageID string `json:",omitempty"`
}

// Times are those of a container's process.
type Times struct {
	// CreatedAt is when the runtime got to know it.
	CreatedAt time.Time
	// StartedAt is when it first ran; EndedAt is when it stopped, zero again once
	// it was restarted.
	StartedAt, EndedAt time.Time
}

// Pulling is when the pull of a container's image began, and when it ended as
// far as ECS is to know: an image that was here already has no end.
type Pulling struct{ StartedAt, StoppedAt time.Time }

// Stopping is how far the stop of a running container has come.
type Stopping struct {
	// SignalledAt is when the stop signal was first sent, or tried to be.
	SignalledAt time.Time
	// TimedOut says that the time given for it is over: SIGKILL follows.
	TimedOut bool
	// KilledAt is when SIGKILL was first sent, or tried to be.
	KilledAt time.Time
}

// Restarts are those by the container's own restart policy.
type Restarts struct {
	Count  int
	LastAt time.Time
	// ExitAt is when the run before the latest restart ended: whoever tells of
	// that exit again does not mean the present run.
	ExitAt time.Time
}

// Phase is how far a container has come.
type Phase string

// The phases of a container; see the package's documentation.
const (
	PhasePending Phase = "pending"
	PhasePulled  Phase = "pulled"
	PhaseCreated Phase = "created"
	PhaseRunning Phase = "running"
	PhaseStopped Phase = "stopped"
)

// existsInRuntime says whether the runtime is expected to know the container.
func (p Phase) existsInRuntime() bool {
	switch p {
	case PhaseCreated, PhaseRunning, PhaseStopped:
		return true
	case PhasePending, PhasePulled:
		return false
	}
	return false
}

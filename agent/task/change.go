package task

import "time"

// Change is one state change to tell ECS (spec/control-plane.md §6.2). The
// machine makes it, the outbox keeps it, control sends it.
type Change struct {
	TaskARN string
	// Status is the task's: PENDING, RUNNING or STOPPED.
	Status ReportStatus
	// Reason may be empty. It is not truncated here.
	Reason string
	// Containers that changed since the last Change, in order.
	Containers []ContainerChange
	// ManagedAgents that changed since the last Change.
	ManagedAgents []ManagedAgentChange `json:",omitempty"`
	// Attached, if set, makes this the news that an attachment is there, and nothing
	// else. TaskARN is then empty for one that is not reported with its task.
	Attached *Attached `json:",omitempty"`
	// The three times are zero until they are known, and repeated after.
	PullStartedAt, PullStoppedAt, ExecutionStoppedAt time.Time
}

// Attached is an attachment that is there. From ExpiresAt on nobody wants to
// know.
type Attached struct {
	ARN       string
	ExpiresAt time.Time
}

// Subject is what the change is about; changes of one subject are sent one after
// the other.
func (c *Change) Subject() string {
	if c.TaskARN == "" && c.Attached != nil {
		return c.Attached.ARN
	}
	return c.TaskARN
}

// ContainerChange is one container's part of a Change.
type ContainerChange struct {
	Name   string
	Status ReportStatus
	// ExitCode is nil when none is known.
	ExitCode *int
	// Reason is "<ErrorName>: <text>", or empty.
	Reason string
	// RuntimeID is the container's id in containerd.
	RuntimeID string
	// ImageDigest is the digest the agent resolved ("sha256:…").
	ImageDigest string
	// Bindings are the ports really published.
	Bindings []Binding
}

// ManagedAgentChange is one managed agent's part of a Change.
type ManagedAgentChange struct {
	Container, Name string
	Status          ReportStatus
	Reason          string
}

// Binding is one published port, or range of ports.
type Binding struct {
	BindIP   string
	Protocol string
	// ContainerPort to ContainerPortEnd is bound one to one to HostPort and the
	// ports after it. Range says that it is reported as a range.
	ContainerPort, ContainerPortEnd, HostPort uint16
	Range                                     bool
}

// ReportStatus is a status as ECS reads it.
type ReportStatus string

// The statuses that are reported.
const (
	ReportPending ReportStatus = "PENDING"
	ReportRunning ReportStatus = "RUNNING"
	ReportStopped ReportStatus = "STOPPED"
)

// Entry is a Change that waits in the outbox. IDs rise in the order in which
// the changes were made.
type Entry struct {
	ID     uint64
	Change Change
}

package container

import "time"

// Phase is where a container is in its life.
type Phase string

// The phases of a container. An absent container has no Status at all.
const (
	// Created: the record exists and init has not started.
	Created Phase = "created"
	// Running: init runs (or is paused).
	Running Phase = "running"
	// Stopped: init has exited, or was lost with the host's last boot.
	Stopped Phase = "stopped"
)

// Status is what the runtime knows about a container at one moment.
type Status struct {
	ID     string
	Labels map[string]string
	Phase  Phase
	// PID is init's in the host's namespace while running.
	PID int
	// Image is the reference it was created from.
	Image string
	// Exit is set once the container is Stopped.
	Exit *Exit
	// CreatedAt is when the record was made, StartedAt when init started (zero
	// when not known).
	CreatedAt, StartedAt time.Time
}

// Exit is how a container ended.
type Exit struct {
	// Code is the exit code, 128+n for a signal n. Known is false when nobody saw
	// the exit: the host rebooted, or the shim was killed.
	Code  int
	Known bool
	// At is when init exited, by the runtime's own record.
	At time.Time
	// OOMKilled says that the kernel killed a process of the container for want
	// of memory before it ended.
	OOMKilled bool
}

// EventKind is what an Event says.
type EventKind string

// The kinds of event.
const (
	EventStarted EventKind = "started"
	EventExited  EventKind = "exited"
	EventOOM     EventKind = "oom"
	EventRemoved EventKind = "removed"
	// EventResync says that events may have been lost (the stream was broken):
	// list again.
	EventResync EventKind = "resync"
)

// Event is a hint that something happened to a container; the truth is in
// Status. Exit is set for EventExited when the runtime sent it along.
type Event struct {
	Kind EventKind
	ID   string
	Exit *Exit
	At   time.Time
}

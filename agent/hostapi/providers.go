package hostapi

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/berthd/berth/agent/config"
)

// Errors that providers answer with, wrapped or not, so that a caller gets the right HTTP status.
var (
	// ErrNotFound means that there is no such task, container or image.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the thing is not in a state for that: exec into a stopped container.
	ErrConflict = errors.New("not possible now")
	// ErrInvalid means that the request itself is wrong.
	ErrInvalid = errors.New("invalid request")
	// ErrUnavailable means that something the agent needs is away; trying again can help.
	ErrUnavailable = errors.New("unavailable")
)

// Instance tells about the agent as a whole.
type Instance interface {
	Status() StatusView
}

// Tasks tells about tasks. ids are full task ids, which the server finds from what the caller wrote.
type Tasks interface {
	// Tasks lists every task the agent knows, in the order they came. The caller owns the slice and what it points to.
	Tasks() []TaskView
	// Stop begins to stop a task and returns once that is recorded, not once it is stopped.
	Stop(ctx context.Context, id, reason string) error
	// Why lists what a task waits for, first things first; empty for a task that has all it wants.
	Why(id string) ([]Wait, error)
}

// Executor runs a process in a container, for a person.
type Executor interface {
	// Exec returns the exit code once the process has ended and its output is written. It ends the process when ctx ends.
	Exec(ctx context.Context, r ExecRequest, streams Streams) (int, error)
}

// ExecRequest says what to run where.
type ExecRequest struct {
	Container  string   `json:"container"` // id in containerd
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Terminal   bool     `json:"terminal,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"` // without it, stdin is empty
	Size       Size     `json:"size,omitzero"`   // of the terminal at the start
}

// Size is that of a terminal, in characters.
type Size struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Streams are the ends of an exec that the server holds. With a terminal, everything comes on Stdout.
type Streams struct {
	Stdin          io.Reader // ends when the caller closes its side
	Stdout, Stderr io.Writer
	Resize         <-chan Size // nil without a terminal; never closed
}

// LogReader reads what containers wrote.
type LogReader interface {
	// Logs calls emit for each line, oldest first, until there are no more or, with Follow, until ctx ends or the container has ended
	// and all is read. It returns emit's error if emit fails.
	Logs(ctx context.Context, r LogRequest, emit func(LogLine) error) error
}

// LogRequest says which lines are wanted.
type LogRequest struct {
	Container string // id in containerd
	Follow    bool
	Tail      int       // only so many of the last lines; negative means all
	Since     time.Time // zero means all
}

// Stats tells the latest sample of every running container.
type Stats interface {
	Stats() []StatsView
}

// Images tells about images.
type Images interface {
	Images(ctx context.Context) ([]ImageView, error)
}

// Puller pulls images, and tells of all pulls under way.
type Puller interface {
	// Pull calls progress from one goroutine and returns when the image is here.
	Pull(ctx context.Context, image string, progress func(PullView)) (ImageView, error)
	Pulls() []PullView
}

// Providers is what the API can tell and do. A nil one answers 501.
type Providers struct {
	Instance Instance
	Tasks    Tasks
	Executor Executor
	Logs     LogReader
	Stats    Stats
	Images   Images
	Puller   Puller
	Events   *Events
	Drainer  Drainer
	// Credentials are served to root alone.
	Credentials RoleCredentials
	// Settings are those that count now.
	Settings func() []config.Setting
	// Checks look whether containers reach what they need.
	Checks func(ctx context.Context) []CheckView
}

package container

import (
	"context"
	"io"
	"syscall"
)

// Runtime runs containers. All methods may be called at once from many
// goroutines, also for the same container; calls for one ID are serialised
// inside. Errors carry a Kind (see KindOf) and say whether trying again can
// help (see Retryable).
type Runtime interface {
	// Pull makes an image present and unpacked and says what it is. However many
	// callers ask for one digest at once, it is fetched once; a caller whose ctx
	// ends leaves without stopping the others. progress may be nil; it is called
	// from one goroutine at a time and must not block.
	Pull(ctx context.Context, req PullRequest, progress func(Progress)) (Image, error)
	// Create makes the container's record, its root file system and its spec
	// true, without starting it. An existing container of the same ID is left as
	// it is.
	Create(ctx context.Context, spec Spec) error
	// Start starts init and returns once it runs. A running container is left as
	// it is; a stopped one is started again in the same root file system.
	Start(ctx context.Context, id string) (Status, error)
	// Signal sends a signal to init, or to every process of the container when
	// all is set. A container that does not run is ErrNotRunning.
	Signal(ctx context.Context, id string, signal syscall.Signal, all bool) error
	// Remove deletes the container and its root file system, killing it if it
	// runs. An absent one is no error.
	Remove(ctx context.Context, id string) error
	// List returns the status of every container of this runtime, or of those
	// named.
	List(ctx context.Context, ids ...string) ([]Status, error)
	// Exec runs a further process in a running container and returns its exit
	// code. When ctx ends first, the process and its children are killed (but see
	// ExecRequest.Keep) and ctx's cause is returned. A runtime that goes away
	// meanwhile is waited for: the process knows nothing of it.
	Exec(ctx context.Context, id string, req ExecRequest) (int, error)
	// Events streams hints until ctx ends, then closes the channel. A broken
	// stream is reopened inside and marked by EventResync; the first event is
	// always EventResync.
	Events(ctx context.Context) <-chan Event
}

// ExecRequest is a process to run inside a container.
type ExecRequest struct {
	Args []string
	// Env is added to the container's own; User and WorkingDir replace it when
	// set.
	Env              []string
	User, WorkingDir string
	Terminal         bool
	Stdin            io.Reader
	Stdout, Stderr   io.Writer
	// Resize carries terminal sizes; nil without a terminal.
	Resize <-chan Size
	// Keep, when set, names a process that outlives its caller: when ctx ends it
	// runs on, and an Exec that keeps a process of that name joins the one that
	// runs, and waits for its end. It has no streams and no terminal.
	Keep string
	// Started, if set, is called once the process runs; joined says that it ran
	// already.
	Started func(joined bool)
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

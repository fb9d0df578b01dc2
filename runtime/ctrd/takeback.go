package ctrd

import (
	"context"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

// When an agent is killed while containerd makes a process for it, containerd
// takes the process back, in steps that go on for a moment after the connection
// broke: it cancels the shim's work, deletes the bundle, and has the shim's
// binary delete whatever has the container's ID, twice. These steps go by the ID
// and know nothing of the Start of the next agent, whose bundle and process they
// would take away with the old ones.
const (
	// takebackGrace is how long after its own beginning a Runtime starts no
	// container that is older than itself.
	takebackGrace = 2 * time.Second
	// takebackPause and takebackTries say how long containerd may take if that
	// was not enough, and to clear away a task whose shim was killed.
	takebackPause = 50 * time.Millisecond
	takebackTries = 200
	// takebackQuiet is how many tries containerd is given before we delete the
	// task that is in the way.
	takebackQuiet = 10
)

// awaitTakeback waits, in the first moments of a Runtime, until containerd is
// done with what the Runtime before it may have left.
func (r *Runtime) awaitTakeback(ctx context.Context, s stored) error {
	left := time.Until(r.opened.Add(takebackGrace))
	if left <= 0 || !s.CreatedAt.Before(r.opened) {
		return nil
	}
	backoff.Wait(ctx, left)
	return context.Cause(ctx)
}

// makeTask has containerd make the process. It tries again where an earlier
// Start is still being taken back, and takes over what one has left. Where the
// OCI runtime lost its own helper it tries again once.
func (r *Runtime) makeTask(ctx context.Context, s stored, request *tasks.CreateTaskRequest) (err error) {
	tick := time.NewTicker(takebackPause)
	defer tick.Stop()
	disturbed, lost := false, false
	for try := range takebackTries {
		_, err = r.tasks().Create(ctx, request)
		switch err = native(err); {
		case err == nil && !disturbed:
			return nil
		case err == nil:
			// What was in the way may reach for this one too: look again.
		case isTakenBack(err, s.ID):
			disturbed = true
		case isHelperLost(err) && !lost:
			lost = true
			r.log.Warn("the OCI runtime failed before there was a process; trying again", zap.String("container", s.ID), zap.Error(err))
		case isLeftover(err):
			if cerr := r.clearLeftover(ctx, s); cerr != nil {
				return cerr
			}
		case !errdefs.IsAlreadyExists(err):
			return err
		default:
			p, gerr := r.task(ctx, s.ID)
			if gerr == nil && p.GetStatus() == tasktypes.Status_CREATED {
				return nil
			}
			if try >= takebackQuiet || (gerr == nil && p.GetStatus() == tasktypes.Status_STOPPED && disturbed) {
				// A containerd that was restarted meanwhile has a task without a
				// process, or one that never was its container's.
				r.bury(ctx, s.ID)
			}
			// Or the shim was killed and containerd is about to notice.
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return err
}

// isHelperLost says that runc's helper, which makes the namespaces, ended without
// a word before there was a process: so it does now and then on a busy host.
func isHelperLost(err error) bool {
	return strings.Contains(err.Error(), "can't get final child's PID from pipe: EOF")
}

// isTakenBack says that the bundle of an earlier Start was in the way, or that
// ours was deleted with it. containerd's errors for that have no kind.
func isTakenBack(err error, id string) bool {
	words := err.Error()
	if strings.Contains(words, "OCI runtime") {
		return false // That came to the container itself.
	}
	if strings.Contains(words, "getwd: no such file or directory") {
		return true
	}
	_, path, found := strings.Cut(words, "/io.containerd.runtime.v2.task/")
	return found && strings.Contains(path, "/"+id) &&
		(strings.Contains(path, "/"+id+": file exists") || strings.Contains(path, ": no such file or directory"))
}

package task

import (
	"time"

	"github.com/berthd/berth/runtime/container"
)

// Work is something to be done for a task. Whoever does it answers with a Fact.
//
//sumtype:decl
type Work interface{ work() }

// The work on a task as a whole.
type (
	// Persist: write the State, with the Reports called for beside it, before any
	// other work of the same answer is begun.
	Persist struct{}
	// Admit: wait until the host has room, then answer Admitted or Refused.
	Admit struct{}
	// CancelAdmit: the task does not want to be admitted any more.
	CancelAdmit struct{}
	// Prepare: make the cgroup and the network; answer Prepared or Refused. Images
	// are pulled meanwhile.
	Prepare struct{}
	// Report: tell ECS. It belongs into the transaction of Persist.
	Report struct{ Change Change }
	// ArmDrain: answer DrainDue in 10 to 30 seconds.
	ArmDrain struct{}
	// Release: give back network, ports, addresses and accounting; answer
	// Released.
	Release struct{}
	// ArmCleanup: answer CleanupDue once the task has been stopped since Since for
	// as long as stopped tasks are kept.
	ArmCleanup struct{ Since time.Time }
	// Remove: remove containers, logs and the task's cgroup; answer Removed.
	Remove struct{}
	// Forget: delete the task's record. It is the last work of a task.
	Forget struct{}
)

// The work on one container.
type (
	// Pull the image; answer Resolved on the way, then Pulled or PullFailed.
	Pull struct{ Container string }
	// CancelPull: end the pull; it answers PullFailed with Cancelled.
	CancelPull struct{ Container string }
	// Create the container; answer Created or CreateFailed.
	Create struct{ Container string }
	// Start it; answer Started or StartFailed.
	Start struct{ Container string }
	// Signal it to stop, by its stop signal or (Kill) by SIGKILL; answer
	// Signalled or SignalFailed.
	Signal struct {
		Container string
		Kill      bool
	}
	// Attend: do what goes on beside a container for as long as it runs, until
	// Leave. Probe its health by Check, if that is set, and answer HealthChanged with
	// Run whenever it differs from Health; keep its managed Agents running and answer
	// ManagedAgentChanged.
	Attend struct {
		Container string
		// Run is when the present run of the container began.
		Run    time.Time
		Check  *container.Healthcheck // Test is the command; nothing is zero.
		Health Health
		Agents []string
	}
	// Leave ends what Attend began for a container, without touching what runs
	// inside.
	Leave struct{ Container string }
	// ArmStop: answer StopTimedOut once After has passed since Since.
	ArmStop struct {
		Container string
		Since     time.Time
		After     time.Duration
	}
	// ArmStart: answer StartTimedOut once After has passed since Since.
	ArmStart struct {
		Container string
		Since     time.Time
		After     time.Duration
	}
)

func (Persist) work()     {}
func (Admit) work()       {}
func (CancelAdmit) work() {}
func (Prepare) work()     {}
func (Report) work()      {}
func (ArmDrain) work()    {}
func (Release) work()     {}
func (ArmCleanup) work()  {}
func (Remove) work()      {}
func (Forget) work()      {}
func (Pull) work()        {}
func (CancelPull) work()  {}
func (Create) work()      {}
func (Start) work()       {}
func (Signal) work()      {}
func (Attend) work()      {}
func (Leave) work()       {}
func (ArmStop) work()     {}
func (ArmStart) work()    {}

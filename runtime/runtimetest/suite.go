package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
)

// ActLabel is the label that says what a container of the suite does, for a
// Runtime that cannot run its command. Its values:
//
//	run      until a signal; SIGTERM ends it with code 143
//	exit N   at once, with code N
//	deaf     as run, but ignores SIGTERM
const ActLabel = "runtimetest.act"

// patience bounds every wait of the suite. It is long because machines that
// run tests are busy; a Runtime that works never needs it.
const patience = 30 * time.Second

// Harness is what the suite must be given to test a Runtime.
type Harness struct {
	// New makes a Runtime with no container and no image, which the harness
	// takes away with t.Cleanup.
	New func(t *testing.T) container.Runtime
	// Reopen makes another Runtime for what rt runs, as an agent that was killed
	// and started again would; nil when there is no such thing, and no test of it.
	Reopen func(t *testing.T, rt container.Runtime) container.Runtime
	// Image can be pulled and has busybox; Missing cannot be pulled because no
	// registry has it.
	Image, Missing string
	// Kernel says that containers are real processes: what they see from inside
	// is then tested too.
	Kernel bool
	// Push makes a further image. Only used with Kernel.
	Registry *Registry
	// Adjust, if set, has the last word on every Spec.
	Adjust func(*container.Spec)
}

// Run tests that the Runtime does what the contract in runtime/container says.
func Run(t *testing.T, h Harness) {
	type test struct {
		name string
		run  func(*testing.T, *bench)
	}
	tests := []test{
		{"Create", testCreate},
		{"CreateTwice", testCreateTwice},
		{"CreateWithoutImage", testCreateWithoutImage},
		{"Start", testStart},
		{"StartAtOnce", testStartAtOnce},
		{"ExitCode", testExitCode},
		{"Restart", testRestart},
		{"Signal", testSignal},
		{"SignalDeaf", testSignalDeaf},
		{"Remove", testRemove},
		{"RemoveRunning", testRemoveRunning},
		{"List", testList},
		{"Absent", testAbsent},
		{"Group", testGroup},
		{"Exec", testExec},
		{"ExecNotRunning", testExecNotRunning},
		{"ExecCancelled", testExecCancelled},
		{"ExecKept", testExecKept},
		{"Events", testEvents},
		{"Pull", testPull},
		{"PullMissing", testPullMissing},
		{"PullTogether", testPullTogether},
		{"PullCancelled", testPullCancelled},
		{"PullCached", testPullCached},
	}
	if h.Reopen != nil {
		tests = append(tests, test{"Reopen", testReopen})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newBench(t, h)) })
	}
	if h.Kernel {
		t.Run("Kernel", func(t *testing.T) { runKernel(t, h) })
	}
}

// bench is one test's Runtime.
type bench struct {
	container.Runtime

	h Harness
}

// serial makes container IDs unique on the host: cgroups and mounts are named
// by them.
//
//nolint:gochecknoglobals // one counter for every suite of the process
var serial atomic.Int64

func newBench(t *testing.T, h Harness) *bench {
	t.Helper()
	return &bench{Runtime: h.New(t), h: h}
}

func newID() string {
	return fmt.Sprintf("rt-%x-%d", time.Now().UnixNano(), serial.Add(1))
}

// spec is that of a container which acts as told; see ActLabel.
func (b *bench) spec(act string) container.Spec {
	s := container.Spec{
		ID:     newID(),
		Image:  b.h.Image,
		Labels: map[string]string{ActLabel: act, "name": "web"},
	}
	s.Group = s.ID
	var script string
	switch verb, arg, _ := strings.Cut(act, " "); verb {
	case "run":
		script = `trap 'exit 143' TERM; sleep 3600 & wait`
	case "deaf":
		script = `trap '' TERM; sleep 3600 & wait`
	case "exit":
		script = "exit " + arg
	default:
		script = act
	}
	s.Process.Command = []string{"sh", "-c", script}
	if b.h.Adjust != nil {
		b.h.Adjust(&s)
	}
	return s
}

// pull makes the suite's image present.
func (b *bench) pull(t *testing.T, ref string) container.Image {
	t.Helper()
	img, err := b.Pull(t.Context(), container.PullRequest{Ref: ref, Policy: container.PullPreferCached}, nil)
	if err != nil {
		t.Fatalf("Pull(%s): %v", ref, err)
	}
	return img
}

// create makes a container of its image, removed when the test ends.
func (b *bench) create(t *testing.T, spec container.Spec) string {
	t.Helper()
	b.pull(t, spec.Image)
	b.removeLater(t, spec.ID)
	if err := b.Create(t.Context(), spec); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return spec.ID
}

func (b *bench) removeLater(t *testing.T, id string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errPatience)
		defer cancel()
		if err := b.Remove(ctx, id); err != nil {
			t.Errorf("Remove(%s) at the test's end: %v", id, err)
		}
	})
}

// start creates and starts a container.
func (b *bench) start(t *testing.T, spec container.Spec) string {
	t.Helper()
	id := b.create(t, spec)
	if _, err := b.Start(t.Context(), id); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return id
}

// status is that of one container, which must exist.
func (b *bench) status(t *testing.T, id string) container.Status {
	t.Helper()
	all, err := b.List(t.Context(), id)
	if err != nil {
		t.Fatalf("List(%s): %v", id, err)
	}
	if len(all) != 1 || all[0].ID != id {
		t.Fatalf("List(%s) = %+v, want that container alone", id, all)
	}
	return all[0]
}

// stopped waits until the container's init has exited.
func (b *bench) stopped(t *testing.T, id string) container.Status {
	t.Helper()
	var last container.Status
	eventually(t, func() bool {
		last = b.status(t, id)
		return last.Phase == container.Stopped
	}, func() string { return fmt.Sprintf("container to stop; last: %+v", last) })
	if last.Exit == nil {
		t.Fatalf("a stopped container has no Exit: %+v", last)
	}
	return last
}

var errPatience = errors.New("the suite's patience ended")

// eventually polls until ok; what names the thing waited for.
func eventually(t *testing.T, ok func() bool, what func() string) {
	t.Helper()
	await.Nil(t, "this", func() error {
		if ok() {
			return nil
		}
		return errors.New(what())
	})
}

// wantErr fails unless err is of the kind want.
func wantErr(t *testing.T, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want an error that is %q", call, err, want)
	}
}

package ctrd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestExecWhileContainerdRestarts: a process that runs while containerd is killed
// and started again answers as if nothing had been; one whose time is over while
// containerd is away is killed all the same.
func TestExecWhileContainerdRestarts(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "execaway"))
	run(t, rt, registry, "web", "sleep 3600")

	type answer struct {
		code int
		err  error
	}
	begin := func(ctx context.Context, out *bytes.Buffer, script string) <-chan answer {
		t.Helper()
		started, answers := make(chan struct{}), make(chan answer, 1) // one answer
		go func() {
			code, err := rt.Exec(ctx, "web", container.ExecRequest{
				Args: []string{"sh", "-c", script}, Stdout: out, Started: func(bool) { close(started) },
			})
			answers <- answer{code, err}
		}()
		<-started
		return answers
	}
	var said bytes.Buffer
	first := begin(t.Context(), &said, "sleep 2; echo still here; exit 4")
	daemon.Kill()
	daemon.Start()
	if a := <-first; a.code != 4 || a.err != nil || said.String() != "still here\n" {
		t.Errorf("the exec answers %d, %v, %q; want 4 and its output", a.code, a.err, said.String())
	}

	enough := errors.New("enough of this")
	ctx, cancel := context.WithCancelCause(t.Context())
	second := begin(ctx, &said, "sleep 7400")
	daemon.Kill()
	for err := error(nil); !errors.Is(err, container.ErrUnavailable); { // The Runtime knows that it is away.
		_, err = rt.List(t.Context())
	}
	cancel(enough)
	a := <-second
	if !errors.Is(a.err, enough) {
		t.Errorf("the exec answers %v, want its context's cause", a.err)
	}
	awaitNone(t, "sleep 7400")
	daemon.Start()
	become(t, rt, "web", func(st container.Status) bool { return st.Phase == container.Running })
}

// TestSweepEndsExecs: what an agent ran in a container is ended by the next one,
// and only that.
func TestSweepEndsExecs(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "execsweep")
	dead := open(t, cfg)
	run(t, dead, registry, "web", "sleep 3600")
	started := make(chan struct{}, 2) // one for each
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	for _, req := range []container.ExecRequest{
		{Args: []string{"sh", "-c", "(setsid sleep 7501 &) ; sleep 7501"}, Stdout: new(bytes.Buffer)},
		{Args: []string{"sleep", "7502"}, Keep: "agent"},
	} {
		req.Started = func(bool) { started <- struct{}{} }
		go func() { _, _ = dead.Exec(ctx, "web", req) }() // The test ends before it does.
		<-started
	}
	// Its pipes are what the next agent finds: they are put aside from the living.
	pipes, err := filepath.Glob(filepath.Join(cfg.StateDir, "exec", "*"))
	if err != nil || len(pipes) != 1 {
		t.Fatalf("pipes: %q, %v", pipes, err)
	}
	next := open(t, cfg)
	if _, err := next.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitNone(t, "sleep 7501")
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for {
		if _, err := os.Stat(pipes[0]); errors.Is(err, os.ErrNotExist) {
			break
		}
		select {
		case <-deadline.C:
			t.Fatal("the pipes stay")
		case <-time.NewTimer(5 * time.Millisecond).C:
		}
	}
	var out bytes.Buffer
	if _, err := next.Exec(t.Context(), "web", container.ExecRequest{Args: []string{"ps", "-o", "args"}, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "7502") || !strings.Contains(got, "3600") {
		t.Errorf("what is kept, and the container's own, run on; there are:\n%s", got)
	}
}

// awaitNone waits until no process of the host has that command line.
func awaitNone(t *testing.T, command string) {
	t.Helper()
	await.That(t, "the end of "+command, func() bool {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		return !slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " ")) == command
		})
	})
}

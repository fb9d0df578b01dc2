package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
)

func testExec(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	for want, args := range [][]string{{"true"}, {"sh", "-c", "exit 1"}, {"sh", "-c", "exit 2"}} {
		got, err := b.Exec(t.Context(), id, container.ExecRequest{Args: args})
		if err != nil || got != want {
			t.Errorf("Exec(%q) = %d, %v; want %d", args, got, err, want)
		}
	}
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), id, container.ExecRequest{
		Args: []string{"cat"}, Stdin: strings.NewReader("through and back\n"), Stdout: &out,
	})
	if err != nil || code != 0 || out.String() != "through and back\n" {
		t.Errorf("Exec(cat) = %d, %v, output %q", code, err, out.String())
	}
	if st := b.status(t, id); st.Phase != container.Running {
		t.Errorf("after Exec the container is %+v", st)
	}
}

func testExecNotRunning(t *testing.T, b *bench) {
	id := b.create(t, b.spec("exit 0"))
	_, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"true"}})
	wantErr(t, "Exec before Start", err, container.ErrNotRunning)
	if _, err := b.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	_, err = b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"true"}})
	wantErr(t, "Exec after exit", err, container.ErrNotRunning)
}

func testExecCancelled(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	b.settle(t, id)
	enough := errors.New("enough of this")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, enough)
	defer cancel()
	begun := time.Now()
	_, err := b.Exec(ctx, id, container.ExecRequest{
		Args: []string{"sh", "-c", `trap '' TERM; (trap '' TERM; setsid sleep 7200) & sleep 7200`},
	})
	wantErr(t, "Exec whose context ended", err, enough)
	if took := time.Since(begun); took > patience {
		t.Errorf("Exec returned after %s", took)
	}
	if st := b.status(t, id); st.Phase != container.Running {
		t.Errorf("the container is %+v, want it to run on", st)
	}
	if !b.h.Kernel {
		return
	}
	var out bytes.Buffer
	eventually(t, func() bool {
		out.Reset()
		if _, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"ps", "-o", "args"}, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(out.String(), "7200")
	}, func() string { return "the exec's children to end; there are:\n" + out.String() })
	if !strings.Contains(out.String(), "sleep 3600") {
		t.Errorf("the container's own process was killed too:\n%s", out.String())
	}
}

func testEvents(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	events := b.Events(ctx)
	if e := next(t, events); e.Kind != container.EventResync {
		t.Fatalf("first event %+v, want resync", e)
	}
	id := b.start(t, b.spec("exit 6"))
	wanted := []container.EventKind{container.EventStarted, container.EventExited, container.EventRemoved}
	for _, want := range wanted {
		var e container.Event
		for e = next(t, events); e.ID != id && e.Kind != want; e = next(t, events) {
			t.Logf("other event: %+v", e)
		}
		if e.Kind != want || e.ID != id {
			t.Fatalf("event %+v, want %s of %s", e, want, id)
		}
		if e.At.IsZero() {
			t.Errorf("event %+v has no time", e)
		}
		if want != container.EventExited {
			continue
		}
		if e.Exit != nil && (e.Exit.Code != 6 || !e.Exit.Known) {
			t.Errorf("event's exit %+v, want code 6", e.Exit)
		}
		b.stopped(t, id)
		if err := b.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	cancel(errors.New("seen enough"))
	for range events { // until it is closed
	}
}

// next is the next event, in time.
func next(t *testing.T, events <-chan container.Event) container.Event {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the event channel was closed")
		}
		return e
	case <-timer.C:
		t.Fatal("no event in time")
	}
	return container.Event{}
}

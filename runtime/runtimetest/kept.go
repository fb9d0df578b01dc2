package runtimetest

import (
	"context"
	"errors"
	"testing"

	"github.com/berthd/berth/runtime/container"
)

// testExecKept: a kept process outlives its caller, is joined by the next one, and
// ends with its container.
func testExecKept(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	b.settle(t, id)
	const keep = "side"
	exec := func(ctx context.Context, args ...string) (joined bool, code int, err error) {
		code, err = b.Exec(ctx, id, container.ExecRequest{
			Args: args, Keep: keep, Started: func(j bool) { joined = j },
		})
		return joined, code, err
	}
	enough := errors.New("seen that it runs")
	for _, want := range []bool{false, true, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		joined := !want
		_, err := b.Exec(ctx, id, container.ExecRequest{
			Args: []string{"sleep", "7300"}, Keep: keep, Started: func(j bool) { joined = j; cancel(enough) },
		})
		wantErr(t, "Exec whose context ended", err, enough)
		if joined != want {
			t.Errorf("joined is %v, want %v", joined, want)
		}
	}
	type answer struct {
		code int
		err  error
	}
	joins := make(chan bool, 1)     // said once
	answers := make(chan answer, 1) // one answer
	go func() {
		code, err := b.Exec(t.Context(), id, container.ExecRequest{
			Args: []string{"sleep", "7300"}, Keep: keep, Started: func(j bool) { joins <- j },
		})
		answers <- answer{code, err}
	}()
	if !<-joins {
		t.Error("the process that runs was not joined")
	}
	if err := b.Signal(t.Context(), id, 9, true); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	if a := <-answers; a.err == nil && a.code != 137 {
		t.Errorf("with its container it ended with %d, want 137", a.code)
	}
	if _, err := b.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.settle(t, id)
	for range 2 { // What has ended is not in the way of the next.
		if joined, code, err := exec(t.Context(), "sh", "-c", "exit 3"); joined || code != 3 || err != nil {
			t.Errorf("a new one: joined %v, code %d, %v; want code 3", joined, code, err)
		}
	}
}

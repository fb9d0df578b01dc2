package logs

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The end of a log is waited for, and only as long as one likes.
func TestAwaitEnd(t *testing.T) {
	h := newHost(t, "0")
	dir := filepath.Join(h.root, "run")
	stdout, stderr := h.open(Container{ID: "c1"})
	short, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errStopped)
	defer cancel()
	AwaitEnd(short, dir, "c1")
	if short.Err() == nil {
		t.Error("a container that runs was taken for one whose log is at its end")
	}
	stdout.write(t, "last words\n")
	waited := make(chan struct{})
	go func() {
		AwaitEnd(t.Context(), dir, "c1")
		close(waited)
	}()
	h.exit("c1", stdout, stderr)
	<-waited
	if got := texts(h.read(ReadRequest{ID: "c1"})); !slices.Equal(got, []string{"last words\n"}) {
		t.Errorf("%q", got)
	}
	AwaitEnd(t.Context(), dir, "unknown")
	AwaitEnd(t.Context(), dir, "../c1")
}

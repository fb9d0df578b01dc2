package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/await"
)

// sink is a driver whose far end can be cut off and comes back.
type sink struct {
	mu     sync.Mutex // guards what follows
	lines  []string
	broken error
	most   int // entries taken at once; 0 is all
	closed bool
}

var _ Driver = (*sink)(nil)

func (s *sink) Write(_ context.Context, entries []Entry) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	n := len(entries)
	if s.most > 0 {
		n = min(n, s.most)
	}
	for _, e := range entries[:n] {
		s.lines = append(s.lines, string(e.Line))
	}
	return n, nil
}

func (s *sink) Mark() Mark                 { return Mark{} }
func (s *sink) Sync(context.Context) error { return nil }

func (s *sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *sink) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// lines makes entries of a hundred bytes each, numbered.
func lines(first, last int) (entries []Entry, texts []string) {
	for i := first; i <= last; i++ {
		text := fmt.Sprintf("%d%s", i, strings.Repeat(".", 100))[:99] + "\n"
		entries = append(entries, Entry{Stream: Stdout, Line: []byte(text)})
		texts = append(texts, text)
	}
	return entries, texts
}

func TestRingDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("far end is down")
		far := &sink{broken: down, most: 3}
		r := newRing(far, 10*(100+entryCost), zap.NewNop())
		entries, want := lines(1, 25)
		if n, err := r.Write(t.Context(), entries); n != 25 || err != nil {
			t.Fatal(n, err)
		}
		for _, e := range entries {
			clear(e.Line) // the ring must have its own copy
		}
		wait(t, time.Minute)
		if r.dropped.count() != 15 || len(far.got()) != 0 {
			t.Errorf("dropped %d, sent %d", r.dropped.count(), len(far.got()))
		}
		far.breakWith(nil)
		if err := r.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want[:10], far.got()); diff != "" {
			t.Error(diff)
		}
		entries, more := lines(26, 30)
		if _, err := r.Write(t.Context(), entries); err != nil {
			t.Error(err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(append(want[:10:10], more...), far.got()); diff != "" || !far.closed {
			t.Error(diff, far.closed)
		}
	})
}

func TestRingCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &sink{broken: errors.New("far end is down")}
		r := newRing(far, 1<<20, zap.NewNop())
		entries, _ := lines(1, 5)
		if _, err := r.Write(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errStopped)
		defer cancel()
		if err := r.Close(ctx); err != nil || r.dropped.count() != 5 || !far.closed {
			t.Error(err, r.dropped.count(), far.closed)
		}
	})
}

// withSink is a host in this process whose only driver, named sink, is far.
func withSink(t *testing.T, far *sink) (*Client, context.CancelFunc) {
	t.Helper()
	root, err := os.MkdirTemp("", "berth-logs-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- Run(ctx, ServerConfig{
			Socket: filepath.Join(root, "sock"), Dir: filepath.Join(root, "run"), DataDir: filepath.Join(root, "data"),
			Drivers: map[string]Factory{"sink": {
				Options: []string{"sink-address"},
				Open:    func(context.Context, DriverConfig) (Driver, error) { return far, nil },
			}},
			Ready: func() { close(ready) },
		})
	}()
	<-ready
	client := NewClient(ClientConfig{Socket: filepath.Join(root, "sock"), Dir: filepath.Join(root, "run"), DataDir: filepath.Join(root, "data")})
	stop := sync.OnceFunc(func() {
		cancel(errors.New("end of test"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		if err := errors.Join(client.Detach(), os.RemoveAll(root)); err != nil {
			t.Error(err)
		}
	})
	return client, stop
}

// While the driver fails the pipe fills and the writer waits; nothing is lost.
func TestBlockingModeWaits(t *testing.T) {
	far := &sink{broken: errors.New("far end is down")}
	client, _ := withSink(t, far)
	io, err := client.Open(t.Context(), Container{ID: "c1", Driver: "sink", Options: map[string]string{"sink-address": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	s := openShim(t, io.Stdout)
	entries, want := lines(1, 20000) // 2 MB, more than the pipe
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, e := range entries {
			if _, err := s.w.Write(e.Line); err != nil {
				t.Error(err)
			}
		}
	}()
	await.That(t, "the pipe to fill", func() bool {
		list, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Waiting > 900_000 && list[0].Failures > 0 && !list[0].StuckSince.IsZero()
	})
	select {
	case <-written:
		t.Fatal("the writer did not wait")
	default:
	}
	far.breakWith(nil)
	<-written
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if err := client.Close(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if got := far.got(); !slices.Equal(got, want) || !far.closed {
		t.Errorf("%d lines, want %d; closed %v", len(got), len(want), far.closed)
	}
}

// With mode=non-blocking the writer never waits and what is dropped is counted.
func TestNonBlockingModeDrops(t *testing.T) {
	far := &sink{broken: errors.New("far end is down")}
	client, _ := withSink(t, far)
	io, err := client.Open(t.Context(), Container{ID: "c1", Driver: "sink", Options: map[string]string{
		"mode": "non-blocking", "max-buffer-size": "100k",
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := openShim(t, io.Stdout)
	entries, want := lines(1, 20000)
	for _, e := range entries {
		s.write(t, string(e.Line))
	}
	var st Status
	await.That(t, "the pipe to be read", func() bool {
		list, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st = list[0]
		return st.Lines+st.Dropped == 20000
	})
	if kept := 100 << 10 / (100 + entryCost); st.Lines != int64(kept) {
		t.Errorf("%d kept, want %d", st.Lines, kept)
	}
	far.breakWith(nil)
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if err := client.Close(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if got := far.got(); !slices.Equal(got, want[:st.Lines]) {
		t.Errorf("%d lines sent", len(got))
	}
}

// A container whose driver is stuck can be removed, and the process can stop.
func TestStuckDriverHoldsNothingUp(t *testing.T) {
	far := &sink{broken: errors.New("far end is down")}
	client, stop := withSink(t, far)
	for _, id := range []string{"c1", "c2"} {
		io, err := client.Open(t.Context(), Container{ID: id, Driver: "sink"})
		if err != nil {
			t.Fatal(err)
		}
		s := openShim(t, io.Stdout)
		s.write(t, "never\n")
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	before := time.Now()
	if err := client.Remove(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	stop()
	if took := time.Since(before); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/runtime/backoff"
)

func TestLadder(t *testing.T) {
	l := backoff.Ladder{First: time.Second, Last: 5 * time.Second, Factor: 2, Jitter: 0.2}
	for range 2 {
		for _, n := range []int{1, 2, 4, 5, 5} {
			want := time.Duration(n) * time.Second
			if got := l.Next(); got < want || got >= want+want/5 {
				t.Errorf("got %v, want %v to %v", got, want, want+want/5)
			}
		}
		l.Reset()
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !backoff.Wait(t.Context(), time.Hour) || time.Since(start) != time.Hour {
			t.Errorf("waited %v", time.Since(start))
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, nil)
		defer cancel()
		if backoff.Wait(ctx, time.Hour) || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("waited %v", time.Since(start))
		}
		if backoff.Wait(ctx, 0) {
			t.Error("no wait at all ignored that the context had ended")
		}
	})
}

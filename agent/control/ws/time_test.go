package ws_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/runtime/backoff"
)

// timed runs one session in a bubble of time and answers how long it lasted.
func timed(t *testing.T, cfg ws.Config, script wstest.Script, handle func(*ws.Session, string)) (time.Duration, error) {
	t.Helper()
	cfg.URL = "http://service/ws"
	cfg.DialContext = wstest.Pipe(t, script)
	start := time.Now()
	end := run(t, cfg, handle)
	return time.Since(start), end
}

// within fails the test when d is not between the two.
func within(t *testing.T, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s took %v, want %v to %v", what, d, least, most)
	}
}

// TestIdle: a session without activity ends after one to two minutes, whatever
// else is received.
func TestIdle(t *testing.T) {
	for _, polite := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			received := 0
			d, end := timed(t, ws.Config{CloseWhenIdle: polite}, func(_ int, c *wstest.Conn) {
				c.Send("noise")
				code, _ := c.ClosedWithin(time.Hour)
				if want := map[bool]int{false: 1006, true: 1000}[polite]; code != want {
					t.Errorf("idle session was closed with %d, want %d", code, want)
				}
			}, func(*ws.Session, string) { received++ })
			if !errors.Is(end, ws.ErrIdle) || received != 1 {
				t.Errorf("session ended with %v after %d frames", end, received)
			}
			within(t, "being idle", d, time.Minute, 2*time.Minute)
		})
	}
}

// TestLifetime: a session that is active ends after 30 to 35 minutes with a
// close frame that says why.
func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beating := make(chan struct{})
		d, end := timed(t, ws.Config{}, func(_ int, c *wstest.Conn) {
			go func() {
				defer close(beating)
				for c.TrySend("beat") {
					backoff.Wait(t.Context(), 45*time.Second)
				}
			}()
			if code, reason := c.ClosedWithin(time.Hour); code != 1000 || reason != "ConnectionExpired: Reconnect to continue" {
				t.Errorf("session was closed with %d %q", code, reason)
			}
		}, func(s *ws.Session, _ string) { s.Active() })
		if !errors.Is(end, ws.ErrExpired) {
			t.Errorf("session ended with %v", end)
		}
		within(t, "the session", d, 30*time.Minute, 35*time.Minute)
		<-beating
	})
}

// TestDeafPeer: a peer that does not answer a close frame is not waited for long.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		d, end := timed(t, ws.Config{Lifetime: time.Second}, func(int, *wstest.Conn) { <-over }, nil)
		close(over)
		if !errors.Is(end, ws.ErrExpired) {
			t.Errorf("session ended with %v", end)
		}
		within(t, "saying goodbye", d, time.Second, 12*time.Second)
	})
}

// TestSilence: a peer that sends nothing at all for three minutes is gone, even
// if nobody asks for activity.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		d, end := timed(t, ws.Config{Activity: time.Hour}, func(int, *wstest.Conn) { <-over }, nil)
		close(over)
		if end == nil || end.Error() != "websocket: the peer sends nothing" || ws.Orderly(end) {
			t.Errorf("session ended with %v", end)
		}
		within(t, "silence", d, 3*time.Minute, 3*time.Minute)
	})
}

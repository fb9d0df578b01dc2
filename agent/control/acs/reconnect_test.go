package acs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
)

// TestReconnect: after the first connection the service need not send all
// credentials again, and an orderly end is answered soon.
func TestReconnect(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var queries, states []string
	url := wstest.Serve(t, func(n int, c *wstest.Conn) {
		queries = append(queries, c.Request.URL.Query().Get("sendCredentials"))
		heartbeat(c, "h")
		if n == 1 {
			cancel(nil)
			return
		}
		c.Close(1000, "")
	})
	w := &world{}
	err := New(Config{
		Tasks: w, Sequence: w, Cluster: "c", ContainerInstanceARN: "i",
		Service: ws.Service{
			Endpoint: func(context.Context) (string, error) { return url + "/", nil },
			Connected: func(up bool, why error) {
				states = append(states, map[bool]string{true: "up", false: "down"}[up])
				if up == (why != nil) {
					t.Errorf("connected %v, because %v", up, why)
				}
			},
		},
	}).Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("client ended with %v", err)
	}
	if got := strings.Join(queries, " ") + " " + strings.Join(states, " "); got != "true false up down up" {
		t.Errorf("sessions went %s", got)
	}
}

// TestInactive: an inactive host waits for an hour and tells TCS.
func TestInactive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var asked []time.Duration
		start := time.Now()
		dropped := 0
		w := &world{}
		err := New(Config{
			Tasks: w, Sequence: w, Inactive: func() { dropped++ },
			Service: ws.Service{Endpoint: func(context.Context) (string, error) {
				asked = append(asked, time.Since(start))
				if len(asked) == 3 {
					cancel(nil)
				}
				return "", errors.New("InactiveInstanceException: gone")
			}},
		}).Run(ctx)
		if !errors.Is(err, context.Canceled) || dropped != 2 {
			t.Errorf("client ended with %v after telling of inactivity %d times", err, dropped)
		}
		if len(asked) != 3 || asked[1] != time.Hour || asked[2] != 2*time.Hour {
			t.Errorf("asked after %v", asked)
		}
	})
}

// TestLadder: other refusals are asked again after 250 ms and longer.
func TestLadder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		last, want, calls := time.Now(), 250*time.Millisecond, 0
		w := &world{}
		_ = New(Config{Tasks: w, Sequence: w, Service: ws.Service{Endpoint: func(context.Context) (string, error) {
			if calls++; calls > 1 {
				if d := time.Since(last); d < want || d > want+want/5 {
					t.Errorf("attempt %d came after %v, want %v", calls, d, want)
				}
				want = min(want*3/2, 2*time.Minute)
			}
			if last = time.Now(); calls == 30 {
				cancel(nil)
			}
			return "", errors.New("AccessDeniedException: no")
		}}}).Run(ctx)
		if calls != 30 || want != 2*time.Minute {
			t.Errorf("%d attempts, the last after %v", calls, want)
		}
	})
}

// TestRefusedUpgrade: the service's own words reach whoever is told.
func TestRefusedUpgrade(t *testing.T) {
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"AccessDeniedException":"not you"}`))
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &world{}
	_ = New(Config{
		Tasks: w, Sequence: w,
		Service: ws.Service{
			Endpoint: func(context.Context) (string, error) { return url, nil },
			Connected: func(_ bool, why error) {
				if !strings.Contains(why.Error(), "AccessDeniedException: not you") {
					t.Errorf("connection failed with %v", why)
				}
				cancel(nil)
			},
		},
	}).Run(ctx)
}

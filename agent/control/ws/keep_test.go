package ws_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/runtime/backoff"
)

// TestKeeper: one session after another, with the waits that each end calls for.
func TestKeeper(t *testing.T) {
	base := wstest.Serve(t, func(n int, c *wstest.Conn) {
		if c.Request.URL.Path != "/ws" || c.Request.URL.RawQuery != "n="+strconv.Itoa(n+1) {
			t.Errorf("connection %d asked for %s", n, c.Request.URL)
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	over, later := errors.New("over"), errors.New("later")
	var said []string
	connections := 0
	keeper := ws.Keeper{
		Service: ws.Service{
			Endpoint: func(context.Context) (string, error) { return base + "/", nil },
			Connected: func(up bool, why error) {
				if up {
					said = append(said, "up")
				} else {
					said = append(said, why.Error())
				}
			},
		},
		Name: "test", Policy: ws.Policy{Ladder: backoff.Ladder{First: time.Millisecond, Last: time.Millisecond, Factor: 1}},
		Query: func() url.Values {
			connections++
			return url.Values{"n": {strconv.Itoa(connections)}}
		},
		Serve: func(ctx context.Context, s *ws.Session, target string) error {
			if target != base+"/ws?n="+strconv.Itoa(connections) {
				t.Errorf("connected to %s", target)
			}
			_ = s.Run(ctx, nil)
			switch connections {
			case 1:
				return later
			case 3:
				cancel(over)
			}
			return errors.New("ended")
		},
		Rest: func(end error) time.Duration {
			if errors.Is(end, later) {
				return 2 * time.Millisecond
			}
			return 0
		},
	}
	if err := keeper.Run(ctx); !errors.Is(err, over) {
		t.Errorf("the keeper ended with %v", err)
	}
	if want := []string{"up", "later", "up", "ended", "up"}; !slices.Equal(said, want) {
		t.Errorf("sessions went %q, want %q", said, want)
	}
}

// TestPolicyIdle: where an idle session is closed in good order, the next one
// follows at once.
func TestPolicyIdle(t *testing.T) {
	for polite, want := range map[bool]time.Duration{false: time.Second, true: 0} {
		p := ws.Policy{Ladder: backoff.Ladder{First: time.Second, Last: time.Second, Factor: 1}, Idle: polite}
		if got := p.After(ws.ErrIdle, time.Minute); got != want {
			t.Errorf("in good order %v: wait %v, want %v", polite, got, want)
		}
	}
}

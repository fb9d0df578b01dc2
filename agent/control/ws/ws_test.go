package ws_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/runtime/backoff"
)

// run dials and reads to the end of the session.
func run(t *testing.T, cfg ws.Config, handle func(*ws.Session, string)) error {
	t.Helper()
	s, err := ws.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s.Run(t.Context(), func(_ context.Context, frame []byte) { handle(s, string(frame)) })
}

func TestSession(t *testing.T) {
	url := wstest.Serve(t, func(_ int, c *wstest.Conn) {
		h := c.Request.Header
		if h.Get("Authorization") != "signed "+"/ws?x=a+b" || h.Get("User-Agent") != "" || h.Get("Sec-Websocket-Extensions") != "" {
			t.Errorf("upgrade came with %v", h)
		}
		c.Send("hello")
		c.Expect("you said hello")
		c.Close(1001, "bye")
	})
	sign := func(_ context.Context, u string) (http.Header, error) {
		return http.Header{"Authorization": {"signed " + strings.TrimPrefix(u, url)}}, nil
	}
	end := run(t, ws.Config{URL: url + "/ws?x=a+b", Sign: sign}, func(s *ws.Session, frame string) {
		if err := s.Send(t.Context(), []byte("you said "+frame)); err != nil {
			t.Error(err)
		}
	})
	closed, ok := errors.AsType[*ws.CloseError](end)
	if !ok || closed.Code != 1001 || closed.Reason != "bye" {
		t.Errorf("session ended with %v", end)
	}
}

func TestCutOff(t *testing.T) {
	url := wstest.Serve(t, func(int, *wstest.Conn) {})
	end := run(t, ws.Config{URL: url}, nil)
	if closed, ok := errors.AsType[*ws.CloseError](end); !ok || closed.Code != ws.CodeAbnormal {
		t.Errorf("session ended with %v", end)
	}
}

func TestPong(t *testing.T) {
	url := wstest.Serve(t, func(_ int, c *wstest.Conn) {
		if err := c.Ping(); err != nil {
			t.Errorf("no pong: %v", err)
		}
	})
	if end := run(t, ws.Config{URL: url}, nil); !ws.Orderly(end) {
		t.Errorf("session ended with %v", end)
	}
}

func TestStop(t *testing.T) {
	ready := make(chan struct{})
	url := wstest.Serve(t, func(_ int, c *wstest.Conn) {
		c.Send("hello")
		if code, _ := c.Closed(); code != 1000 {
			t.Errorf("session was closed with %d", code)
		}
	})
	why := errors.New("the agent stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-ready
		cancel(why)
	}()
	s, err := ws.Dial(ctx, ws.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	end := s.Run(ctx, func(handling context.Context, _ []byte) {
		close(ready)
		<-handling.Done()
		if !errors.Is(context.Cause(handling), why) {
			t.Errorf("handler was ended by %v", context.Cause(handling))
		}
	})
	if !errors.Is(end, why) {
		t.Errorf("session ended with %v", end)
	}
}

func TestRefusal(t *testing.T) {
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte("no: " + strings.Repeat("x", 5000)))
	}))
	known := errors.New("known")
	for _, tc := range []struct {
		refusal func([]byte) error
		want    string
	}{
		{func(body []byte) error {
			if len(body) != 1024 || !strings.HasPrefix(string(body), "no: ") {
				t.Errorf("refusal has a body of %d bytes: %.20s", len(body), body)
			}
			return known
		}, "cannot connect: known"},
		{func([]byte) error { return nil }, `cannot connect: status 400: "no: xxx`},
		{nil, `cannot connect: status 400: "no: xxx`},
	} {
		_, err := ws.Dial(t.Context(), ws.Config{URL: url, Refusal: tc.refusal})
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	bad := errors.New("no keys")
	_, err := ws.Dial(t.Context(), ws.Config{URL: url, Sign: func(context.Context, string) (http.Header, error) { return nil, bad }})
	if !errors.Is(err, bad) {
		t.Errorf("without keys: %v", err)
	}
}

func TestPolicy(t *testing.T) {
	p := ws.Policy{
		Ladder:  backoff.Ladder{First: time.Second, Last: 4 * time.Second, Factor: 2},
		Settled: time.Minute,
	}
	network := errors.New("no route to host")
	for i, step := range []struct {
		end   error
		lived time.Duration
		want  time.Duration
	}{
		{network, 0, 1 * time.Second},
		{network, 0, 2 * time.Second},
		{network, time.Second, 4 * time.Second},
		{network, time.Second, 4 * time.Second},
		{&ws.CloseError{Code: 1000}, time.Minute, 0},
		{network, 0, 1 * time.Second},
		{&ws.CloseError{Code: 1008}, 0, 2 * time.Second},
		{ws.ErrIdle, time.Minute, 1 * time.Second}, // settled
		{&ws.CloseError{Code: 1006}, time.Millisecond, 2 * time.Second},
		{&ws.CloseError{Code: 1011}, time.Second, 0},
		{ws.ErrExpired, time.Hour, 0},
	} {
		if got := p.After(step.end, step.lived); got != step.want {
			t.Errorf("step %d: after %v and %v: %v, want %v", i, step.end, step.lived, got, step.want)
		}
	}
}

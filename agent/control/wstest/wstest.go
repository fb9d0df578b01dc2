// Package wstest is a websocket service for tests: real HTTP and real
// websockets on loopback, with a script per connection. Only tests import it.
package wstest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a script waits for what it expects.
const patience = 10 * time.Second

// Conn is the service's end of one connection. Its methods fail the test.
type Conn struct {
	// Request is the upgrade.
	Request *http.Request

	t    testing.TB
	conn *websocket.Conn
}

// Script plays the service for one connection, which is cut when it returns.
// It is told which connection it is, from zero.
type Script func(n int, c *Conn)

// Serve answers upgrades at any path with script, and answers the base URL. The
// test waits for the scripts to end.
func Serve(t testing.TB, script Script) string {
	t.Helper()
	return ServeHTTP(t, handler(t, script))
}

// handler plays script for each upgrade.
func handler(t testing.TB, script Script) http.Handler {
	t.Helper()
	var mu sync.Mutex // guards n
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("cannot accept: %v", err)
			return
		}
		defer conn.CloseNow() //nolint:errcheck // It may be closed already.
		conn.SetReadLimit(-1)
		mu.Lock()
		mine := n
		n++
		mu.Unlock()
		script(mine, &Conn{Request: r, t: t, conn: conn})
	})
}

// ServeHTTP is an HTTP server on loopback that ends with the test.
func ServeHTTP(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// Send sends one text frame.
func (c *Conn) Send(frame string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, nil)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		c.t.Errorf("service cannot send %s: %v", frame, err)
	}
}

// Receive is the next frame of the agent, or "" after failing the test.
func (c *Conn) Receive() string {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, nil)
	defer cancel()
	typ, frame, err := c.conn.Read(ctx)
	if err != nil {
		c.t.Errorf("service received nothing: %v", err)
		return ""
	}
	if typ != websocket.MessageText {
		c.t.Errorf("service received a frame of type %v", typ)
	}
	return string(frame)
}

// Expect fails the test when the next frame is another one.
func (c *Conn) Expect(frame string) {
	if got := c.Receive(); got != frame {
		c.t.Errorf("service received\n     %s\nwant %s", got, frame)
	}
}

// TrySend is Send that answers false, and leaves the test alone, when the
// connection is gone.
func (c *Conn) TrySend(frame string) bool {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, nil)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, []byte(frame)) == nil
}

// Closed waits until the agent closes and answers code and reason; 1006 without
// a close frame.
func (c *Conn) Closed() (code int, reason string) { return c.ClosedWithin(patience) }

// ClosedWithin is Closed with a patience of its own.
func (c *Conn) ClosedWithin(d time.Duration) (code int, reason string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, nil)
	defer cancel()
	for {
		_, frame, err := c.conn.Read(ctx)
		if err == nil {
			c.t.Errorf("service received %s, and should have received a close", frame)
			continue
		}
		if closed, ok := errors.AsType[websocket.CloseError](err); ok {
			return int(closed.Code), closed.Reason
		}
		return int(websocket.StatusAbnormalClosure), err.Error()
	}
}

// Close sends a close frame and waits for the answer.
func (c *Conn) Close(code int, reason string) {
	_ = c.conn.Close(websocket.StatusCode(code), reason) // The agent may have gone.
}

// Ping sends a ping; the agent has to be reading to answer it.
func (c *Conn) Ping() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, nil)
	defer cancel()
	reading := c.conn.CloseRead(ctx)
	defer func() { <-reading.Done() }()
	defer c.conn.CloseNow() //nolint:errcheck // The script is at its end.
	return c.conn.Ping(ctx)
}

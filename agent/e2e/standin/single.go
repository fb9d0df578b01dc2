package standin

import (
	"net"
	"sync"
)

// single is a listener that accepts one connection, and ends with it.
type single struct {
	conn net.Conn
	done chan struct{}

	mu    sync.Mutex // guards what follows
	given bool
	ended bool
}

// Accept gives the connection, then waits for its end.
func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	first := !l.given
	l.given = true
	l.mu.Unlock()
	if first {
		return l.conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

// end says that the connection has ended.
func (l *single) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.done)
	}
}

// Close does nothing: the connection closes itself.
func (l *single) Close() error { return nil }

// Addr is the connection's.
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

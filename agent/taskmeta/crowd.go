package taskmeta

import (
	"net"
	"net/netip"
	"sync"
)

// Connections that a container, and the host with all containers in its network,
// may have open at once. One more is closed before it is heard: each costs the
// agent memory, and a container has tens of thousands of ports to come from.
const (
	mostOfContainer = 256
	mostOfHost      = 2048
)

// guardedListener accepts so many connections of an address.
type guardedListener struct {
	net.Listener

	most func(netip.Addr) int

	mu   sync.Mutex // guards open
	open map[netip.Addr]int
}

// newGuardedListener guards l. Addresses that the index does not know are the
// host's.
func newGuardedListener(l net.Listener, index *Index) *guardedListener {
	return &guardedListener{Listener: l, open: map[netip.Addr]int{}, most: func(a netip.Addr) int {
		if _, _, known := index.At(a); known {
			return mostOfContainer
		}
		return mostOfHost
	}}
}

// Accept waits for the next connection of an address that may have it.
func (g *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addrPort(conn.RemoteAddr()).Addr()
		if g.enter(from) {
			return &guardedConn{Conn: conn, leave: sync.OnceFunc(func() { g.left(from) })}, nil
		}
		_ = conn.Close() // Nothing was said.
	}
}

func (g *guardedListener) enter(from netip.Addr) bool {
	most := g.most(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[from] >= most {
		return false
	}
	g.open[from]++
	return true
}

func (g *guardedListener) left(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[from]--; g.open[from] == 0 {
		delete(g.open, from)
	}
}

// guardedConn makes room when it is closed.
type guardedConn struct {
	net.Conn

	leave func()
}

// Close closes the connection.
func (c *guardedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

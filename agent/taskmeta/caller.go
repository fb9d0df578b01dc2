package taskmeta

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/berthd/berth/agent/task"
)

// Peers finds out about the process behind a connection that came from the
// host's own network namespace. It may be used by many goroutines at once.
type Peers interface {
	// Socket looks the caller's socket up: client is its end, server ours.
	Socket(client, server netip.AddrPort) (Socket, error)
}

// errNoSocket is the error of Peers for a connection that has no end on this host.
var errNoSocket = errors.New("the kernel knows no such connection")

// Socket is a caller's end of a connection.
type Socket interface {
	// InTask says whether the socket is that of a process in the task's control
	// group.
	InTask(taskID string) (bool, error)
	// RootOutside says whether it is root's, and in no task's control group.
	RootOutside() (bool, error)
}

// caller is who is at the other end of a connection.
type caller struct {
	client, server netip.AddrPort
	peers          Peers

	once   sync.Once // looks the socket up
	socket Socket
	err    error
}

// callerKey finds the caller in a request's context.
type callerKey struct{}

// withCaller keeps the ends of a connection for those who ask who is calling.
func withCaller(peers Peers) func(ctx context.Context, conn net.Conn) context.Context {
	return func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, callerKey{}, &caller{
			client: addrPort(conn.RemoteAddr()), server: addrPort(conn.LocalAddr()), peers: peers,
		})
	}
}

// addrPort is the end of a connection; the zero value of one that is not TCP.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// callerOf is who made a request.
func callerOf(r *http.Request) *caller {
	c, ok := r.Context().Value(callerKey{}).(*caller)
	if !ok {
		return &caller{}
	}
	return c
}

// find looks the caller's socket up, once for all requests of a connection: it
// cannot change hands without the cooperation of its owner.
func (c *caller) find() (Socket, error) {
	c.once.Do(func() {
		if c.peers != nil {
			c.socket, c.err = c.peers.Socket(c.client, c.server)
		}
	})
	return c.socket, c.err
}

// belongs says whether the caller is a container of the task.
func (c *caller) belongs(s *Server, t *Task) (bool, error) {
	if who, _, known := s.cfg.Index.At(c.client.Addr()); known {
		return who.definition().ARN == t.definition().ARN, nil
	}
	socket, err := c.find()
	if errors.Is(err, errNoSocket) {
		return false, nil // It has hung up, or its address was forged.
	}
	if err != nil || socket == nil {
		return false, err
	}
	if t.definition().Network == task.NetworkHost {
		return socket.InTask(t.definition().ID)
	}
	if mountsWithRole(t.definition()) {
		return socket.RootOutside()
	}
	return false, nil
}

// mountsWithRole says whether the host mounts a file system with the task's
// role: the mount helper, root on the host, asks for the credentials as the task
// would.
func mountsWithRole(d *task.Definition) bool {
	for _, v := range d.Volumes {
		if v.EFS != nil && v.EFS.IAM {
			return true
		}
	}
	return false
}

// bucket names the caller to the limiter: by its address where that is its own,
// else by the container whose id it asks with.
func (c *caller) bucket(s *Server, metadataID string) string {
	if _, _, known := s.cfg.Index.At(c.client.Addr()); known {
		return c.client.Addr().String()
	}
	if _, _, known := s.cfg.Index.Container(metadataID); known {
		return metadataID
	}
	return "host"
}

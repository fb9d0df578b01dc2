package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/backoff"
)

const (
	// dialTimeout bounds the making of a connection to a log service.
	dialTimeout = 5 * time.Second
	// sendTimeout bounds one write to a log service that takes nothing.
	sendTimeout = 30 * time.Second
	// drainFirst to drainMost is how often a socket is asked whether the far end
	// has read everything.
	drainFirst, drainMost = 200 * time.Microsecond, 20 * time.Millisecond
)

// link is a connection to a log service, made when it is needed and made again
// when the far end has gone. It belongs to one driver, which calls it from one
// goroutine at a time.
type link struct {
	dial func(context.Context) (net.Conn, error)
	// timeout bounds a write; zero is sendTimeout.
	timeout time.Duration
	// renew, if positive, makes a connection older than that again, so that a
	// name that now leads elsewhere is followed.
	renew time.Duration

	conn net.Conn
	made time.Time
}

// open connects, unless the far end of the connection there is still stands: a
// write to one that has gone would seem to succeed, and what was written be lost.
func (l *link) open(ctx context.Context) error {
	if l.conn != nil {
		if !gone(l.conn) && (l.renew <= 0 || time.Since(l.made) < l.renew) {
			return nil
		}
		l.drop()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errors.New("no answer"))
	defer cancel()
	conn, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("cannot connect to the log service: %w", err)
	}
	l.conn, l.made = conn, time.Now()
	return nil
}

// send writes p whole. It drops the connection when that fails, or when ctx ends
// before.
func (l *link) send(ctx context.Context, p []byte) error {
	defer l.bound(ctx)()
	if _, err := l.conn.Write(p); err != nil {
		l.drop()
		return fmt.Errorf("cannot send to the log service: %w", err)
	}
	return nil
}

// bound gives the connection's next reads and writes their deadline; ctx ends
// them before it. The caller calls what it answers when they are over.
func (l *link) bound(ctx context.Context) (done func()) {
	timeout := l.timeout
	if timeout <= 0 {
		timeout = sendTimeout
	}
	conn := l.conn
	_ = conn.SetDeadline(time.Now().Add(timeout)) // fails on a closed connection only, and so will what follows
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
	}
}

// drain waits until the far end has read everything that was sent, which a unix
// socket can tell: what is still in it goes with a reader that is killed.
func (l *link) drain(ctx context.Context) error {
	wait := drainFirst
	for {
		left, err := unread(l.conn)
		if err == nil && left == 0 {
			return nil
		}
		if err == nil && !backoff.Wait(ctx, wait) {
			err = errStopped
		}
		if err != nil {
			l.drop()
			return fmt.Errorf("cannot hand over to the log service: %w", err)
		}
		wait = min(2*wait, drainMost)
	}
}

// drop closes the connection; the next open makes another.
func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close() // nothing is to be had from it
		l.conn = nil
	}
}

// dialUnix connects to a unix socket at a path of any length: the kernel takes at
// most 107 bytes, and a directory that is open can be named by fewer.
func dialUnix(ctx context.Context, path string) (conn net.Conn, err error) {
	const most = 107
	if len(path) > most {
		dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer func() { _ = dir.Close() }() // nothing was written to it
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

// raw gives access to the socket below a connection.
func raw(conn net.Conn) (syscall.RawConn, error) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("no socket")
	}
	return s.SyscallConn()
}

// gone says whether the far end has closed the connection.
func gone(conn net.Conn) bool {
	socket, err := raw(conn)
	if err != nil {
		return false
	}
	closed := false
	err = socket.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		closed = err == nil && n == 0 || err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return closed || err != nil
}

// unread is how much of what was sent is still in the socket; the error is that
// of a far end that went without reading it.
func unread(conn net.Conn) (left int, err error) {
	socket, err := raw(conn)
	if err != nil {
		return 0, err
	}
	ctlErr := socket.Control(func(fd uintptr) {
		// Asked first: a far end that goes in between leaves its error for the next.
		left, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
		if failed := pending(int(fd)); failed != nil {
			err = failed
		}
	})
	if ctlErr != nil {
		return 0, ctlErr
	}
	if err == nil && left > 0 && gone(conn) {
		err = io.ErrUnexpectedEOF
	}
	return left, err
}

// pending is the error that waits at a socket for whoever uses it next.
func pending(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

package netns

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
)

// relearnEvery is how many readings may pass until the links are listed again: one may have been renamed.
const relearnEvery = 30

// Reader reads the links of one network namespace. It is not safe for concurrent use.
type Reader struct {
	path  string
	links metrics.Links
	id    identity
	conn  conn
	known map[int32]link
	reads int
}

// identity tells one namespace from another.
type identity struct{ dev, ino uint64 }

// Open opens the namespace at path, such as /run/netns/x or /proc/1/ns/net, and counts the given links of it. It answers
// metrics.ErrGone if there is no such namespace. The caller closes the Reader.
func Open(path string, links metrics.Links) (*Reader, error) {
	id, err := identify(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	fd := -1
	err = inside(path, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	r := &Reader{path: path, links: links, id: id, conn: newConn(fd)}
	if err := r.conn.setup(); err != nil {
		r.conn.close()
		return nil, fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	return r, nil
}

// Read reads the counters. What it returns is new each time and belongs to the caller. It answers metrics.ErrGone, and lets go of
// the namespace, once the path no longer leads to it.
func (r *Reader) Read() (*metrics.Network, error) {
	id, err := identify(r.path)
	if err == nil && id != r.id {
		err = metrics.ErrGone
	}
	if err != nil {
		r.conn.close()
		return nil, fmt.Errorf("cannot read network namespace %s: %w", r.path, err)
	}
	n, err := r.read()
	if err != nil {
		return nil, fmt.Errorf("cannot read network namespace %s: %w", r.path, err)
	}
	return n, nil
}

// Close closes the socket and thereby lets go of the namespace. It may be called more than once.
func (r *Reader) Close() error {
	r.conn.close()
	return nil
}

func (r *Reader) read() (*metrics.Network, error) {
	if r.reads%relearnEvery == 0 {
		if err := r.learn(); err != nil {
			return nil, err
		}
	}
	r.reads++
	n, strangers, err := r.stats()
	if err != nil || !strangers {
		return n, err
	}
	if err := r.learn(); err != nil {
		return nil, err
	}
	n, _, err = r.stats()
	return n, err
}

// learn lists the links.
func (r *Reader) learn() error {
	known := make(map[int32]link)
	err := r.conn.dump(linkRequest(), func(kind uint16, body []byte) {
		if l, ok := parseLink(kind, body); ok {
			known[l.index] = l
		}
	})
	if err == nil {
		r.known = known
	}
	return err
}

// stats reads the counters of the links that count, and tells whether there was a link that learn has not seen.
func (r *Reader) stats() (n *metrics.Network, strangers bool, err error) {
	n = &metrics.Network{ID: r.id.ino, Interfaces: make([]metrics.Interface, 0, 1)}
	err = r.conn.dump(statsRequest(), func(kind uint16, body []byte) {
		index, traffic, ok := parseStats(kind, body)
		if !ok {
			return
		}
		l, ok := r.known[index]
		if !ok {
			strangers = true
			return
		}
		if l.counts(r.links) {
			n.Interfaces = append(n.Interfaces, metrics.Interface{Name: l.name, Traffic: traffic})
			n.Total.Add(traffic)
		}
	})
	return n, strangers, err
}

func identify(path string) (identity, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return identity{}, metrics.ErrGone
	}
	return identity{dev: st.Dev, ino: st.Ino}, err
}

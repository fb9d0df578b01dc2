package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
)

const (
	// Sizes of the fixed parts of messages, see rtnetlink(7) and linux/if_link.h.
	headerSize      = unix.SizeofNlMsghdr
	linkHeaderSize  = unix.SizeofIfInfomsg
	statsHeaderSize = 12 // struct if_stats_msg

	attrTypeMask = 0x3fff // without the bits "nested" and "network byte order"

	iflaStatsLink64   = 1 // IFLA_STATS_LINK_64
	statsLink64Filter = 1 << (iflaStatsLink64 - 1)
	skipStatsFilter   = 1 << 3 // RTEXT_FILTER_SKIP_STATS

	// bufferSize holds some thirty links at once; the kernel fits its datagrams to the buffer that it was last read with.
	bufferSize = 8 << 10
	// patience ends the wait for an answer that should be there at once.
	patience = time.Second
)

// link is what is remembered about a link.
type link struct {
	index    int32
	name     string
	kind     string // of a virtual link: veth, vlan, bridge …; empty for a device
	hardware uint16 // ARPHRD_…
	loopback bool
}

// taskLink is the name of a task's own network interface, whatever stands in for one.
const taskLink = "eth0"

// counts tells whether the link's traffic belongs to the container's.
func (l *link) counts(links metrics.Links) bool {
	if l.loopback || l.hardware != unix.ARPHRD_ETHER {
		return false
	}
	return links != metrics.DeviceLinks || l.kind == "" || l.kind == "vlan" || l.name == taskLink
}

// conn is a route netlink socket that is asked one thing at a time.
type conn struct {
	fd       int // -1 when closed
	sequence uint32
	buf      []byte
}

func newConn(fd int) conn { return conn{fd: fd} }

func (c *conn) setup() error {
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return fmt.Errorf("cannot set up netlink socket: %w", err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("cannot set up netlink socket: %w", err)
	}
	return nil
}

func (c *conn) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd) // nothing is buffered
		c.fd = -1
	}
}

// dump sends a dump request and calls each for every message of the answer.
func (c *conn) dump(request []byte, each func(kind uint16, body []byte)) error {
	if c.fd < 0 {
		return metrics.ErrGone
	}
	c.sequence++
	binary.NativeEndian.PutUint32(request[8:], c.sequence)
	if _, err := unix.Write(c.fd, request); err != nil {
		return fmt.Errorf("cannot ask for links: %w", err)
	}
	if c.buf == nil {
		c.buf = make([]byte, bufferSize)
	}
	for {
		n, err := unix.Read(c.fd, c.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot receive links: %w", err)
		}
		done, err := c.messages(c.buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// messages goes through one datagram and reports whether it was the last.
func (c *conn) messages(b []byte, each func(kind uint16, body []byte)) (done bool, err error) {
	for len(b) >= headerSize {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerSize || size > len(b) {
			return false, fmt.Errorf("cannot receive links: %w", unix.EBADMSG)
		}
		kind, sequence := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
		body := b[headerSize:size]
		b = b[min(align(size), len(b)):]
		if sequence != c.sequence {
			continue // the end of an answer that came too late
		}
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, fmt.Errorf("cannot receive links: %w", unix.EBADMSG)
			}
			number := int32(binary.NativeEndian.Uint32(body))
			return true, fmt.Errorf("cannot list links: %w", unix.Errno(-number))
		default:
			each(kind, body)
		}
	}
	return false, nil
}

// linkRequest asks for all links, without their counters.
func linkRequest() []byte {
	b := request(unix.RTM_GETLINK, linkHeaderSize+8)
	b[headerSize] = unix.AF_UNSPEC
	attr := b[headerSize+linkHeaderSize:]
	binary.NativeEndian.PutUint16(attr, 8)
	binary.NativeEndian.PutUint16(attr[2:], unix.IFLA_EXT_MASK)
	binary.NativeEndian.PutUint32(attr[4:], skipStatsFilter)
	return b
}

// statsRequest asks for the 64-bit counters of all links.
func statsRequest() []byte {
	b := request(unix.RTM_GETSTATS, statsHeaderSize)
	binary.NativeEndian.PutUint32(b[headerSize+8:], statsLink64Filter)
	return b
}

func request(kind uint16, body int) []byte {
	b := make([]byte, headerSize+body)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return b
}

// parseLink reads a struct ifinfomsg with its attributes.
func parseLink(kind uint16, body []byte) (link, bool) {
	if kind != unix.RTM_NEWLINK || len(body) < linkHeaderSize {
		return link{}, false
	}
	l := link{
		hardware: binary.NativeEndian.Uint16(body[2:]),
		index:    int32(binary.NativeEndian.Uint32(body[4:])),
		loopback: binary.NativeEndian.Uint32(body[8:])&unix.IFF_LOOPBACK != 0,
	}
	attributes(body[linkHeaderSize:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(value)
		case unix.IFLA_LINKINFO:
			attributes(value, func(kind uint16, value []byte) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = text(value)
				}
			})
		}
	})
	return l, true
}

// parseStats reads a struct if_stats_msg with its attributes.
func parseStats(kind uint16, body []byte) (index int32, t metrics.Traffic, ok bool) {
	if kind != unix.RTM_NEWSTATS || len(body) < statsHeaderSize {
		return 0, t, false
	}
	index = int32(binary.NativeEndian.Uint32(body[4:]))
	attributes(body[statsHeaderSize:], func(kind uint16, v []byte) {
		if kind != iflaStatsLink64 || len(v) < 8*8 {
			return
		}
		counter := func(i int) uint64 { return binary.NativeEndian.Uint64(v[8*i:]) }
		t = metrics.Traffic{ // the order of struct rtnl_link_stats64
			RxPackets: counter(0), TxPackets: counter(1), RxBytes: counter(2), TxBytes: counter(3),
			RxErrors: counter(4), TxErrors: counter(5), RxDropped: counter(6), TxDropped: counter(7),
		}
		ok = true
	})
	return index, t, ok
}

// attributes calls each for every attribute.
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[unix.SizeofRtAttr:size])
		b = b[min(align(size), len(b)):]
	}
}

func align(n int) int { return (n + 3) &^ 3 }

// text is a string without its final NUL.
func text(b []byte) string { return unix.ByteSliceToString(b) }

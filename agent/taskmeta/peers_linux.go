package taskmeta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HostPeers asks the kernel about callers from the host's network namespace,
// which must be that of this process.
//
// Linux says of a socket in which version 2 control group it was made, on hosts
// too where version 1 does the limiting, for container runtimes put their
// processes into both. Where it does not (version 1 alone), the processes of the
// task's version 1 control group are searched for the socket.
type HostPeers struct {
	// Unified is where the version 2 hierarchy is mounted, "" where it is not.
	// Legacy is any version 1 hierarchy that tasks are in, "" on version 2.
	Unified, Legacy string
	// Task is a task's control group, and Tasks what all of them lie in, relative
	// to the hierarchies.
	Task  func(taskID string) string
	Tasks string
	// Proc is the proc file system, /proc by default.
	Proc string
}

var _ Peers = (*HostPeers)(nil)

// metadataAddress is where containers in host network mode believe to be
// connected to: nftables leads the packets here.
func metadataAddress() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{169, 254, 170, 2}), 80)
}

// Socket looks the client's socket up.
func (p *HostPeers) Socket(client, server netip.AddrPort) (Socket, error) {
	for _, to := range []netip.AddrPort{metadataAddress(), server} {
		s, err := diagnose(client, to)
		if errors.Is(err, errNoSocket) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot look up the socket of %v: %w", client, err)
		}
		s.host = p
		return s, nil
	}
	return nil, fmt.Errorf("cannot look up the socket of %v: %w", client, errNoSocket)
}

// socket is what the kernel says of one.
type socket struct {
	host  *HostPeers
	uid   uint32
	inode uint64
	// cgroup is the id of its version 2 control group, 0 if the kernel does not
	// tell.
	cgroup uint64
}

// InTask says whether a process of the task has the socket.
func (s *socket) InTask(taskID string) (bool, error) { return s.below(s.host.Task(taskID)) }

// RootOutside says whether it is root's and no task's.
func (s *socket) RootOutside() (bool, error) {
	if s.uid != 0 {
		return false, nil
	}
	inside, err := s.below(s.host.Tasks)
	return !inside && err == nil, err
}

// below says whether the socket is of a process in a control group or below it.
func (s *socket) below(group string) (bool, error) {
	if s.host.Unified != "" && s.cgroup > rootCgroup {
		return hasCgroup(filepath.Join(s.host.Unified, group), s.cgroup)
	}
	if s.host.Legacy == "" {
		return false, nil
	}
	return s.heldBelow(filepath.Join(s.host.Legacy, group))
}

// rootCgroup is the id of the hierarchy's root. The kernel tells it also for
// sockets whose group it does not know, which are those of hosts where version 1's
// net_cls has taken the place.
const rootCgroup = 1

// hasCgroup says whether a directory, or one below it, has the id: it is the
// inode number.
func hasCgroup(dir string, id uint64) (bool, error) {
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // It has just gone, and with it those who were in it.
		}
		if err != nil || !d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil && st.Ino == id {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("cannot search control groups: %w", err)
	}
	return found, nil
}

// heldBelow says whether a process of a control group, or of one below it, has
// the socket open.
func (s *socket) heldBelow(dir string) (bool, error) {
	want := "socket:[" + strconv.FormatUint(s.inode, 10) + "]"
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // It has just gone.
		}
		if slices.ContainsFunc(strings.Fields(string(procs)), func(pid string) bool { return s.host.holds(pid, want) }) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("cannot search processes: %w", err)
	}
	return found, nil
}

// holds says whether a process has a file open that is named so.
func (p *HostPeers) holds(pid, want string) bool {
	proc := p.Proc
	if proc == "" {
		proc = "/proc"
	}
	dir := filepath.Join(proc, pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false // It has ended.
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		return err == nil && target == want
	})
}

// Of sock_diag(7), which golang.org/x/sys does not have.
const (
	diagByFamily   = 20 // SOCK_DIAG_BY_FAMILY
	diagCgroup     = 21 // INET_DIAG_CGROUP_ID
	diagRequest    = 56 // struct inet_diag_req_v2
	diagMessage    = 72 // struct inet_diag_msg
	diagUID        = 64
	diagInode      = 68
	noCookie       = 0xffffffff
	allStates      = 0xffffffff
	attributeSpace = 4
)

// diagnose asks the kernel about one TCP socket by its two ends.
func diagnose(client, server netip.AddrPort) (*socket, error) {
	if !client.Addr().Is4() || !server.Addr().Is4() {
		return nil, errNoSocket
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // Nothing can be lost.
	if err := unix.Sendto(fd, diagnosis(client, server), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("cannot ask: %w", err)
	}
	answer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer: %w", err)
	}
	return parseDiagnosis(answer[:n], client)
}

// diagnosis is the request for one socket.
func diagnosis(client, server netip.AddrPort) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	native := binary.NativeEndian
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], diagByFamily)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = unix.AF_INET, unix.IPPROTO_TCP
	native.PutUint32(r[4:], allStates)
	binary.BigEndian.PutUint16(r[8:], client.Port())
	binary.BigEndian.PutUint16(r[10:], server.Port())
	copy(r[12:], client.Addr().AsSlice())
	copy(r[28:], server.Addr().AsSlice())
	native.PutUint32(r[48:], noCookie)
	native.PutUint32(r[52:], noCookie)
	return b
}

// parseDiagnosis reads the kernel's answer. A listener, which it finds where
// there is no connection, is none.
func parseDiagnosis(b []byte, client netip.AddrPort) (*socket, error) {
	native := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr {
		return nil, errors.New("the answer is too short")
	}
	kind, body := native.Uint16(b[4:]), b[unix.SizeofNlMsghdr:]
	if kind == unix.NLMSG_ERROR && len(body) >= 4 {
		errno := unix.Errno(-int32(native.Uint32(body))) //nolint:gosec // A negative errno, by netlink(7).
		if errors.Is(errno, unix.ENOENT) {
			return nil, errNoSocket
		}
		return nil, errno
	}
	if kind != diagByFamily || len(body) < diagMessage {
		return nil, errors.New("the answer is not one about a socket")
	}
	if body[1] == tcpListen || binary.BigEndian.Uint16(body[4:]) != client.Port() {
		return nil, errNoSocket
	}
	s := &socket{uid: native.Uint32(body[diagUID:]), inode: uint64(native.Uint32(body[diagInode:]))}
	for at := body[diagMessage:]; len(at) >= attributeSpace; {
		length, what := int(native.Uint16(at)), native.Uint16(at[2:])
		if length < attributeSpace || length > len(at) {
			break
		}
		if what == diagCgroup && length >= attributeSpace+8 {
			s.cgroup = native.Uint64(at[attributeSpace:])
		}
		at = at[min(len(at), (length+3)&^3):]
	}
	return s, nil
}

// tcpListen is the state TCP_LISTEN.
const tcpListen = 10

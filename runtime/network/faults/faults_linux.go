package faults

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/fault"
)

// Config is what Faults are made of. The zero value is useful.
type Config struct {
	// Table is the name of the nftables tables, berth-faults by default.
	Table string
	// NetNS is the path of the namespace that counts as the host's; by default that of the process.
	NetNS string
	// Metadata are the addresses of the task metadata endpoint, all TCP: no black hole swallows what is sent there.
	Metadata []netip.AddrPort
}

// Faults makes faults and ends them. Its methods may be called at once; they work one after another, each for some
// milliseconds, and wait for their turn for as long as the context lets them.
type Faults struct {
	cfg Config
	// handle is that of our root queueing discipline. It tells ours from others', also from those of another Faults.
	handle uint16
	// turn has room for one: who has put something in works.
	turn chan struct{}
}

// New makes Faults. It changes nothing.
func New(c Config) *Faults {
	if c.Table == "" {
		c.Table = "berth-faults"
	}
	if c.NetNS == "" {
		c.NetNS = "/proc/self/ns/net"
	}
	// Not one that the kernel gives out by itself: those begin with 8.
	handle := uint16(0xb000 | crc32.ChecksumIEEE([]byte(c.Table))&0xfff)
	return &Faults{cfg: c, handle: handle, turn: make(chan struct{}, 1)}
}

// Start makes a fault. A black hole that is there already stays as it is; where there is latency or loss already, the
// error is a *RunningError. Any other error means that nothing was changed.
func (f *Faults) Start(ctx context.Context, at Place, what fault.Fault) error {
	err := f.within(ctx, at.NetNS, func(s *session) error {
		if what.Kind == fault.BlackholePort {
			return s.startBlackhole(at.Task, &what)
		}
		links, err := s.links(at)
		if err != nil {
			return err
		}
		return s.startImpairment(links, at.Task, &what)
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", what.Kind, err)
	}
	return nil
}

// Stop ends a fault. One that is not there is no error.
func (f *Faults) Stop(ctx context.Context, at Place, what fault.Fault) error {
	err := f.within(ctx, at.NetNS, func(s *session) error {
		if what.Kind == fault.BlackholePort {
			return s.stopBlackholes(chainOf(&what))
		}
		return s.stopImpairment(what.Kind)
	})
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", what.Kind, err)
	}
	return nil
}

// Running tells whether a fault is there, whoever has started it.
func (f *Faults) Running(ctx context.Context, at Place, what fault.Fault) (running bool, err error) {
	err = f.within(ctx, at.NetNS, func(s *session) error {
		if what.Kind == fault.BlackholePort {
			holes, err := s.chains(nftables.TableFamilyINet)
			running = holes[chainOf(&what)]
			return err
		}
		kind, err := s.impairment()
		running = kind == what.Kind
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot look for %s: %w", what.Kind, err)
	}
	return running, nil
}

// session is the work in one namespace.
type session struct {
	*Faults

	nft *nftables.Conn
	nl  *netlink.Handle
}

// sendBuffer is room for the largest transaction, in bytes: some ten thousand prefixes.
const sendBuffer = 4 << 20

// within does something in a namespace, "" being the host's, when it is its turn.
func (f *Faults) within(ctx context.Context, path string, do func(*session) error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if path == "" {
		path = f.cfg.NetNS
	} else if !bound(path) {
		return fmt.Errorf("%w: %s", fault.ErrNoNamespace, path)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("%w: %w", fault.ErrNoNamespace, err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	return f.inside(ns, do)
}

// inside opens the sockets of a namespace for as long as something is done there.
func (f *Faults) inside(ns netns.NsHandle, do func(*session) error) (err error) {
	s := &session{Faults: f}
	if s.nl, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("cannot open netlink socket: %w", err)
	}
	defer s.nl.Close()
	s.nft, err = nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting(),
		nftables.WithSockOptions(func(c *mdlayher.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return fmt.Errorf("cannot open nftables socket: %w", err)
	}
	defer func() { err = errors.Join(err, s.nft.CloseLasting()) }()
	return do(s)
}

// bound says whether a namespace is bound at a path: the file below it stays behind when it is not.
func bound(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// links are those that latency and loss are to be on.
func (s *session) links(at Place) ([]netlink.Link, error) {
	var found []netlink.Link
	if at.NetNS != "" || at.Links != nil {
		for _, name := range at.Links {
			link, err := s.nl.LinkByName(name)
			if err != nil {
				return nil, fmt.Errorf("cannot find link %s: %w", name, err)
			}
			found = append(found, link)
		}
		return found, nil
	}
	ways, err := s.defaultLinks()
	if err != nil {
		return nil, err
	}
	if len(ways) == 0 {
		return nil, fault.ErrNoLink
	}
	for _, index := range ways {
		link, err := s.nl.LinkByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("cannot find the link of a default route: %w", err)
		}
		found = append(found, link)
	}
	return found, nil
}

// defaultLinks are the indexes of the links that default routes lead through, each once.
func (s *session) defaultLinks() ([]int, error) {
	var all []int
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) {
			return s.nl.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		})
		if err != nil {
			return nil, fmt.Errorf("cannot list default routes: %w", err)
		}
		for _, r := range routes {
			if r.Type != unix.RTN_UNICAST {
				continue // It leads nowhere, which the kernel may call lo.
			}
			all = append(all, r.LinkIndex)
			for _, hop := range r.MultiPath {
				all = append(all, hop.LinkIndex)
			}
		}
	}
	slices.Sort(all)
	all = slices.DeleteFunc(all, func(index int) bool { return index == 0 }) // One with several hops.
	return slices.Compact(all), nil
}

// whole reads a list again that changed while it was read, for as often as that can be by chance.
func whole[T any](read func() ([]T, error)) (list []T, err error) {
	for range 10 {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

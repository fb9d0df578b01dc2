package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// Way is how a container is on the network.
type Way string

// The ways. FromAWSVPC is the second interface of a task with an ENI, and no ENI.
const (
	FromHost   Way = "host"
	FromBridge Way = "bridge"
	FromAWSVPC Way = "awsvpc"
)

// Dial connects as a container would.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// errSwept is why a probe says nothing: somebody took its link away, as Sync does with what belongs to no task.
var errSwept = errors.New("the link of the probe was removed")

// Probe has ask connect as a container does: from the host's namespace, or from one that is attached for it as
// containers' are, and removed again. The id and the addresses, which the caller has leased, are nobody else's. It
// returns ask's error. What a kill leaves of it is a stray to Sync.
func (n *Network) Probe(ctx context.Context, way Way, e ipam.Endpoint, ask func(Dial) error) error {
	if err := alive(ctx); err != nil {
		return err
	}
	if way == FromHost {
		return ask(dialer(n.host))
	}
	e.Ports, e.ENI = nil, nil
	if err := e.Validate(); err != nil {
		return err
	}
	if way == FromAWSVPC {
		e.ENI = &ipam.ENI{}
	}
	err := n.probe(e, ask)
	if errors.Is(err, errSwept) {
		err = n.probe(e, ask)
	}
	return err
}

func (n *Network) probe(e ipam.Endpoint, ask func(Dial) error) (err error) {
	defer func() { err = errors.Join(err, n.dropProbe(e)) }()
	ns, err := n.attachProbe(usable(e))
	if err != nil {
		return fmt.Errorf("cannot make a container's network to look from: %w", err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	if err = ask(dialer(ns)); err == nil {
		return nil
	}
	_, gone := n.nl.LinkByName(n.cfg.linkName(e.ID))
	if _, missing := errors.AsType[netlink.LinkNotFoundError](gone); missing {
		return fmt.Errorf("%w: %w", errSwept, err)
	}
	return err
}

// attachProbe attaches the endpoint, and opens its namespace.
func (n *Network) attachProbe(e ipam.Endpoint) (netns.NsHandle, error) {
	n.plan.RLock()
	defer n.plan.RUnlock()
	if e.ENI == nil {
		if err := n.attach(e); err != nil {
			return netns.None(), err
		}
	}
	ns, err := openNetNS(n.cfg.OnHost, n.NetNS(e.ID), containerSysctls(e))
	if err != nil || e.ENI == nil {
		return ns, err
	}
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return netns.None(), errors.Join(fmt.Errorf("cannot open netlink socket in the namespace: %w", err), ns.Close())
	}
	defer inside.Close()
	if err := errors.Join(n.attachSide(e, ns, inside), n.nft.publish(e)); err != nil {
		return netns.None(), errors.Join(err, ns.Close())
	}
	return ns, nil
}

// dropProbe removes what was made for a probe.
func (n *Network) dropProbe(e ipam.Endpoint) error {
	n.plan.RLock()
	defer n.plan.RUnlock()
	return errors.Join(n.nft.withdraw(e), n.unlink.remove(n.cfg.linkName(e.ID)), removeNetNS(n.cfg.OnHost, n.NetNS(e.ID)))
}

// dialer connects from a namespace. A socket stays in the one that it was made in, and a literal address is dialled by
// the goroutine that asks, which is on the thread that is there.
func dialer(ns netns.NsHandle) Dial {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if _, err := netip.ParseAddrPort(address); err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", address, err)
		}
		err = within(ns, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

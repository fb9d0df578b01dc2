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

// Attach makes a container's network: the namespace, bound at [Network.NetNS], and in it the loopback interface, eth0
// with addresses and default routes; on the host the published ports. An endpoint without addresses gets the loopback
// interface only. What is there already stays, so that Attach also repairs. After an error [Network.Detach] removes
// what was made. The errors are [ipam.ErrBadPlan], [ErrPortTaken], and the kernel's.
func (n *Network) Attach(ctx context.Context, e ipam.Endpoint) error {
	if err := alive(ctx); err != nil {
		return err
	}
	if err := e.Validate(); err != nil {
		return err
	}
	if e.ENI != nil {
		// Without holding the lock: others attach meanwhile.
		if err := n.patientlyAwait(ctx, e.ENI); err != nil {
			return fmt.Errorf("cannot attach container %s to the network: %w", e.ID, err)
		}
	}
	n.plan.RLock()
	defer n.plan.RUnlock()
	if err := n.attach(usable(e)); err != nil {
		return fmt.Errorf("cannot attach container %s to the network: %w", e.ID, err)
	}
	return nil
}

// usable is the endpoint without the address family that this kernel does not have.
func usable(e ipam.Endpoint) ipam.Endpoint {
	if e.IPv6.IsValid() && !ipv6Works() {
		e.IPv6 = netip.Addr{}
	}
	if e.ENI != nil && len(e.ENI.IPv6) > 0 && !ipv6Works() {
		eni := *e.ENI
		eni.IPv6 = nil
		e.ENI = &eni
	}
	return e
}

// patientlyAwait waits for the endpoint's ENI, and not for ever.
func (n *Network) patientlyAwait(ctx context.Context, e *ipam.ENI) error {
	late := fmt.Errorf("%w: %v did not appear within %v", ErrNoInterface, e.MAC, n.cfg.ENIPatience)
	ctx, cancel := context.WithTimeoutCause(ctx, n.cfg.ENIPatience, late)
	defer cancel()
	return n.AwaitENI(ctx, e.MAC, e.Trunk)
}

// containerSysctls is what a new namespace needs before its interface appears. Addresses are ours to give, so the kernel
// neither asks routers for more nor doubts those it gets: hairpin would bring the doubts back to it as an answer. As with
// Docker, users other than root may listen on ports below 1024 and may ping: images count on it.
func containerSysctls(e ipam.Endpoint) []string {
	const conf = "net/ipv6/conf/default/"
	set := []string{"net/ipv4/ip_unprivileged_port_start=0", "net/ipv4/ping_group_range=0 2147483647"}
	if e.ENI != nil && len(e.ENI.IPv6) > 0 {
		// The routers of the VPC may say where the default route leads.
		return append(set, "net/ipv6/conf/all/disable_ipv6=0", conf+"disable_ipv6=0", conf+"accept_dad=0", conf+"autoconf=0")
	}
	if !e.IPv6.IsValid() {
		return append(set, conf+"disable_ipv6=1")
	}
	return append(set, conf+"accept_ra=0", conf+"accept_dad=0", conf+"autoconf=0")
}

func (n *Network) attach(e ipam.Endpoint) (err error) {
	ns, err := openNetNS(n.cfg.OnHost, n.NetNS(e.ID), containerSysctls(e))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink socket in the namespace: %w", err)
	}
	defer inside.Close()
	// The loopback interface is number 1 in every namespace.
	if err := inside.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
		return fmt.Errorf("cannot bring up lo: %w", err)
	}
	if e.None() {
		return nil
	}
	if e.ENI != nil {
		return n.attachENI(e, ns, inside)
	}
	if err := n.connect(e, ns, inside); err != nil {
		return err
	}
	if err := n.configure(e, inside); err != nil {
		return err
	}
	if err := n.nft.publish(e); err != nil {
		return err
	}
	return n.forgetStale(e)
}

// cable says where the veth pair of an endpoint goes: a bridge of the host, and a name inside.
func (c *Config) cable(e ipam.Endpoint) (bridge, inner string) {
	if e.ENI != nil {
		return c.sideBridge(), sideLink
	}
	return c.Bridge, containerLink
}

// connect makes the veth pair, or finds it.
func (n *Network) connect(e ipam.Endpoint, ns netns.NsHandle, inside *netlink.Handle) error {
	bridgeName, inner := n.cfg.cable(e)
	bridge, err := n.nl.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("cannot find bridge %s: %w", bridgeName, err)
	}
	name := n.cfg.linkName(e.ID)
	outer, err := n.nl.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); err != nil && !missing {
		return fmt.Errorf("cannot look for link %s: %w", name, err)
	}
	if err == nil {
		if _, err := inside.LinkByName(inner); err == nil {
			return n.plug(outer, bridge)
		}
		// The other end is in a namespace that is no longer this container's.
		if err := n.nl.LinkDel(outer); err != nil {
			return fmt.Errorf("cannot remove stale link %s: %w", name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MTU = bridge.Attrs().MTU
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.Flags = net.FlagUp
	attrs.Alias = e.ID // shown by ip link
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: inner, PeerHardwareAddr: e.MAC[:],
		PeerNamespace: netlink.NsFd(ns), PeerMTU: uint32(attrs.MTU),
	}
	if err := n.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cannot make link %s: %w", name, err)
	}
	return n.setPort(veth, bridgeName)
}

// setPort sets what kind of port a link is. On the bridge of containers hairpin is on: with it a container reaches its
// own published port also where br_netfilter translates addresses inside the bridge. On that of second interfaces
// ports are isolated from each other: tasks have the VPC and its security groups to meet in.
func (n *Network) setPort(link netlink.Link, bridge string) error {
	set := n.nl.LinkSetHairpin
	if bridge != n.cfg.Bridge {
		set = n.nl.LinkSetIsolated
	}
	if err := set(link, true); err != nil {
		return fmt.Errorf("cannot set up link %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// plug makes sure that a link is in the bridge, as the right kind of port, and up.
func (n *Network) plug(link, bridge netlink.Link) error {
	name := link.Attrs().Name
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := n.nl.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("cannot put link %s into bridge %s: %w", name, bridge.Attrs().Name, err)
		}
	}
	if err := n.setPort(link, bridge.Attrs().Name); err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up link %s: %w", name, err)
	}
	return nil
}

// configure gives the container's end its addresses and the namespace its default routes.
func (n *Network) configure(e ipam.Endpoint, inside *netlink.Handle) error {
	link, err := inside.LinkByName(containerLink)
	if err != nil {
		return fmt.Errorf("cannot find %s in the namespace: %w", containerLink, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up %s: %w", containerLink, err)
	}
	gw4, gw6 := n.cfg.Pool.Gateway()
	for _, f := range []struct {
		addr, gateway netip.Addr
		pool          netip.Prefix
	}{{e.IPv4, gw4, n.cfg.Pool.IPv4}, {e.IPv6, gw6, n.cfg.Pool.IPv6}} {
		if !f.addr.IsValid() {
			continue
		}
		if !f.pool.Contains(f.addr) {
			return fmt.Errorf("address %v is not of the pool %v", f.addr, n.cfg.Pool)
		}
		if err := inside.AddrReplace(link, linkAddr(netip.PrefixFrom(f.addr, f.pool.Bits()))); err != nil {
			return fmt.Errorf("cannot give address %v to %s: %w", f.addr, containerLink, err)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: f.gateway.AsSlice()}
		if err := inside.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot set default route via %v: %w", f.gateway, err)
		}
	}
	return nil
}

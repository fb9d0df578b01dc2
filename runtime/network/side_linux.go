package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// sideLink is the second interface of an endpoint with an ENI: the way to the agent, which the VPC does not offer.
const sideLink = "ecs-eth0"

// sideBridge is the name of the bridge that second interfaces are plugged into.
func (c *Config) sideBridge() string {
	const suffix = "-eni"
	if len(c.Bridge)+len(suffix) < unix.IFNAMSIZ {
		return c.Bridge + suffix
	}
	return "berth" + digest(c.Bridge)[:5] + suffix
}

// ensureSide makes the bridge of the second interfaces. It is made with the first endpoint that needs it: a host without
// such has none.
func (n *Network) ensureSide() error {
	n.side.Lock()
	defer n.side.Unlock()
	name := n.cfg.sideBridge()
	link, err := n.nl.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		attrs.HardwareAddr = bridgeMAC(name) // fixed: see Network.bridge
		if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("cannot make bridge %s: %w", name, err)
		}
		link, err = n.nl.LinkByName(name)
	}
	if err != nil {
		return fmt.Errorf("cannot find bridge %s: %w", name, err)
	}
	if _, ok := link.(*netlink.Bridge); !ok {
		return fmt.Errorf("cannot use link %s: it is a %s, not a bridge", name, link.Type())
	}
	if err := within(n.host, func() error {
		return n.cfg.OnHost(func() error {
			return errors.Join(writeSysctl("net/ipv4/conf/"+name+"/route_localnet", "1"), writeSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1"))
		})
	}); err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring bridge %s up: %w", name, err)
	}
	gateway, _ := n.cfg.LinkLocal.Gateway()
	want := []netip.Prefix{netip.PrefixFrom(gateway, n.cfg.LinkLocal.IPv4.Bits())}
	if n.cfg.TMDS.Addr() == metadataAddress() {
		want = append(want, netip.PrefixFrom(metadataAddress(), 32))
	}
	for _, p := range want {
		if err := n.nl.AddrReplace(link, linkAddr(p)); err != nil {
			return fmt.Errorf("cannot give address %v to bridge %s: %w", p, name, err)
		}
	}
	return nil
}

// attachENI makes the network of an endpoint with an ENI: the second interface, then the ENI, then the redirection to
// its proxy.
func (n *Network) attachENI(e ipam.Endpoint, ns netns.NsHandle, inside *netlink.Handle) error {
	if err := n.attachSide(e, ns, inside); err != nil {
		return err
	}
	link, err := n.takeENI(e.ENI, ns, inside)
	if err != nil {
		return err
	}
	if err := n.configureENI(e, ns, inside, link); err != nil {
		return err
	}
	if e.ENI.Proxy != nil {
		if err := redirectToProxy(ns, e.ENI.Proxy); err != nil {
			return err
		}
	}
	return n.nft.publish(e)
}

// attachSide makes the second interface.
func (n *Network) attachSide(e ipam.Endpoint, ns netns.NsHandle, inside *netlink.Handle) error {
	if err := n.ensureSide(); err != nil {
		return err
	}
	if err := n.connect(e, ns, inside); err != nil {
		return err
	}
	return n.configureSide(e, ns, inside)
}

// configureSide gives the second interface its address and the namespace the few routes that lead through it. Nothing
// else does, least of all to the other endpoints: their own interfaces are how they meet.
func (n *Network) configureSide(e ipam.Endpoint, ns netns.NsHandle, inside *netlink.Handle) error {
	link, err := inside.LinkByName(sideLink)
	if err != nil {
		return fmt.Errorf("cannot find %s in the namespace: %w", sideLink, err)
	}
	if err := within(ns, func() error {
		return n.cfg.OnHost(func() error { return writeSysctl("net/ipv6/conf/"+sideLink+"/disable_ipv6", "1") })
	}); err != nil {
		return err
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up %s: %w", sideLink, err)
	}
	if err := inside.AddrReplace(link, linkAddr(netip.PrefixFrom(e.IPv4, 32))); err != nil {
		return fmt.Errorf("cannot give address %v to %s: %w", e.IPv4, sideLink, err)
	}
	gateway, _ := n.cfg.LinkLocal.Gateway()
	// The source is named: the address has link scope, so that it is chosen for nothing but these routes.
	routes := []netlink.Route{{Dst: ipNet(netip.PrefixFrom(gateway, 32)), Scope: netlink.SCOPE_LINK}}
	for _, dst := range append([]netip.Prefix{netip.PrefixFrom(metadataAddress(), 32)}, n.cfg.LocalRoutes...) {
		if dst.Addr().Is4() && dst.Masked() != netip.PrefixFrom(gateway, 32) {
			routes = append(routes, netlink.Route{Dst: ipNet(dst), Gw: gateway.AsSlice()})
		}
	}
	for _, r := range routes {
		r.LinkIndex, r.Src = link.Attrs().Index, e.IPv4.AsSlice()
		if err := inside.RouteReplace(&r); err != nil {
			return fmt.Errorf("cannot set route to %v: %w", r.Dst, err)
		}
	}
	return nil
}

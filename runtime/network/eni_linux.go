package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// Kinds of errors about network interfaces of the VPC.
var (
	// ErrNoInterface says that the host does not have the interface.
	ErrNoInterface = errors.New("network interface is not on this host")
	// ErrOwnInterface says that taking the interface would cut the host off.
	ErrOwnInterface = errors.New("network interface is the host's own way out")
)

// aliasPrefix marks an interface that was given to an endpoint; behind it stands the name that it had on the host. The
// kernel keeps it with the interface, so that whoever finds it knows what to do, whenever this process was killed.
const aliasPrefix = "berth:"

// takeENI puts an ENI into a namespace as eth0. One that is there already stays; one that was moved and not renamed is
// renamed. The interface arrives down, without addresses, with the MTU that it had.
func (n *Network) takeENI(e *ipam.ENI, ns netns.NsHandle, inside *netlink.Handle) (netlink.Link, error) {
	link, err := linkByMAC(inside, e.MAC)
	if errors.Is(err, ErrNoInterface) {
		if e.Branch() {
			err = n.makeBranch(e, ns)
		} else {
			err = n.moveIn(e.MAC, ns)
		}
		if err != nil {
			return nil, err
		}
		link, err = linkByMAC(inside, e.MAC)
	}
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(link.Attrs().Alias, aliasPrefix) {
		if err := inside.LinkSetAlias(link, aliasPrefix); err != nil {
			return nil, fmt.Errorf("cannot mark network interface %v: %w", e.MAC, err)
		}
	}
	if link.Attrs().Name == containerLink {
		return link, nil
	}
	// A kernel that moves and does not rename in one step, or one where that was cut short.
	if err := inside.LinkSetDown(link); err != nil {
		return nil, fmt.Errorf("cannot take network interface %v down: %w", e.MAC, err)
	}
	if err := inside.LinkSetName(link, containerLink); err != nil {
		return nil, fmt.Errorf("cannot name network interface %v %s: %w", e.MAC, containerLink, err)
	}
	return inside.LinkByName(containerLink)
}

// moveIn moves a link of the host into a namespace, as eth0.
func (n *Network) moveIn(mac ipam.MAC, ns netns.NsHandle) error {
	link, err := linkByMAC(n.nl, mac)
	if err != nil {
		return err
	}
	attrs := link.Attrs()
	if err := n.mayTake(attrs.Index); err != nil {
		return fmt.Errorf("cannot take link %s (%v): %w", attrs.Name, mac, err)
	}
	if err := moveLink(n.host, ns, attrs.Index, containerLink, aliasPrefix+attrs.Name); err != nil {
		return fmt.Errorf("cannot move link %s (%v) into the namespace: %w", attrs.Name, mac, err)
	}
	return nil
}

// makeBranch makes the VLAN of a branch interface on its trunk, directly in a namespace, as eth0. The trunk stays on the
// host, and must be up.
func (n *Network) makeBranch(e *ipam.ENI, ns netns.NsHandle) error {
	trunk, err := linkByMAC(n.nl, e.Trunk)
	if err != nil {
		return fmt.Errorf("cannot find the trunk of network interface %v: %w", e.MAC, err)
	}
	if err := n.nl.LinkSetUp(trunk); err != nil {
		return fmt.Errorf("cannot bring up trunk %s: %w", trunk.Attrs().Name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = containerLink
	attrs.HardwareAddr = slices.Clone(e.MAC[:])
	attrs.ParentIndex = trunk.Attrs().Index
	attrs.Namespace = netlink.NsFd(ns)
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: e.VLAN, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	if err := n.nl.LinkAdd(vlan); err != nil {
		return fmt.Errorf("cannot make VLAN %d of trunk %s: %w", e.VLAN, trunk.Attrs().Name, err)
	}
	return nil
}

// mayTake refuses the link that the host's default routes lead through: an ENI that is announced with its address would
// be the end of the host.
func (n *Network) mayTake(index int) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := routesLike(n.nl, family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil {
			return fmt.Errorf("cannot list default routes: %w", err)
		}
		best := slices.MinFunc(append(routes, netlink.Route{Priority: int(^uint32(0))}), func(a, b netlink.Route) int { return a.Priority - b.Priority })
		if best.LinkIndex == index {
			return ErrOwnInterface
		}
	}
	return nil
}

// giveBack moves every ENI in the namespace bound at a path back to the host, under the name that it had there, or
// one made of its hardware address if that name is taken meanwhile. It is down then. Branches are removed. A path
// without a namespace is no error.
func (n *Network) giveBack(path string) (err error) {
	bound, err := isNetNS(path)
	if err != nil || !bound {
		return err
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink socket in the namespace: %w", err)
	}
	defer inside.Close()
	links, err := whole(inside.LinkList)
	if err != nil {
		return fmt.Errorf("cannot list links of the namespace: %w", err)
	}
	var errs []error
	for _, link := range links {
		a := link.Attrs()
		_, marked := strings.CutPrefix(a.Alias, aliasPrefix)
		switch {
		case !marked && !standsAlone(link):
			continue
		case link.Type() == "vlan":
			if err := inside.LinkDel(link); err != nil {
				errs = append(errs, fmt.Errorf("cannot remove branch interface %v: %w", a.HardwareAddr, err))
			}
		default:
			errs = append(errs, n.moveOut(link, ns))
		}
	}
	return errors.Join(errs...)
}

// standsAlone reports whether a link of a namespace is a device of its own, which has no place there but as an ENI.
func standsAlone(link netlink.Link) bool {
	return link.Type() == "device" && link.Attrs().Flags&net.FlagLoopback == 0
}

// moveOut moves a link to the host.
func (n *Network) moveOut(link netlink.Link, from netns.NsHandle) error {
	a := link.Attrs()
	unique := "eni" + strings.ReplaceAll(a.HardwareAddr.String(), ":", "")
	names := []string{unique}
	if old := strings.TrimPrefix(a.Alias, aliasPrefix); old != "" && old != a.Alias {
		if _, err := n.nl.LinkByName(old); err != nil { // free, or not to be known
			names = []string{old, unique}
		}
	}
	var err error
	for _, name := range names {
		if err = moveLink(from, n.host, a.Index, name, ""); err == nil {
			return nil
		}
	}
	return fmt.Errorf("cannot give network interface %v back to the host: %w", a.HardwareAddr, err)
}

// moveLink moves a link from one namespace to another and gives it a name and an alias, in one request. The kernel takes
// the link down and its addresses away.
func moveLink(from, to netns.NsHandle, index int, name, alias string) error {
	return within(from, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(index)
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

// linkByMAC finds a device by its hardware address. Links that are made on top of others (bridges, VLANs) often have the
// address of what is beneath, and are passed over; a VLAN counts where it is eth0, as the branch of an endpoint.
func linkByMAC(h *netlink.Handle, mac ipam.MAC) (netlink.Link, error) {
	links, err := whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		switch l.Type() {
		case "device", "veth": // veth pairs stand in for ENIs where there is no VPC
		case "vlan":
			if a.Name != containerLink {
				continue
			}
		default:
			continue
		}
		if string(a.HardwareAddr) == string(mac[:]) {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: no link has the hardware address %v", ErrNoInterface, mac)
}

// configureENI brings the interface up with its addresses and default routes, and closes instance metadata if that is
// wanted.
func (n *Network) configureENI(e ipam.Endpoint, ns netns.NsHandle, inside *netlink.Handle, link netlink.Link) error {
	eni := e.ENI
	if err := within(ns, func() error { return n.cfg.OnHost(func() error { return eniSysctls(eni) }) }); err != nil {
		return err
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up network interface %v: %w", eni.MAC, err)
	}
	for _, p := range slices.Concat(eni.IPv4, eni.IPv6) {
		if err := inside.AddrReplace(link, linkAddr(p)); err != nil {
			return fmt.Errorf("cannot give address %v to network interface %v: %w", p, eni.MAC, err)
		}
	}
	for _, gw := range []netip.Addr{eni.GatewayIPv4, eni.GatewayIPv6} {
		if !gw.IsValid() || gw.Is6() && len(eni.IPv6) == 0 {
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}
		if !slices.ContainsFunc(slices.Concat(eni.IPv4, eni.IPv6), func(p netip.Prefix) bool { return p.Contains(gw) }) {
			route.Flags = int(netlink.FLAG_ONLINK) // such as a router's link-local address
		}
		if err := inside.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot set default route via %v: %w", gw, err)
		}
	}
	if n.cfg.BlockTaskIMDS || n.cfg.BlockIMDS && !e.AllowIMDS {
		return blockIMDS(eni, inside)
	}
	return nil
}

// eniSysctls lets the kernel learn default routes from the routers of the VPC, but no addresses, and use those that we
// give at once.
func eniSysctls(e *ipam.ENI) error {
	const conf = "net/ipv6/conf/" + containerLink + "/"
	if len(e.IPv6) == 0 {
		return writeSysctl(conf+"disable_ipv6", "1")
	}
	for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_ra", "1"}, {"accept_dad", "0"}, {"autoconf", "0"}} {
		if err := writeSysctl(conf+s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// blockIMDS closes instance metadata in a namespace.
func blockIMDS(e *ipam.ENI, inside *netlink.Handle) error {
	imds4, imds6 := imds()
	closed := []netip.Addr{imds4}
	if len(e.IPv6) > 0 {
		closed = append(closed, imds6)
	}
	for _, a := range closed {
		route := &netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: ipNet(netip.PrefixFrom(a, a.BitLen()))}
		if err := inside.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot close instance metadata %v: %w", a, err)
		}
	}
	return nil
}

// AwaitENI waits until an interface of the VPC is on this host: among its links, or with an endpoint already. For a
// branch, that is the trunk. It hears of new links from the kernel, and looks itself every 30 seconds (host §3.5). The
// error is the context's cause, or the kernel's.
func (n *Network) AwaitENI(ctx context.Context, mac, trunk ipam.MAC) error {
	wanted := mac
	if !trunk.IsZero() {
		wanted = trunk
	}
	return n.await(ctx, func() error {
		_, err := linkByMAC(n.nl, wanted)
		if errors.Is(err, ErrNoInterface) {
			return n.attachedENI(mac)
		}
		return err
	})
}

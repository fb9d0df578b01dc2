package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// Ensure makes what all containers share: bridge, addresses, kernel settings, nftables tables. It is the first call, and
// may be repeated at any time; containers that are attached do not notice. A pool that overlaps a route of the host is
// an [*ipam.OverlapError], and nothing is changed, unless the bridge has the pool already: then containers may be
// running on it, and a route that somebody added since is logged only.
func (n *Network) Ensure(ctx context.Context) error {
	if err := alive(ctx); err != nil {
		return err
	}
	n.plan.Lock()
	defer n.plan.Unlock()
	routes, err := n.routes()
	if err != nil {
		return err
	}
	if overlap := ipam.Overlaps(n.cfg.Pool, routes); overlap != nil {
		settled, err := n.settled()
		if err != nil {
			return err
		}
		if !settled {
			return overlap
		}
		n.log.Warn("a route of the host appeared that the bridge hides", zap.Error(overlap))
	}
	bridge, err := n.bridge()
	if err != nil {
		return err
	}
	// Rules stand before forwarding is switched on, so that no packet passes unguarded.
	if err := n.nft.ensure(); err != nil {
		return err
	}
	if !n.nft.guarded {
		n.log.Warn("kernel has no nftables for bridges: source addresses of containers are not checked")
	}
	if n.cfg.BlockIMDS && !n.nft.knowsTasks {
		n.log.Warn("kernel cannot tell sockets by control group (nft_socket): instance metadata stays open to tasks in host network mode")
	}
	if err := within(n.host, func() error { return n.cfg.OnHost(n.hostSysctls) }); err != nil {
		return err
	}
	return n.address(bridge)
}

// routes are the host's routes of all tables that lead elsewhere than to our bridge.
func (n *Network) routes() ([]ipam.Route, error) {
	links, err := whole(n.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := routesLike(n.nl, netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("cannot list routes: %w", err)
	}
	var out []ipam.Route
	for _, r := range list {
		if r.Dst == nil || names[r.LinkIndex] == n.cfg.Bridge {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		if !ok {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		out = append(out, ipam.Route{Prefix: netip.PrefixFrom(addr.Unmap(), ones), Device: names[r.LinkIndex]})
	}
	return out, nil
}

// bridge returns the bridge, up, and makes it first if need be. Its hardware address is fixed by its name: a bridge
// without one of its own takes that of a port, and containers' neighbour entries go stale when it changes.
func (n *Network) bridge() (*netlink.Bridge, error) {
	link, err := n.nl.LinkByName(n.cfg.Bridge)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.cfg.Bridge
		attrs.HardwareAddr = bridgeMAC(n.cfg.Bridge)
		if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("cannot make bridge %s: %w", n.cfg.Bridge, err)
		}
		link, err = n.nl.LinkByName(n.cfg.Bridge)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find bridge %s: %w", n.cfg.Bridge, err)
	}
	bridge, ok := link.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("cannot use link %s: it is a %s, not a bridge", n.cfg.Bridge, link.Type())
	}
	if mtu := n.mtu(); link.Attrs().MTU != mtu {
		if err := n.nl.LinkSetMTU(link, mtu); err != nil {
			return nil, fmt.Errorf("cannot set MTU %d of bridge %s: %w", mtu, n.cfg.Bridge, err)
		}
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("cannot bring bridge %s up: %w", n.cfg.Bridge, err)
	}
	return bridge, nil
}

// settled reports whether the bridge has a gateway address of the pool, that is, whether it was made for it.
func (n *Network) settled() (bool, error) {
	link, err := n.nl.LinkByName(n.cfg.Bridge)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot find bridge %s: %w", n.cfg.Bridge, err)
	}
	have, err := addressesOf(n.nl, link, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("cannot list addresses of bridge %s: %w", n.cfg.Bridge, err)
	}
	gw4, gw6 := n.cfg.Pool.Gateway()
	return slices.ContainsFunc(have, func(a netlink.Addr) bool {
		addr, _ := netip.AddrFromSlice(a.IP)
		return addr.Unmap() == gw4 || addr == gw6
	}), nil
}

func bridgeMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return net.HardwareAddr{0x0a, 0xbf, sum[0], sum[1], sum[2], sum[3]}
}

// mtu is the configured MTU, or that of the link with the host's default route.
func (n *Network) mtu() int {
	if n.cfg.MTU > 0 {
		return n.cfg.MTU
	}
	const ethernet = 1500
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := routesLike(n.nl, f, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil {
			continue // the other family, or the default, will do
		}
		for _, r := range routes {
			if link, err := n.nl.LinkByIndex(r.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return ethernet
}

// hostSysctls sets what the bridge needs. It runs within the host's namespace.
func (n *Network) hostSysctls() error {
	if n.cfg.Pool.IPv4.IsValid() {
		if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if err := writeSysctl("net/ipv4/conf/"+n.cfg.Bridge+"/route_localnet", "1"); err != nil {
		return err
	}
	if !n.cfg.Pool.IPv6.IsValid() {
		return nil
	}
	for key, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "0", "accept_dad": "0"} {
		if err := writeSysctl("net/ipv6/conf/"+n.cfg.Bridge+"/"+key, value); err != nil {
			return err
		}
	}
	return forwardIPv6()
}

// forwardIPv6 switches IPv6 forwarding on without losing default routes that the kernel learned from routers: an
// interface that forwards listens to them only with accept_ra=2.
func forwardIPv6() error {
	const all = "net/ipv6/conf/all/forwarding"
	switch was, err := readSysctl(all); {
	case errors.Is(err, fs.ErrNotExist): // no IPv6 in this kernel
		return nil
	case err != nil:
		return err
	case was == "1":
		return nil
	}
	links, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return fmt.Errorf("cannot list IPv6 interfaces: %w", err)
	}
	for _, l := range links {
		if l.Name() == "all" || l.Name() == "default" {
			continue
		}
		key := "net/ipv6/conf/" + l.Name() + "/accept_ra"
		if was, err := readSysctl(key); err != nil || was != "1" {
			continue // gone meanwhile, or somebody has decided
		}
		if err := writeSysctl(key, "2"); err != nil {
			return err
		}
	}
	return writeSysctl(all, "1")
}

// address gives the bridge the gateway addresses and 169.254.170.2, and takes any other from it, which a pool of earlier
// days left.
func (n *Network) address(bridge *netlink.Bridge) error {
	gw4, gw6 := n.cfg.Pool.Gateway()
	want := make(map[netip.Prefix]bool)
	if gw4.IsValid() {
		want[netip.PrefixFrom(gw4, n.cfg.Pool.IPv4.Bits())] = true
	}
	if gw6.IsValid() && ipv6Works() {
		want[netip.PrefixFrom(gw6, n.cfg.Pool.IPv6.Bits())] = true
	}
	if n.cfg.TMDS.IsValid() && !n.cfg.TMDSBeside {
		want[netip.PrefixFrom(metadataAddress(), 32)] = true
	}
	have, err := addressesOf(n.nl, bridge, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("cannot list addresses of bridge %s: %w", n.cfg.Bridge, err)
	}
	for _, a := range have {
		addr, _ := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		p := netip.PrefixFrom(addr.Unmap(), ones)
		if want[p] {
			delete(want, p)
			continue
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			continue
		}
		n.log.Info("bridge has an address that is not of the pool, removing it", zap.Stringer("address", p))
		if err := n.nl.AddrDel(bridge, &a); err != nil {
			return fmt.Errorf("cannot remove address %v of bridge %s: %w", p, n.cfg.Bridge, err)
		}
	}
	for p := range want {
		if err := n.nl.AddrReplace(bridge, linkAddr(p)); err != nil {
			return fmt.Errorf("cannot give address %v to bridge %s: %w", p, n.cfg.Bridge, err)
		}
	}
	return nil
}

// linkAddr describes an address for netlink. IPv6 ones are used at once, without asking whether somebody else has
// them: ipam has seen to that.
func linkAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if p.Addr().Is4() && p.Addr().IsLinkLocalUnicast() {
		a.Scope = unix.RT_SCOPE_LINK
	}
	return a
}

// ipv6Works reports whether the kernel has IPv6. One without has no address file.
func ipv6Works() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

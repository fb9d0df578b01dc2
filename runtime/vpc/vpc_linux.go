package vpc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// bridgeName is the name of the bridge, and of the nftables table.
const bridgeName = "berthvpc0"

// linkPrefix begins the names of the ends of interfaces that stay on the bridge.
const linkPrefix = "vpc"

// DefaultSubnet is used where nobody chooses one: it lies in none of the ranges that Berth, Docker and default VPCs use.
func DefaultSubnet() netip.Prefix { return netip.MustParsePrefix("172.28.128.0/22") }

// subnetIPv6 is the IPv6 side of every such VPC, a unique local network drawn for it.
func subnetIPv6() netip.Prefix { return netip.MustParsePrefix("fd6c:be27:7490::/64") }

// VPC is the network of this host. Its methods are safe for concurrent use.
type VPC struct {
	pool ipam.Pool
	nl   *netlink.Handle

	mu     sync.Mutex // guards what follows, and is held while links are made and removed
	leases *ipam.Leases
}

// Interface is a network interface for one task.
type Interface struct {
	// ID is made up in EC2's form (eni-…).
	ID  string
	MAC ipam.MAC
	// IPv4 and IPv6 have the prefix lengths of the subnets.
	IPv4, IPv6 netip.Prefix
	// GatewayIPv4 and GatewayIPv6 are the bridge's addresses, with the same prefix lengths.
	GatewayIPv4, GatewayIPv6 netip.Prefix
}

// New opens netlink and makes the bridge, its addresses and the translation, or finds them. Interfaces that a process
// before this one made are known again. It needs CAP_NET_ADMIN. Close ends it.
func New(subnet netip.Prefix) (*VPC, error) {
	pool := ipam.Pool{IPv4: subnet.Masked()}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		pool.IPv6 = subnetIPv6()
	}
	leases, err := ipam.New(pool)
	if err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink socket: %w", err)
	}
	v := &VPC{pool: pool, nl: nl, leases: leases}
	if err := v.ensure(); err != nil {
		nl.Close()
		return nil, err
	}
	return v, nil
}

// Close gives up the socket. The network stays: tasks go on.
func (v *VPC) Close() { v.nl.Close() }

func (v *VPC) ensure() error {
	if err := v.checkRoutes(); err != nil {
		return err
	}
	link, err := v.nl.LinkByName(bridgeName)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridgeName
		attrs.HardwareAddr = []byte{0x0a, 0xbd, 0, 0, 0, 1} // fixed: neighbours remember it
		if err := v.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("cannot make bridge %s: %w", bridgeName, err)
		}
		link, err = v.nl.LinkByName(bridgeName)
	}
	if err != nil {
		return fmt.Errorf("cannot find bridge %s: %w", bridgeName, err)
	}
	if err := v.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring bridge %s up: %w", bridgeName, err)
	}
	gw4, gw6 := v.gateways()
	for _, p := range []netip.Prefix{gw4, gw6} {
		if !p.IsValid() {
			continue
		}
		if err := v.nl.AddrReplace(link, address(p)); err != nil {
			return fmt.Errorf("cannot give address %v to bridge %s: %w", p, bridgeName, err)
		}
	}
	if err := forward(); err != nil {
		return err
	}
	if err := translate(v.pool); err != nil {
		return err
	}
	return v.remember(link.Attrs().Index)
}

// checkRoutes refuses a subnet that the host reaches elsewhere.
func (v *VPC) checkRoutes() error {
	links, err := v.nl.LinkList()
	if err != nil {
		return fmt.Errorf("cannot list links: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	routes, err := v.nl.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("cannot list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || names[r.LinkIndex] == bridgeName {
			continue
		}
		addr, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if p := netip.PrefixFrom(addr.Unmap(), bits); bits > 0 && p.Overlaps(v.pool.IPv4) {
			return fmt.Errorf("subnet %v overlaps the route to %v via %s: choose one that this host does not use", v.pool.IPv4, p, names[r.LinkIndex])
		}
	}
	return nil
}

// remember takes back the leases of the interfaces on the bridge. One whose address is not of the subnet any more is
// removed.
func (v *VPC) remember(bridge int) error {
	links, err := v.ours()
	if err != nil {
		return err
	}
	for _, l := range links {
		owner, text, _ := strings.Cut(l.Attrs().Alias, " ")
		addr, err := netip.ParseAddr(text)
		if err == nil {
			err = v.leases.Restore(owner, ipam.Addresses{IPv4: addr})
		}
		if err != nil {
			if err := v.remove(l); err != nil {
				return err
			}
			continue
		}
		if l.Attrs().MasterIndex != bridge {
			if err := v.nl.LinkSetMasterByIndex(l, bridge); err != nil {
				return fmt.Errorf("cannot put link %s into bridge %s: %w", l.Attrs().Name, bridgeName, err)
			}
		}
	}
	return nil
}

// ours are the ends of interfaces that stay with the bridge.
func (v *VPC) ours() ([]netlink.Link, error) {
	links, err := v.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool {
		name := l.Attrs().Name
		return l.Type() != "veth" || !strings.HasPrefix(name, linkPrefix) || len(name) != len(linkName(""))
	}), nil
}

// Interfaces names the owners of all interfaces.
func (v *VPC) Interfaces() ([]string, error) {
	links, err := v.ours()
	if err != nil {
		return nil, err
	}
	var owners []string
	for _, l := range links {
		// One without is being made, or what is left of one that was: New removes it.
		if owner, _, marked := strings.Cut(l.Attrs().Alias, " "); marked {
			owners = append(owners, owner)
		}
	}
	return owners, nil
}

// Attach gives the owner, whose name has no spaces, an interface on this host; it is down and without addresses, as EC2
// would attach it. An owner that has one gets the same again.
func (v *VPC) Attach(owner string) (Interface, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a, err := v.leases.Lease(owner)
	if err != nil {
		return Interface{}, err
	}
	gw4, gw6 := v.gateways()
	i := Interface{
		ID: "eni-" + digest(owner)[:17], MAC: a.MAC, IPv4: netip.PrefixFrom(a.IPv4, v.pool.IPv4.Bits()),
		GatewayIPv4: gw4, GatewayIPv6: gw6,
	}
	if a.IPv6.IsValid() {
		i.IPv6 = netip.PrefixFrom(a.IPv6, v.pool.IPv6.Bits())
	}
	if err := v.plug(owner, a); err != nil {
		v.leases.Release(owner)
		return Interface{}, err
	}
	return i, nil
}

// plug makes the veth pair of an interface.
func (v *VPC) plug(owner string, a ipam.Addresses) error {
	name := linkName(owner)
	if link, err := v.nl.LinkByName(name); err == nil {
		return v.mark(link, owner, a)
	}
	bridge, err := v.nl.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("cannot find bridge %s: %w", bridgeName, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MasterIndex = bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eni" + digest(owner)[:12], PeerHardwareAddr: a.MAC[:]}
	if err := v.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cannot make a network interface: %w", err)
	}
	if err := v.mark(veth, owner, a); err != nil {
		return errors.Join(err, v.remove(veth))
	}
	return nil
}

// mark says in the alias of an interface's end whose it is, and brings it up.
func (v *VPC) mark(link netlink.Link, owner string, a ipam.Addresses) error {
	if err := v.nl.LinkSetAlias(link, owner+" "+a.IPv4.String()); err != nil {
		return fmt.Errorf("cannot mark link %s: %w", link.Attrs().Name, err)
	}
	if err := v.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up link %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// Detach takes the owner's interface away, wherever it is by now. One that is not there is no error.
func (v *VPC) Detach(owner string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	link, err := v.nl.LinkByName(linkName(owner))
	if err == nil {
		err = v.remove(link)
	} else if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		err = nil
	}
	if err == nil {
		v.leases.Release(owner)
	}
	return err
}

func (v *VPC) remove(l netlink.Link) error {
	if err := v.nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove link %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// Remove takes the whole network away, if no interface is left, and says whether it did.
func (v *VPC) Remove() (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	links, err := v.ours()
	if err != nil || len(links) > 0 {
		return false, err
	}
	link, err := v.nl.LinkByName(bridgeName)
	if err != nil {
		return false, fmt.Errorf("cannot find bridge %s: %w", bridgeName, err)
	}
	return true, errors.Join(v.remove(link), removeTable())
}

func (v *VPC) gateways() (ipv4, ipv6 netip.Prefix) {
	gw4, gw6 := v.pool.Gateway()
	ipv4 = netip.PrefixFrom(gw4, v.pool.IPv4.Bits())
	if gw6.IsValid() {
		ipv6 = netip.PrefixFrom(gw6, v.pool.IPv6.Bits())
	}
	return ipv4, ipv6
}

func linkName(owner string) string { return linkPrefix + digest(owner)[:12] }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

package network

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// A vpc is a namespace with a bridge that has the gateway's addresses. Veth pairs between it and the host stand in for
// ENIs.
//
//	host: ens6 ═══ ens6 ── vpc0 (10.7.0.1, fd07::1) ── ens7 ═══ host: ens7
type vpc struct {
	lab *lab
	ns  netns.NsHandle
}

var (
	vpcGateway4 = netip.MustParseAddr("10.7.0.1")
	vpcGateway6 = netip.MustParseAddr("fd07::1")
)

func newVPC(tb testing.TB, l *lab) *vpc {
	tb.Helper()
	v := &vpc{lab: l, ns: l.namespace(tb, "vpc")}
	h := v.handle(tb)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "vpc0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	ok(tb, h.LinkAdd(bridge))
	ok(tb, h.LinkSetUp(bridge))
	for _, p := range []netip.Prefix{netip.PrefixFrom(vpcGateway4, 24), netip.PrefixFrom(vpcGateway6, 64)} {
		ok(tb, h.AddrAdd(bridge, linkAddr(p)))
	}
	return v
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (v *vpc) handle(tb testing.TB) *netlink.Handle {
	tb.Helper()
	h, err := netlink.NewHandleAt(v.ns, unix.NETLINK_ROUTE)
	ok(tb, err)
	tb.Cleanup(h.Close)
	return h
}

// eni attaches an interface to the host, as EC2 would: number n has the host name ensN, the address 10.7.0.N, and an MTU
// of 9001.
func (v *vpc) eni(tb testing.TB, name string, n byte) *ipam.ENI {
	tb.Helper()
	e := &ipam.ENI{
		MAC:  ipam.MAC{0x0a, 0x11, 0x22, 0x33, 0x44, n},
		IPv4: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 7, 0, n}), 24)}, GatewayIPv4: vpcGateway4,
	}
	h := v.handle(tb)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, 9001
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerHardwareAddr: e.MAC[:], PeerNamespace: netlink.NsFd(v.lab.host), PeerMTU: 9001}
	ok(tb, h.LinkAdd(veth))
	bridge, err := h.LinkByName("vpc0")
	ok(tb, err)
	ok(tb, h.LinkSetMaster(veth, bridge))
	ok(tb, h.LinkSetUp(veth))
	return e
}

// dualStack gives an ENI an IPv6 address too.
func dualStack(e *ipam.ENI, gateway netip.Addr) *ipam.ENI {
	last := e.MAC[5]
	e.IPv6 = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x07, 15: last}), 64)}
	e.GatewayIPv6 = gateway
	return e
}

// task is an endpoint with an ENI; its second interface has the address 169.254.172.N.
func (v *vpc) task(id string, e *ipam.ENI) ipam.Endpoint {
	n := e.MAC[5]
	return ipam.Endpoint{
		ID: id, ENI: e,
		Addresses: ipam.Addresses{IPv4: netip.AddrFrom4([4]byte{169, 254, 172, n}), MAC: ipam.MAC{0x0a, 0xbe, 169, 254, 172, n}},
	}
}

func (v *vpc) attached(tb testing.TB, id string, e *ipam.ENI) ipam.Endpoint {
	tb.Helper()
	endpoint := v.task(id, e)
	ok(tb, v.lab.net.Attach(tb.Context(), endpoint))
	return endpoint
}

// onHost is the host's link with an ENI's hardware address, or nil.
func (v *vpc) onHost(tb testing.TB, e *ipam.ENI) netlink.Link {
	tb.Helper()
	link, err := linkByMAC(v.lab.net.nl, e.MAC)
	if err != nil {
		return nil
	}
	return link
}

func four(e *ipam.ENI, port uint16) netip.AddrPort { return at(e.IPv4[0].Addr(), port) }
func six(e *ipam.ENI, port uint16) netip.AddrPort  { return at(e.IPv6[0].Addr(), port) }

package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// A TCP connection ends with the container, but a UDP flow has no end: as long as the client keeps sending, the kernel
// translates its packets as it did the first, even if that led nowhere. So flows are forgotten when what they should
// lead to changes.

// flowFilter decides which flows are forgotten.
type flowFilter func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool { return f(flow) }

var _ netlink.CustomConntrackFilter = flowFilter(nil)

// Listing flows takes milliseconds, more on a busy host, so it is done only for endpoints that publish UDP.

// forgetStale removes flows to the endpoint's published UDP ports that lead elsewhere.
func (n *Network) forgetStale(e ipam.Endpoint) error {
	ports := udpPorts(e)
	return n.forgetFlows(e, func(to netip.Addr, hostPort uint16) bool {
		return ports[hostPort] && to != e.IPv4 && to != e.IPv6
	})
}

// forget removes UDP flows that lead to the endpoint.
func (n *Network) forget(e ipam.Endpoint) error {
	return n.forgetFlows(e, func(to netip.Addr, _ uint16) bool { return to == e.IPv4 || to == e.IPv6 })
}

func udpPorts(e ipam.Endpoint) map[uint16]bool {
	ports := make(map[uint16]bool)
	for _, p := range e.Ports {
		for i := range p.Len() {
			if p.Protocol == ipam.UDP {
				ports[p.HostPort+uint16(i)] = true
			}
		}
	}
	return ports
}

// forgetFlows removes the UDP flows that match: where they lead to, and the port that the client sends to.
func (n *Network) forgetFlows(e ipam.Endpoint, match func(to netip.Addr, hostPort uint16) bool) error {
	if len(udpPorts(e)) == 0 {
		return nil
	}
	filter := flowFilter(func(flow *netlink.ConntrackFlow) bool {
		to, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
		return flow.Forward.Protocol == unix.IPPROTO_UDP && match(to.Unmap(), flow.Forward.DstPort)
	})
	for _, f := range []struct {
		addr   netip.Addr
		family netlink.InetFamily
	}{{e.IPv4, unix.AF_INET}, {e.IPv6, unix.AF_INET6}} {
		if !f.addr.IsValid() {
			continue
		}
		if _, err := n.nl.ConntrackDeleteFilters(netlink.ConntrackTable, f.family, filter); err != nil {
			return fmt.Errorf("cannot forget UDP flows of container %s: %w", e.ID, err)
		}
	}
	return nil
}

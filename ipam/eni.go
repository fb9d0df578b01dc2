package ipam

import (
	"fmt"
	"net/netip"
)

// ENI is a network interface of the VPC that belongs to one endpoint alone: awsvpc mode. The interface is the host's
// until the endpoint is attached, and again once it is detached.
type ENI struct {
	// MAC is how the interface is found on the host.
	MAC MAC `json:"mac"`
	// IPv4 and IPv6 are its addresses with the prefix lengths of their subnets, the primary one first.
	IPv4 []netip.Prefix `json:"ipv4,omitempty"`
	IPv6 []netip.Prefix `json:"ipv6,omitempty"`
	// GatewayIPv4 and GatewayIPv6 are the default gateways. Without one for IPv6 the routers of the VPC announce it.
	GatewayIPv4 netip.Addr `json:"gatewayIpv4,omitzero"`
	GatewayIPv6 netip.Addr `json:"gatewayIpv6,omitzero"`
	// VLAN and Trunk are set for a branch: the interface is made as VLAN of the one with the hardware address Trunk.
	VLAN  int `json:"vlan,omitempty"`
	Trunk MAC `json:"trunk,omitzero"`
	// Proxy, if set, redirects the endpoint's TCP traffic.
	Proxy *Proxy `json:"proxy,omitempty"`
}

// Proxy redirects TCP connections inside the namespace of an endpoint to a process in it, as App Mesh wants
// (host §3.7). Connections of the ignored user and group are the proxy's own.
type Proxy struct {
	IgnoredUID *uint32 `json:"ignoredUid,omitempty"`
	IgnoredGID *uint32 `json:"ignoredGid,omitempty"`
	// IngressPort takes connections from elsewhere to AppPorts, EgressPort those to anywhere but this namespace.
	IngressPort uint16   `json:"ingressPort,omitempty"`
	EgressPort  uint16   `json:"egressPort"`
	AppPorts    []uint16 `json:"appPorts,omitempty"`
	// EgressIgnoredIPs and EgressIgnoredPorts are destinations that are left alone.
	EgressIgnoredIPs   []netip.Prefix `json:"egressIgnoredIps,omitempty"`
	EgressIgnoredPorts []uint16       `json:"egressIgnoredPorts,omitempty"`
}

// maxVLAN is the highest VLAN id; 4095 is reserved.
const maxVLAN = 4094

// DefaultLinkLocal is the pool of the second interface of endpoints with an ENI, by which they reach the agent
// (host §3.4).
func DefaultLinkLocal() Pool { return Pool{IPv4: netip.MustParsePrefix("169.254.172.0/22")} }

// Branch reports whether the interface is a VLAN of a trunk.
func (e *ENI) Branch() bool { return e.VLAN != 0 }

// validate tells whether the interface can be configured. Its errors are [ErrBadPlan].
func (e *ENI) validate(id string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: container %s: %s", ErrBadPlan, id, fmt.Sprintf(format, args...))
	}
	switch {
	case e.MAC == MAC{}:
		return bad("its network interface has no hardware address")
	case len(e.IPv4) == 0 && len(e.IPv6) == 0:
		return bad("network interface %v has no address", e.MAC)
	case e.GatewayIPv4.IsValid() && !e.GatewayIPv4.Is4(), e.GatewayIPv6.IsValid() && !e.GatewayIPv6.Is6():
		return bad("network interface %v has a gateway in the other family's place", e.MAC)
	case e.VLAN < 0 || e.VLAN > maxVLAN:
		return bad("VLAN %d of network interface %v is not one from 1 to %d", e.VLAN, e.MAC, maxVLAN)
	case e.Branch() && e.Trunk == MAC{}:
		return bad("branch interface %v has no trunk", e.MAC)
	}
	for _, p := range e.IPv4 {
		if !p.IsValid() || !p.Addr().Is4() {
			return bad("%v is no IPv4 address of network interface %v", p, e.MAC)
		}
	}
	for _, p := range e.IPv6 {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
			return bad("%v is no IPv6 address of network interface %v", p, e.MAC)
		}
	}
	if e.Proxy == nil {
		return nil
	}
	if e.Proxy.EgressPort == 0 {
		return bad("its proxy has no egress port")
	}
	if len(e.Proxy.AppPorts) > 0 && e.Proxy.IngressPort == 0 {
		return bad("its proxy has application ports and no ingress port")
	}
	return nil
}

package ipam

import (
	"fmt"
	"net/netip"
)

// Route is a destination that the host can reach by an interface other than the bridge.
type Route struct {
	Prefix netip.Prefix
	Device string // interface name, for the message
}

// OverlapError says that the pool would hide a network that the host uses already.
type OverlapError struct {
	Pool  netip.Prefix
	Route Route
}

// Error names the route, and the setting that helps.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("bridge subnet %v overlaps the route to %v via %s: set BERTH_BRIDGE_SUBNET to a range that this host does not use",
		e.Pool, e.Route.Prefix, e.Route.Device)
}

// Overlaps returns an [*OverlapError] for the first route that shares addresses with the pool. Default routes are
// ignored, since the bridge's own route is more specific; so are link-local and multicast ones.
func Overlaps(pool Pool, routes []Route) error {
	for _, r := range routes {
		dst := r.Prefix
		if !dst.IsValid() || dst.Bits() == 0 || dst.Addr().IsMulticast() || dst.Addr().IsLinkLocalUnicast() {
			continue
		}
		for _, p := range []netip.Prefix{pool.IPv4, pool.IPv6} {
			if p.IsValid() && p.Overlaps(dst) {
				return &OverlapError{Pool: p, Route: r}
			}
		}
	}
	return nil
}

// String returns the prefixes, as in 172.29.0.0/20 and fdb7:2e74:be27::/64.
func (p Pool) String() string {
	switch {
	case !p.IPv6.IsValid():
		return p.IPv4.String()
	case !p.IPv4.IsValid():
		return p.IPv6.String()
	}
	return fmt.Sprintf("%v and %v", p.IPv4, p.IPv6)
}

package ports

import (
	"net/netip"

	"github.com/berthd/berth/ipam"
)

// Binding is a published port as ECS is told of it (control-plane §6.2): one for each address that it is bound on.
type Binding struct {
	BindIP netip.Addr // 0.0.0.0 or ::
	ipam.Publish
}

// IsRange reports whether the range form is used on the wire instead of the plain one.
func (b Binding) IsRange() bool { return b.Count > 0 }

// Families selects the address families that are reported. By default ECS_EXCLUDE_IPV6_PORTBINDING leaves IPv6 out,
// and an IPv6-only host leaves IPv4 out (host §3.2).
type Families struct{ IPv4, IPv6 bool }

// Bindings lists what the leases are bound to, in their order, IPv4 before IPv6.
func Bindings(leases []ipam.Publish, f Families) []Binding {
	out := make([]Binding, 0, 2*len(leases))
	for _, p := range leases {
		if f.IPv4 {
			out = append(out, Binding{BindIP: netip.IPv4Unspecified(), Publish: p})
		}
		if f.IPv6 {
			out = append(out, Binding{BindIP: netip.IPv6Unspecified(), Publish: p})
		}
	}
	return out
}

package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Offsets in a pool: 0 names the network, 1 is the gateway, containers come after it.
const (
	gatewayOffset = 1
	firstOffset   = 2

	// maxOffset bounds the pool for IPv6, whose /64 is larger than any host. A Linux bridge takes 1,024 ports.
	maxOffset = 1<<20 - 1
)

// ErrBadPool is the kind of error for a pool that cannot serve.
var ErrBadPool = errors.New("bad address pool")

// Pool is the address range of a bridge. Either family may be absent (the zero prefix), but not both. The gateway,
// which is the bridge itself, has the first usable address of each.
type Pool struct {
	IPv4 netip.Prefix `json:"ipv4,omitzero"`
	IPv6 netip.Prefix `json:"ipv6,omitzero"`
}

// DefaultPool is used unless BERTH_BRIDGE_SUBNET says otherwise: 172.29.0.0/20, which lies neither in the default VPC
// (172.31.0.0/16) nor in Docker's first networks (172.17.0.0/16 upwards), and a unique local /64 drawn for Berth.
func DefaultPool() Pool {
	return Pool{
		IPv4: netip.MustParsePrefix("172.29.0.0/20"),
		IPv6: netip.MustParsePrefix("fdb7:2e74:be27::/64"),
	}
}

// Validate tells whether the pool can serve: right families, masked, and room for at least one container. Its errors
// are [ErrBadPool].
func (p Pool) Validate() error {
	if !p.IPv4.IsValid() && !p.IPv6.IsValid() {
		return fmt.Errorf("%w: it has neither an IPv4 nor an IPv6 prefix", ErrBadPool)
	}
	if p.IPv4.IsValid() {
		if err := validPrefix(p.IPv4, p.IPv4.Addr().Is4(), 29); err != nil {
			return err
		}
	}
	if p.IPv6.IsValid() {
		if err := validPrefix(p.IPv6, p.IPv6.Addr().Is6() && !p.IPv6.Addr().Is4In6(), 112); err != nil {
			return err
		}
	}
	return nil
}

func validPrefix(p netip.Prefix, family bool, longest int) error {
	switch {
	case !family:
		return fmt.Errorf("%w: %v is of the wrong address family", ErrBadPool, p)
	case p != p.Masked():
		return fmt.Errorf("%w: %v has host bits set, write %v", ErrBadPool, p, p.Masked())
	case p.Bits() > longest:
		return fmt.Errorf("%w: %v is too small, /%d is the smallest", ErrBadPool, p, longest)
	case p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsUnspecified():
		return fmt.Errorf("%w: containers cannot have addresses of %v", ErrBadPool, p)
	}
	return nil
}

// Gateway returns the bridge's own addresses. An address of an absent family is the zero [netip.Addr].
func (p Pool) Gateway() (ipv4, ipv6 netip.Addr) {
	a := p.at(gatewayOffset)
	return a.IPv4, a.IPv6
}

// Capacity is how many containers the pool can serve at once.
func (p Pool) Capacity() int { return int(p.lastOffset() - firstOffset + 1) }

// lastOffset is the highest offset a container may have: below the broadcast address of IPv4.
func (p Pool) lastOffset() uint32 {
	last := uint32(maxOffset)
	if p.IPv4.IsValid() {
		if host := 32 - p.IPv4.Bits(); host < 20 {
			last = min(last, uint32(1)<<host-2)
		}
	}
	if p.IPv6.IsValid() {
		if host := 128 - p.IPv6.Bits(); host < 20 {
			last = min(last, uint32(1)<<host-1)
		}
	}
	return last
}

// at returns what belongs to an offset.
func (p Pool) at(offset uint32) Addresses {
	var a Addresses
	mac := offset
	if p.IPv6.IsValid() {
		b := p.IPv6.Addr().As16()
		low := binary.BigEndian.Uint32(b[12:]) + offset
		binary.BigEndian.PutUint32(b[12:], low)
		a.IPv6 = netip.AddrFrom16(b)
		mac = low
	}
	if p.IPv4.IsValid() {
		b := p.IPv4.Addr().As4()
		low := binary.BigEndian.Uint32(b[:]) + offset
		binary.BigEndian.PutUint32(b[:], low)
		a.IPv4 = netip.AddrFrom4(b)
		mac = low
	}
	// 0x0a: locally administered, unicast. The rest follows the address, so that a neighbour's cached entry for a
	// reused address is never wrong.
	a.MAC = MAC{0x0a, 0xbe}
	binary.BigEndian.PutUint32(a.MAC[2:], mac)
	return a
}

// offsetOf is the inverse of at; it is false for an address outside of the pool or one that no container may have.
func (p Pool) offsetOf(a netip.Addr) (uint32, bool) {
	prefix := p.IPv4
	if a.Is6() {
		prefix = p.IPv6
	}
	if !prefix.IsValid() || !prefix.Contains(a) {
		return 0, false
	}
	low := func(a netip.Addr) uint32 {
		b := a.As16()
		return binary.BigEndian.Uint32(b[12:])
	}
	offset := low(a) - low(prefix.Addr())
	if offset < firstOffset || offset > p.lastOffset() {
		return 0, false
	}
	if at := p.at(offset); at.IPv4 != a && at.IPv6 != a {
		return 0, false
	}
	return offset, true
}

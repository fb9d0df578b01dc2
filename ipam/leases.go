package ipam

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Kinds of errors of [Leases].
var (
	// ErrExhausted says that every address of the pool is leased.
	ErrExhausted = errors.New("address pool is exhausted")
	// ErrConflict says that a lease to restore belongs to another container already.
	ErrConflict = errors.New("address is leased to another container")
	// ErrOutside says that a lease to restore is not of this pool, as after a change of BERTH_BRIDGE_SUBNET.
	ErrOutside = errors.New("address is not of the pool")
)

// MAC is an Ethernet hardware address. Its text form, also in JSON, is the usual one with colons.
type MAC [6]byte

// String returns the form 0a:be:ac:1d:00:02.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText returns the form of [MAC.String].
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the form of [MAC.String].
func (m *MAC) UnmarshalText(text []byte) error {
	hw, err := net.ParseMAC(string(text))
	if err != nil {
		return fmt.Errorf("cannot read hardware address: %w", err)
	}
	if len(hw) != len(m) {
		return fmt.Errorf("cannot read hardware address: %s has %d bytes, want %d", hex.EncodeToString(hw), len(hw), len(m))
	}
	copy(m[:], hw)
	return nil
}

// Addresses are what one container has on the bridge. An absent family is the zero [netip.Addr].
type Addresses struct {
	IPv4 netip.Addr `json:"ipv4,omitzero"`
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	MAC  MAC        `json:"mac,omitzero"`
}

// None reports whether there are no addresses, as for a container with network mode none.
func (a Addresses) None() bool { return !a.IPv4.IsValid() && !a.IPv6.IsValid() }

// Leases knows which container has which addresses of a pool. It is safe for concurrent use; nothing in it blocks.
type Leases struct {
	pool Pool

	mu   sync.Mutex        // guards the fields below
	last uint32            // the offset given last; the search goes on after it, so that addresses rest before reuse
	byID map[string]uint32 // container id → offset
	byAt map[uint32]string // offset → container id
}

// New makes an empty set of leases over a pool. The error is [ErrBadPool].
func New(pool Pool) (*Leases, error) {
	if err := pool.Validate(); err != nil {
		return nil, err
	}
	return &Leases{
		pool: pool,
		last: firstOffset - 1,
		byID: make(map[string]uint32),
		byAt: make(map[uint32]string),
	}, nil
}

// Pool returns the pool that is leased from.
func (l *Leases) Pool() Pool { return l.pool }

// Lease gives the container its addresses: the lowest free ones after those given last. A container that has a lease
// gets the same again. The error is [ErrExhausted].
func (l *Leases) Lease(id string) (Addresses, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset, ok := l.byID[id]; ok {
		return l.pool.at(offset), nil
	}
	end := l.pool.lastOffset()
	size := end - firstOffset + 1
	for i := range size {
		// last may be firstOffset-1, hence +1 before the modulo.
		offset := firstOffset + (l.last+1-firstOffset+i)%size
		if _, taken := l.byAt[offset]; !taken {
			l.take(id, offset)
			return l.pool.at(offset), nil
		}
	}
	return Addresses{}, fmt.Errorf("cannot lease an address for container %s: %w: all %d of %v are in use", id, ErrExhausted, size, l.pool)
}

// Restore puts a lease back as it was given before the agent was restarted. The errors are [ErrConflict], if the
// container or the addresses are leased differently, and [ErrOutside]; the set is then unchanged.
func (l *Leases) Restore(id string, a Addresses) error {
	addr := a.IPv4
	if !addr.IsValid() {
		addr = a.IPv6
	}
	offset, ok := l.pool.offsetOf(addr)
	if !ok {
		return fmt.Errorf("cannot restore lease of container %s: %w: %v is not a container's address in %v", id, ErrOutside, addr, l.pool)
	}
	if a.IPv4.IsValid() && a.IPv6.IsValid() && l.pool.IPv6.IsValid() && l.pool.at(offset).IPv6 != a.IPv6 {
		return fmt.Errorf("cannot restore lease of container %s: %w: %v does not go with %v in %v", id, ErrOutside, a.IPv6, a.IPv4, l.pool)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if owner, taken := l.byAt[offset]; taken && owner != id {
		return fmt.Errorf("cannot restore lease of container %s: %w: container %s has %v", id, ErrConflict, owner, addr)
	}
	if has, leased := l.byID[id]; leased && has != offset {
		return fmt.Errorf("cannot restore lease of container %s: %w: it has %v already, not %v", id, ErrConflict, l.pool.at(has).IPv4, addr)
	}
	l.take(id, offset)
	return nil
}

// Release frees the container's addresses. Releasing what is not leased does nothing.
func (l *Leases) Release(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset, ok := l.byID[id]; ok {
		delete(l.byID, id)
		delete(l.byAt, offset)
	}
}

// Owner returns the container that has an address. It is how the metadata endpoint knows its caller.
func (l *Leases) Owner(addr netip.Addr) (id string, ok bool) {
	offset, ok := l.pool.offsetOf(addr.Unmap())
	if !ok {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id, ok = l.byAt[offset]
	return id, ok
}

// Len is how many leases there are.
func (l *Leases) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byID)
}

func (l *Leases) take(id string, offset uint32) {
	l.byID[id] = offset
	l.byAt[offset] = id
	l.last = offset
}

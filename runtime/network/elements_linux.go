package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// chunk is how many elements go into one netlink message: the length of an attribute has 16 bits.
const chunk = 256

// element is a member of one of the sets as the kernel has it: bytes, each item padded to 4.
type element struct {
	set      *nftables.Set
	key, val string // strings, so that elements can be compared and be keys of a map
}

// String names a published port for people, or the set.
func (e element) String() string {
	if !e.set.IsMap {
		return e.set.Name
	}
	protocol := ipam.TCP
	if e.key[0] == unix.IPPROTO_UDP {
		protocol = ipam.UDP
	}
	return fmt.Sprintf("%s %d/%s", e.set.Name, binary.BigEndian.Uint16([]byte(e.key[4:6])), protocol)
}

// elements are what the sets must contain for an endpoint.
func (f *firewall) elements(e ipam.Endpoint) []element {
	var out []element
	if f.guarded && !e.None() {
		out = append(out, element{set: f.sets.macs, key: macKey(f.cfg.linkName(e.ID), e.MAC)})
	}
	for _, v := range []struct {
		addr                  netip.Addr
		publish, imds, source *nftables.Set
	}{
		{e.IPv4, f.sets.publish4, f.sets.imds4, f.sets.source4},
		{e.IPv6, f.sets.publish6, f.sets.imds6, f.sets.source6},
	} {
		if !v.addr.IsValid() {
			continue
		}
		for _, p := range e.Ports {
			for i := range p.Len() {
				out = append(out, publishElement(v.publish, p, i, v.addr))
			}
		}
		if e.AllowIMDS && e.ENI == nil {
			out = append(out, element{set: v.imds, key: string(v.addr.AsSlice())})
		}
		if f.guarded {
			out = append(out, element{set: v.source, key: sourceKey(f.cfg.linkName(e.ID), e.MAC, v.addr)})
		}
	}
	return out
}

func publishElement(s *nftables.Set, p ipam.Publish, i int, addr netip.Addr) element {
	key := binary.BigEndian.AppendUint16([]byte{number(p.Protocol), 0, 0, 0}, p.HostPort+uint16(i))
	val := binary.BigEndian.AppendUint16(addr.AsSlice(), p.ContainerPort+uint16(i))
	return element{set: s, key: string(append(key, 0, 0)), val: string(append(val, 0, 0))}
}

func macKey(link string, mac ipam.MAC) string {
	return string(append(append(linkBytes(link), mac[:]...), 0, 0))
}

func sourceKey(link string, mac ipam.MAC, addr netip.Addr) string {
	return macKey(link, mac) + string(addr.AsSlice())
}

// belongs reports whether an element of the kernel's concerns an endpoint, whatever ports the endpoint has now.
func (f *firewall) belongs(el element, e ipam.Endpoint) bool {
	switch el.set {
	case f.sets.publish4, f.sets.imds4, f.sets.publish6, f.sets.imds6:
		where := el.key
		if el.set.IsMap {
			where = el.val
		}
		addr := e.IPv4
		if el.set == f.sets.publish6 || el.set == f.sets.imds6 {
			addr = e.IPv6
		}
		n := addr.BitLen() / 8
		return addr.IsValid() && len(where) >= n && where[:n] == string(addr.AsSlice())
	default:
		link := string(linkBytes(f.cfg.linkName(e.ID)))
		return len(el.key) > len(link) && el.key[:len(link)] == link
	}
}

// current reads the elements of all sets. A table that somebody deleted has none.
func (f *firewall) current(c *nftables.Conn) ([]element, error) {
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("cannot list nftables tables: %w", err)
	}
	var out []element
	for _, s := range f.inUse() {
		if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == s.Table.Name && t.Family == s.Table.Family }) {
			continue
		}
		els, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("cannot read nftables set %s: %w", s.Name, err)
		}
		for _, el := range els {
			out = append(out, element{set: s, key: string(el.Key), val: string(el.Val)})
		}
	}
	return out, nil
}

// publish adds an endpoint's elements. Elements that are there already are no error; a port that leads to another
// container is [ErrPortTaken].
func (f *firewall) publish(e ipam.Endpoint) error {
	err := f.transact(func(c *nftables.Conn) error { return f.change(c, nil, f.elements(e)) })
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: one of %v", ErrPortTaken, e.Ports)
	}
	if err != nil {
		return fmt.Errorf("cannot publish ports %v: %w", e.Ports, err)
	}
	return nil
}

// withdraw removes every element that concerns an endpoint.
func (f *firewall) withdraw(e ipam.Endpoint) error {
	err := f.transact(func(c *nftables.Conn) error {
		els, err := f.current(c)
		if err != nil {
			return err
		}
		return f.change(c, slices.DeleteFunc(els, func(el element) bool { return !f.belongs(el, e) }), nil)
	})
	if err != nil {
		return fmt.Errorf("cannot withdraw ports: %w", err)
	}
	return nil
}

// apply makes the sets contain what the plan needs and nothing else, in one transaction, and returns what it removed.
func (f *firewall) apply(plan ipam.Plan) (stray []element, err error) {
	want := make(map[element]bool)
	for _, e := range plan {
		for _, el := range f.elements(e) {
			want[el] = true
		}
	}
	err = f.transact(func(c *nftables.Conn) error {
		have, err := f.current(c)
		if err != nil {
			return err
		}
		for _, el := range have {
			if !want[el] {
				stray = append(stray, el)
			}
			delete(want, el)
		}
		return f.change(c, stray, slices.Collect(maps.Keys(want)))
	})
	if err != nil {
		return nil, fmt.Errorf("cannot bring published ports up to date: %w", err)
	}
	return stray, nil
}

// change removes and adds elements in one transaction.
func (f *firewall) change(c *nftables.Conn, remove, add []element) error {
	for _, s := range f.inUse() {
		if err := inChunks(s, remove, c.SetDeleteElements); err != nil {
			return err
		}
	}
	for _, s := range f.inUse() {
		if err := inChunks(s, add, c.SetAddElements); err != nil {
			return err
		}
	}
	return c.Flush()
}

func inChunks(s *nftables.Set, els []element, do func(*nftables.Set, []nftables.SetElement) error) error {
	var of []nftables.SetElement
	for _, el := range els {
		if el.set == s {
			of = append(of, nftables.SetElement{Key: []byte(el.key), Val: []byte(el.val)})
		}
	}
	for part := range slices.Chunk(of, chunk) {
		if err := do(s, part); err != nil {
			return fmt.Errorf("cannot encode elements of nftables set %s: %w", s.Name, err)
		}
	}
	return nil
}

package network

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the rules compare of ICMPv6, by RFC 4861.
const (
	neighborAdvertisement = 136
	advertisedAt          = 8 // where its target address is
)

// guardSources drops what comes out of a container as if it were another's: from a hardware address that is not its own,
// which would teach the bridge to send there what is for another; from addresses that are not its own; and with answers
// to the question who has an address that it does not have. What is neither ARP nor the internet's is dropped too, and
// with it VLAN tags: the host takes off those with priority only, and would see an address that nobody has looked at.
//
// IPv6 link-local addresses are let through, and the unspecified one, since neighbour discovery needs them.
func (b batch) guardSources(t *nftables.Table) {
	c := b.chain(nftables.Chain{
		Table: t, Name: "prerouting", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-200),
	})
	ours := iifPrefix(b.cfg.linkPrefix())
	const ll, nh, th = expr.PayloadBaseLLHeader, expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	mac := load(ll, 6, 6, fifth)
	b.rule(c, ours, noneOf(etherARP, etherIPv4, etherIPv6), drop())
	b.rule(c, ours, mac, notIn(b.sets.macs), drop())
	b.rule(c, ours, etherType(etherARP), load(nh, 8, 6, fifth), load(nh, 14, 4, sixth), notIn(b.sets.source4), drop())
	b.rule(c, ours, etherType(etherIPv4), mac, load(nh, 12, 4, sixth), notIn(b.sets.source4), drop())
	linkLocal := netip.MustParsePrefix("fe80::/10")
	b.rule(c, ours, etherType(etherIPv6), advertisement(), outside(linkLocal, load(th, advertisedAt, 16, reg)),
		mac, load(th, advertisedAt, 16, sixth), notIn(b.sets.source6), drop())
	b.rule(c, ours, etherType(etherIPv6), saddrBits(linkLocal), accept())
	b.rule(c, ours, etherType(etherIPv6), saddrBits(netip.PrefixFrom(netip.IPv6Unspecified(), 128)), accept())
	b.rule(c, ours, etherType(etherIPv6), mac, load(nh, 8, 16, sixth), notIn(b.sets.source6), drop())
}

// noneOf matches frames of any other type than these.
func noneOf(types ...uint16) []expr.Any {
	exprs := load(expr.PayloadBaseLLHeader, 12, 2, reg)
	for _, t := range types {
		exprs = append(exprs, compare(expr.CmpOpNeq, binaryutil.BigEndian.PutUint16(t)))
	}
	return exprs
}

// advertisement matches ICMPv6's neighbour advertisements.
func advertisement() []expr.Any {
	exprs := append(meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_ICMPV6}), load(expr.PayloadBaseTransportHeader, 0, 1, reg)...)
	return append(exprs, compare(expr.CmpOpEq, []byte{neighborAdvertisement}))
}

// outside matches an IPv6 address that has been loaded and does not lie in a network.
func outside(p netip.Prefix, loaded []expr.Any) []expr.Any {
	return append(loaded,
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 16, Mask: net.CIDRMask(p.Bits(), 128), Xor: make([]byte, 16)},
		compare(expr.CmpOpNeq, p.Masked().Addr().AsSlice()))
}

// notIn matches link . hardware address . address, of which the caller has loaded the latter two.
func notIn(s *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: true},
	}
}

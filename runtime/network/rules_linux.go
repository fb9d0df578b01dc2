package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// Registers of 4 bytes, which a concatenation lies in one behind the other. Register 1 of 16 bytes is the same as the
// first four of them.
const (
	reg    = unix.NFT_REG_1
	word0  = unix.NFT_REG32_00
	second = word0 + 1 // behind an item of at most 4 bytes
	fifth  = word0 + 4 // behind one of 16 bytes
	sixth  = word0 + 6 // behind one of 16 and one of 6
)

const (
	statusDNAT  = 1 << 5 // IPS_DST_NAT of the kernel's enum ip_conntrack_status
	stateNew    = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW)
	etherARP    = 0x0806
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	rejectICMPX = 2 // NFT_REJECT_ICMPX_UNREACH
	prohibited  = 3 // NFT_REJECT_ICMPX_ADMIN_PROHIBITED
)

// metadataAddress is where containers find the task metadata endpoint, and imds the instance's (host §1.1).
func metadataAddress() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 170, 2}) }

func imds() (ipv4, ipv6 netip.Addr) {
	return netip.AddrFrom4([4]byte{169, 254, 169, 254}), netip.MustParseAddr("fd00:ec2::254")
}

// batch collects the rules of one transaction.
type batch struct {
	conn *nftables.Conn
	cfg  *Config
	sets sets
	// knowsTasks is the firewall's.
	knowsTasks bool
}

// chain adds a base chain, or empties it if it exists.
func (b batch) chain(c nftables.Chain) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	c.Policy = &accept
	b.conn.AddChain(&c)
	b.conn.FlushChain(&c)
	return &c
}

func (b batch) rule(c *nftables.Chain, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: slices.Concat(parts...)})
}

// translate writes destination and source translation.
func (b batch) translate(t *nftables.Table) {
	nat := func(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return b.chain(nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: prio})
	}
	pre := nat("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := nat("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := nat("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)

	if tmds := b.cfg.TMDS; tmds.IsValid() {
		toTMDS := slices.Concat(daddr(metadataAddress()), metadataPort(), dnatTo(tmds))
		b.rule(pre, iifname(b.cfg.Bridge), toTMDS)
		b.rule(pre, iifname(b.cfg.sideBridge()), toTMDS)
		if !b.cfg.TMDSBeside {
			b.rule(out, toTMDS)
		}
	}
	b.rule(pre, family(unix.NFPROTO_IPV4), localDestination(), dnatBy(b.sets.publish4, unix.NFPROTO_IPV4))
	b.rule(pre, family(unix.NFPROTO_IPV6), localDestination(), dnatBy(b.sets.publish6, unix.NFPROTO_IPV6))
	b.rule(out, family(unix.NFPROTO_IPV4), localDestination(), dnatBy(b.sets.publish4, unix.NFPROTO_IPV4))
	b.rule(out, notDaddr(netip.IPv6Loopback()), localDestination(), dnatBy(b.sets.publish6, unix.NFPROTO_IPV6))

	loopback := netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	b.rule(post, oifname(b.cfg.Bridge), saddrIn(loopback), masquerade())
	for _, p := range b.cfg.LocalRoutes {
		b.rule(post, notOifname(b.cfg.sideBridge()), saddrIn(b.cfg.LinkLocal.IPv4), daddrIn(p), masquerade())
	}
	for _, p := range []netip.Prefix{b.cfg.Pool.IPv4, b.cfg.Pool.IPv6} {
		if p.IsValid() {
			b.rule(post, oifname(b.cfg.Bridge), saddrIn(p), translated(), masquerade())
			b.rule(post, notOifname(b.cfg.Bridge), saddrIn(p), masquerade())
		}
	}
}

// filter writes the guards. Policy is accept: what others allow or forbid on this host is theirs to say.
func (b batch) filter(t *nftables.Table) {
	guard := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return b.chain(nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
	}
	in := guard("input", nftables.ChainHookInput)
	forward := guard("forward", nftables.ChainHookForward)

	loopback := netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	b.rule(in, iifname(b.cfg.Bridge), daddrIn(loopback), untranslated(), drop())
	b.rule(in, iifname(b.cfg.sideBridge()), daddrIn(loopback), untranslated(), drop())
	if tmds := b.cfg.TMDS; tmds.IsValid() {
		// A host address may not be forged by a process of the host either: it tells who asks for credentials.
		b.rule(in, iifname("lo"), daddr(tmds.Addr()), tcpPort(tmds.Port()), foreignSource(), drop())
	}
	b.rule(in, notIifname(b.cfg.Bridge), notIifname(b.cfg.sideBridge()), notIifname("lo"), daddr(metadataAddress()), drop())
	b.rule(forward, notIifname(b.cfg.Bridge), oifname(b.cfg.Bridge), newFlow(), untranslated(), drop())
	b.guardSide(in, forward)
	b.guardOutput(t)
	if b.cfg.BlockIMDS {
		imds4, imds6 := imds()
		b.rule(forward, iifname(b.cfg.Bridge), daddr(imds4), saddrNotIn(b.sets.imds4), reject())
		b.rule(forward, iifname(b.cfg.Bridge), daddr(imds6), saddrNotIn(b.sets.imds6), reject())
	}
}

// guardSide keeps the second interfaces of endpoints with an ENI for what they are there for: the host is no second way
// into the world, past the VPC and its security groups, nor a way from one of them to another, nor does it offer its own
// services there. What was translated on its way in is for the agent.
func (b batch) guardSide(in, forward *nftables.Chain) {
	side := b.cfg.sideBridge()
	for _, p := range b.cfg.LocalRoutes {
		b.rule(in, iifname(side), daddrIn(p), accept())
		b.rule(forward, iifname(side), notOifname(side), daddrIn(p), accept())
	}
	b.rule(in, iifname(side), newFlow(), untranslated(), drop())
	b.rule(forward, iifname(side), drop())
	b.rule(forward, oifname(side), newFlow(), drop())
}

func saddrNotIn(s *nftables.Set) []expr.Any {
	offset, length := uint32(12), uint32(4)
	if s.KeyType.Bytes == 16 {
		offset, length = 8, 16
	}
	return append(load(expr.PayloadBaseNetworkHeader, offset, length, reg),
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: true})
}

// dnatBy looks protocol and destination port up in a publish map. A port that is not in it ends the rule.
func dnatBy(s *nftables.Set, nfproto uint32) []expr.Any {
	portAt := uint32(second)
	if nfproto == unix.NFPROTO_IPV6 {
		portAt = fifth
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: second},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: s.Name, SetID: s.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nfproto, RegAddrMin: reg, RegProtoMin: portAt, Specified: true},
	}
}

func dnatTo(to netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg, RegProtoMin: unix.NFT_REG_2, Specified: true},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }
func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any     { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func reject() []expr.Any     { return []expr.Any{&expr.Reject{Type: rejectICMPX, Code: prohibited}} }

func compare(op expr.CmpOp, data []byte) *expr.Cmp {
	return &expr.Cmp{Op: op, Register: reg, Data: data}
}

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg}, compare(op, data)}
}

func linkBytes(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func iifname(n string) []expr.Any { return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkBytes(n)) }

func notIifname(n string) []expr.Any { return meta(expr.MetaKeyIIFNAME, expr.CmpOpNeq, linkBytes(n)) }

func oifname(n string) []expr.Any { return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, linkBytes(n)) }

func notOifname(n string) []expr.Any { return meta(expr.MetaKeyOIFNAME, expr.CmpOpNeq, linkBytes(n)) }
func iifPrefix(p string) []expr.Any  { return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, []byte(p)) }

func family(nfproto byte) []expr.Any {
	return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{nfproto})
}

// metadataPort is the one of the task metadata endpoint, tcp 80.
func metadataPort() []expr.Any { return tcpPort(80) }

// foreignSource matches packets from addresses that are not the host's.
func foreignSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagSADDR: true, ResultADDRTYPE: true},
		compare(expr.CmpOpNeq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

func etherType(t uint16) []expr.Any {
	return append(load(expr.PayloadBaseLLHeader, 12, 2, reg), compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(t)))
}

func load(base expr.PayloadBase, offset, length, to uint32) []expr.Any {
	return []expr.Any{&expr.Payload{Base: base, Offset: offset, Len: length, DestRegister: to}}
}

// localDestination matches packets for any address of the host.
func localDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

// translated matches flows whose destination we, or others, have changed; untranslated those with the one they came
// with.
func translated() []expr.Any   { return ct(expr.CtKeySTATUS, statusDNAT, expr.CmpOpNeq) }
func untranslated() []expr.Any { return ct(expr.CtKeySTATUS, statusDNAT, expr.CmpOpEq) }

func newFlow() []expr.Any { return ct(expr.CtKeySTATE, stateNew, expr.CmpOpNeq) }

// ct compares masked bits with zero.
func ct(key expr.CtKey, bits uint32, op expr.CmpOp) []expr.Any {
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: zero},
		compare(op, zero),
	}
}

// Offsets of the addresses in the IPv4 and IPv6 headers.
func saddrOffset(a netip.Addr) uint32 {
	if a.Is4() {
		return 12
	}
	return 8
}

func daddrOffset(a netip.Addr) uint32 {
	if a.Is4() {
		return 16
	}
	return 24
}

func familyOf(a netip.Addr) []expr.Any {
	if a.Is4() {
		return family(unix.NFPROTO_IPV4)
	}
	return family(unix.NFPROTO_IPV6)
}

func daddr(a netip.Addr) []expr.Any {
	return slices.Concat(familyOf(a), bits(daddrOffset(a), netip.PrefixFrom(a, a.BitLen()), expr.CmpOpEq))
}

func notDaddr(a netip.Addr) []expr.Any {
	return slices.Concat(familyOf(a), bits(daddrOffset(a), netip.PrefixFrom(a, a.BitLen()), expr.CmpOpNeq))
}

func daddrIn(p netip.Prefix) []expr.Any {
	return slices.Concat(familyOf(p.Addr()), bits(daddrOffset(p.Addr()), p, expr.CmpOpEq))
}

func saddrIn(p netip.Prefix) []expr.Any { return slices.Concat(familyOf(p.Addr()), saddrBits(p)) }

// saddrBits is saddrIn without the check of the family, for chains of the bridge, which have looked at the frame.
func saddrBits(p netip.Prefix) []expr.Any { return bits(saddrOffset(p.Addr()), p, expr.CmpOpEq) }

// bits compares the leading bits of an address in the network header.
func bits(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	addr := p.Masked().Addr().AsSlice()
	n := uint32(len(addr))
	exprs := load(expr.PayloadBaseNetworkHeader, offset, n, reg)
	if p.Bits() < p.Addr().BitLen() {
		exprs = append(exprs, &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: n, Mask: ipNet(p).Mask, Xor: make([]byte, n)})
	}
	return append(exprs, compare(op, addr))
}

// number is the protocol's as in an IP header.
func number(p ipam.Protocol) byte {
	if p == ipam.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

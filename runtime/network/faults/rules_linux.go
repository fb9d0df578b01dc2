package faults

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// reg is the register for single values: 16 bytes, enough for an address.
const reg = unix.NFT_REG_1

// The registers of 4 bytes that a flow is gathered in, and where its hash goes.
const (
	flowAt = unix.NFT_REG32_00
	hashAt = unix.NFT_REG32_15
)

// field is where something is in a packet, in bytes.
type field struct {
	base           expr.PayloadBase
	offset, length uint32
}

func source(ipv4 bool) field {
	if ipv4 {
		return field{expr.PayloadBaseNetworkHeader, 12, 4}
	}
	return field{expr.PayloadBaseNetworkHeader, 8, 16}
}

func destination(ipv4 bool) field {
	if ipv4 {
		return field{expr.PayloadBaseNetworkHeader, 16, 4}
	}
	return field{expr.PayloadBaseNetworkHeader, 24, 16}
}

// bothAddresses lie side by side in both families.
func bothAddresses(ipv4 bool) field {
	f := source(ipv4)
	f.length *= 2
	return f
}

func sourcePort() field      { return field{expr.PayloadBaseTransportHeader, 0, 2} }
func destinationPort() field { return field{expr.PayloadBaseTransportHeader, 2, 2} }
func bothPorts() field       { return field{expr.PayloadBaseTransportHeader, 0, 4} }

func (f field) load(to uint32) expr.Any {
	return &expr.Payload{Base: f.base, Offset: f.offset, Len: f.length, DestRegister: to}
}

func (f field) is(value []byte) []expr.Any { return []expr.Any{f.load(reg), equal(value)} }

func equal(value []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: value} }

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg}, equal(value)}
}

// inetFamily matches the packets of a family in tables of the inet family, frame in those of links.
func inetFamily(ipv4 bool) []expr.Any {
	if ipv4 {
		return metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4})
	}
	return metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6})
}

func frame(ipv4 bool) []expr.Any {
	if ipv4 {
		return metaIs(expr.MetaKeyPROTOCOL, binaryutil.BigEndian.PutUint16(unix.ETH_P_IP))
	}
	return metaIs(expr.MetaKeyPROTOCOL, binaryutil.BigEndian.PutUint16(unix.ETH_P_IPV6))
}

func number(protocol string) byte {
	if protocol == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func protocolIs(n byte) []expr.Any { return metaIs(expr.MetaKeyL4PROTO, []byte{n}) }

func toPort(protocol string, port uint16) []expr.Any {
	return slices.Concat(protocolIs(number(protocol)), destinationPort().is(binaryutil.BigEndian.PutUint16(port)))
}

func tcpTo(a netip.AddrPort) []expr.Any {
	ipv4 := a.Addr().Is4()
	return slices.Concat(inetFamily(ipv4), destination(ipv4).is(a.Addr().AsSlice()), toPort("tcp", a.Port()))
}

func tcpFrom(a netip.AddrPort) []expr.Any {
	ipv4 := a.Addr().Is4()
	return slices.Concat(inetFamily(ipv4), source(ipv4).is(a.Addr().AsSlice()),
		protocolIs(unix.IPPROTO_TCP), sourcePort().is(binaryutil.BigEndian.PutUint16(a.Port())))
}

func lookup(f field, s *nftables.Set) []expr.Any {
	return []expr.Any{f.load(reg), &expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}}
}

// someFlows are the matches of which a packet meets at most one: it does if its flow is among the given percent. A flow
// of TCP or UDP is known by addresses and ports, another by addresses and protocol.
func someFlows(percent int) [][]expr.Any {
	if percent >= 100 {
		return [][]expr.Any{nil}
	}
	var all [][]expr.Any
	for _, ipv4 := range []bool{true, false} {
		addresses := bothAddresses(ipv4)
		words := addresses.length / 4
		protocolAt, portsAt := flowAt+words, flowAt+words+1
		gather := []expr.Any{addresses.load(flowAt), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protocolAt}}
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			all = append(all, slices.Concat(frame(ipv4), protocolIs(protocol), gather,
				[]expr.Any{bothPorts().load(portsAt)}, hashedBelow(4*(words+2), percent)))
		}
		other := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: []byte{unix.IPPROTO_UDP}},
		}
		all = append(all, slices.Concat(frame(ipv4), other, gather, hashedBelow(4*(words+1), percent)))
	}
	return all
}

// hashedBelow matches if the hash of what was gathered, length bytes, is one of the first percent of a hundred.
func hashedBelow(length uint32, percent int) []expr.Any {
	hash := &expr.Hash{SourceRegister: flowAt, DestRegister: hashAt, Length: length, Modulus: 100, Type: expr.HashTypeJenkins}
	return append([]expr.Any{hash}, below(hashAt, percent)...)
}

// chance matches percent of packets.
func chance(percent int) []expr.Any {
	if percent >= 100 {
		return nil
	}
	return append([]expr.Any{&expr.Numgen{Register: hashAt, Modulus: 100, Type: unix.NFT_NG_RANDOM}}, below(hashAt, percent)...)
}

// below compares a number of the kernel's byte order: comparisons go byte by byte, so that it must be put in order.
func below(register uint32, n int) []expr.Any {
	return []expr.Any{
		&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: register, Data: binaryutil.BigEndian.PutUint32(uint32(n))},
	}
}

// classify chooses the class of the link's queueing discipline, by its handle.
func classify(class uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint32(class)},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg},
	}
}

func drop() []expr.Any  { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func leave() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

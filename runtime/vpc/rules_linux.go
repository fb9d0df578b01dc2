package vpc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// forward switches routing of IPv4 on. That of IPv6 is switched on by the agent, which takes care that the host keeps the
// default routes that it learnt.
func forward() error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	if was, err := os.ReadFile(path); err == nil && string(was) == "1\n" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot switch forwarding on: %w", err)
	}
	_, err = f.WriteString("1")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot switch forwarding on: %w", err)
	}
	return nil
}

// translate gives what leaves the VPC the host's address, as a NAT gateway does.
func translate(pool ipam.Pool) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("cannot open nftables socket: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: bridgeName})
	chain := c.AddChain(&nftables.Chain{
		Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.FlushChain(chain)
	for _, p := range []netip.Prefix{pool.IPv4, pool.IPv6} {
		if p.IsValid() {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(leaving(), from(p), []expr.Any{&expr.Masq{}})})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot write nftables table %s: %w", bridgeName, err)
	}
	return nil
}

func removeTable() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("cannot open nftables socket: %w", err)
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: bridgeName})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove nftables table %s: %w", bridgeName, err)
	}
	return nil
}

const register = 1

// leaving matches packets that go elsewhere than to the bridge.
func leaving() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, bridgeName)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: name},
	}
}

// from matches packets whose source is of a subnet.
func from(p netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 8
	}
	n := uint32(p.Addr().BitLen() / 8)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{family}},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n, DestRegister: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: n, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, n)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: p.Masked().Addr().AsSlice()},
	}
}

// address describes an address for netlink, one that is used at once.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// proxyTable is the name of the table in the namespace of an endpoint with a proxy.
const proxyTable = "berth-appmesh"

// redirectToProxy writes the rules of host §3.7 into a namespace, in one transaction, whatever was there before.
func redirectToProxy(ns netns.NsHandle, p *ipam.Proxy) (err error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("cannot open nftables socket in the namespace: %w", err)
	}
	defer func() { err = errors.Join(err, c.CloseLasting()) }()
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: proxyTable}
	// Added, so that there is something to delete.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	b := batch{conn: c}
	b.egress(table, p)
	b.ingress(table, p)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot redirect traffic to the proxy: %w", err)
	}
	return nil
}

// egress redirects what processes of the namespace send, but for the proxy's own and what shall be left alone. What
// stays in the namespace is no egress.
func (b batch) egress(t *nftables.Table, p *ipam.Proxy) {
	out := b.chain(nftables.Chain{
		Table: t, Name: "egress", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	for _, id := range []struct {
		key expr.MetaKey
		id  *uint32
	}{{expr.MetaKeySKUID, p.IgnoredUID}, {expr.MetaKeySKGID, p.IgnoredGID}} {
		if id.id != nil {
			b.rule(out, meta(id.key, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(*id.id)), accept())
		}
	}
	for _, port := range p.EgressIgnoredPorts {
		b.rule(out, tcpPort(port), accept())
	}
	for _, ip := range p.EgressIgnoredIPs {
		b.rule(out, daddrIn(ip), accept())
	}
	b.rule(out, localDestination(), accept())
	b.rule(out, tcp(), redirect(p.EgressPort))
}

// ingress redirects what comes from elsewhere for the application's ports.
func (b batch) ingress(t *nftables.Table, p *ipam.Proxy) {
	in := b.chain(nftables.Chain{
		Table: t, Name: "ingress", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	b.rule(in, localSource(), accept())
	for _, port := range p.AppPorts {
		b.rule(in, tcpPort(port), redirect(p.IngressPort))
	}
}

func tcp() []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP}) }

func tcpPort(port uint16) []expr.Any {
	return slices.Concat(tcp(), load(expr.PayloadBaseTransportHeader, 2, 2, reg),
		[]expr.Any{compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(port))})
}

// redirect sends to a port of the namespace itself.
func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: reg},
	}
}

// localSource matches packets that were sent here.
func localSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagSADDR: true, ResultADDRTYPE: true},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

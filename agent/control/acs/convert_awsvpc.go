package acs

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// The prefix length of IPv6 addresses where ECS says none: that of every subnet
// of a VPC (§4.6).
const subnetIPv6 = 64

// awsvpc is what belongs to the network of the task as a whole: its interface,
// and the proxy before it.
func (b *builder) awsvpc(path string) error {
	if b.definition.Network != task.NetworkAWSVPC {
		switch {
		case len(b.task.ElasticNetworkInterfaces) > 0:
			return field(path+".elasticNetworkInterfaces", "the network mode %s has none", b.definition.Network)
		case b.task.ProxyConfiguration != nil:
			return &UnsupportedError{path + ".proxyConfiguration", "a proxy in network mode " + string(b.definition.Network)}
		}
		return nil
	}
	if !b.TaskENI {
		return &UnsupportedError{path + ".networkMode", "the network mode awsvpc"}
	}
	if len(b.task.ElasticNetworkInterfaces) != 1 {
		return field(path+".elasticNetworkInterfaces", "%d interfaces, and a task has one", len(b.task.ElasticNetworkInterfaces))
	}
	var err error
	if b.definition.ENI, err = networkInterface(&b.task.ElasticNetworkInterfaces[0], path+".elasticNetworkInterfaces[0]"); err != nil {
		return err
	}
	if p := b.task.ProxyConfiguration; p != nil {
		b.definition.Proxy, err = b.proxy(p, path+".proxyConfiguration")
	}
	return err
}

// networkInterface is a task's interface, spec/host.md §3.5.
func networkInterface(w *wire.ENI, path string) (*task.ENI, error) {
	if err := w.Validate(path); err != nil {
		return nil, err
	}
	e := &task.ENI{
		AttachmentARN: w.AttachmentARN, EC2ID: w.EC2ID, Name: w.Name,
		Search: w.DomainName, PrivateDNSName: w.PrivateDNSName,
	}
	var err error
	if e.MAC, err = macAddress(w.MACAddress, path+".macAddress"); err != nil {
		return nil, err
	}
	if v := w.VLAN; w.InterfaceAssociationProtocol == wire.AssociationVLAN {
		if e.VLAN, err = strconv.Atoi(v.ID); err != nil || e.VLAN < 1 || e.VLAN > 4094 {
			return nil, field(path+".interfaceVlanProperties.vlanId", "%q is not a VLAN", v.ID)
		}
		e.TrunkMAC, err = macAddress(v.TrunkInterfaceMACAddress, path+".interfaceVlanProperties.trunkInterfaceMacAddress")
		if err != nil {
			return nil, err
		}
	}
	for i, server := range w.DomainNameServers {
		addr, err := netip.ParseAddr(server)
		if err != nil {
			return nil, field(fmt.Sprintf("%s.domainNameServers[%d]", path, i), "%q is not an address", server)
		}
		e.NameServers = append(e.NameServers, addr.String())
	}
	return e, addresses(e, w, path)
}

// addresses are those of the interface, the primary one first, and the gateways.
func addresses(e *task.ENI, w *wire.ENI, path string) error {
	for _, g := range []struct {
		text, member string
		subnet       *netip.Prefix
		gateway      *netip.Addr
	}{
		{w.SubnetGatewayIPv4Address, "subnetGatewayIpv4Address", &e.SubnetIPv4, &e.GatewayIPv4},
		{w.SubnetGatewayIPv6Address, "subnetGatewayIpv6Address", &e.SubnetIPv6, &e.GatewayIPv6},
	} {
		if g.text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(g.text)
		if err != nil || prefix.Addr().Is4() != (g.gateway == &e.GatewayIPv4) {
			return field(path+"."+g.member, "%q is not a gateway with a prefix length", g.text)
		}
		*g.subnet, *g.gateway = prefix, prefix.Addr()
	}
	for i, a := range w.IPv4Addresses {
		addr, err := netip.ParseAddr(a.PrivateAddress)
		if err != nil || !addr.Is4() {
			return field(fmt.Sprintf("%s.ipv4Addresses[%d].privateAddress", path, i), "%q is not an IPv4 address", a.PrivateAddress)
		}
		e.IPv4 = add(e.IPv4, netip.PrefixFrom(addr, e.SubnetIPv4.Bits()), a.Primary)
	}
	bits := subnetIPv6
	if len(e.IPv4) == 0 && e.SubnetIPv6.IsValid() {
		bits = e.SubnetIPv6.Bits()
	}
	for i, a := range w.IPv6Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" {
			return field(fmt.Sprintf("%s.ipv6Addresses[%d].address", path, i), "%q is not an IPv6 address", a.Address)
		}
		e.IPv6 = add(e.IPv6, netip.PrefixFrom(addr, bits), a.Primary)
	}
	return nil
}

// add appends an address, or puts the primary one in front.
func add(list []netip.Prefix, p netip.Prefix, primary bool) []netip.Prefix {
	if primary {
		return append([]netip.Prefix{p}, list...)
	}
	return append(list, p)
}

// alwaysIgnored are the destinations that no proxy gets: the task's metadata and
// the instance's.
func alwaysIgnored() []string { return []string{"169.254.170.2", "169.254.169.254", "fd00:ec2::254"} }

// proxy is an App Mesh proxy, spec/task-engine.md §5.15.
func (b *builder) proxy(w *wire.ProxyConfiguration, path string) (*task.Proxy, error) {
	if w.Type != "APPMESH" {
		return nil, field(path+".type", "%q is not APPMESH", w.Type)
	}
	if !b.has(w.ContainerName) {
		return nil, field(path+".containerName", "the task has no container %q", w.ContainerName)
	}
	p := &task.Proxy{Container: w.ContainerName, IgnoredUID: strings.TrimSpace(w.Properties["IgnoredUID"]), IgnoredGID: strings.TrimSpace(w.Properties["IgnoredGID"])}
	property := func(name string) string { return path + ".properties." + name }
	for name, id := range map[string]string{"IgnoredUID": p.IgnoredUID, "IgnoredGID": p.IgnoredGID} {
		if _, err := strconv.ParseUint(id, 10, 32); id != "" && err != nil {
			return nil, field(property(name), "%q is not a number", id)
		}
	}
	if p.IgnoredUID == "" && p.IgnoredGID == "" {
		return nil, field(property("IgnoredUID"), "is missing, and so is IgnoredGID: the proxy would redirect to itself")
	}
	var err error
	for name, to := range map[string]*[]uint16{"AppPorts": &p.AppPorts, "EgressIgnoredPorts": &p.EgressIgnoredPorts} {
		if *to, err = portList(w.Properties[name], property(name)); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]*uint16{"ProxyIngressPort": &p.IngressPort, "ProxyEgressPort": &p.EgressPort} {
		ports, err := portList(w.Properties[name], property(name))
		if err != nil {
			return nil, err
		}
		if len(ports) > 1 || len(ports) == 0 && (name == "ProxyEgressPort" || len(p.AppPorts) > 0) {
			return nil, field(property(name), "%q is not a port", w.Properties[name])
		}
		if len(ports) == 1 {
			*to = ports[0]
		}
	}
	for _, ip := range append(commaList(w.Properties["EgressIgnoredIPs"]), alwaysIgnored()...) {
		if _, err := task.ParseIPOrCIDR(ip); err != nil {
			return nil, field(property("EgressIgnoredIPs"), "%v", err)
		}
		p.EgressIgnoredIPs = append(p.EgressIgnoredIPs, ip)
	}
	return p, nil
}

// commaList takes a list apart; empty members do not count.
func commaList(text string) []string {
	var out []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func portList(text, path string) ([]uint16, error) {
	var out []uint16
	for _, s := range commaList(text) {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return nil, field(path, "%q is not a port", s)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

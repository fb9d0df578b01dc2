package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// Two tasks with addresses of their own serve the same port, reach each other, the gateway and the agent, and nothing
// else of the host.
func TestENI(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.TMDS = netip.MustParseAddrPort("127.0.0.1:51679")
		c.BlockTaskIMDS = true
	})
	l.ensure(t)
	v := newVPC(t, l)
	one, two := v.eni(t, "ens6", 6), v.eni(t, "ens7", 7)
	dualStack(one, vpcGateway6)
	dualStack(two, vpcGateway6)
	first, second := v.attached(t, "one", one), v.attached(t, "two", two)
	inOne, inTwo := l.inside(t, "one"), l.inside(t, "two")
	serve(t, inOne, "one", 80)
	serve(t, inTwo, "two", 80)
	serve(t, v.ns, "gateway", 80)
	serve(t, l.host, "agent", 51679)

	imds4, imds6 := imds()
	h := v.handle(t)
	bridge, err := h.LinkByName("vpc0")
	ok(t, err)
	ok(t, h.AddrAdd(bridge, linkAddr(netip.PrefixFrom(imds4, 32))))
	ok(t, h.AddrAdd(bridge, linkAddr(netip.PrefixFrom(imds6, 128))))

	for _, c := range []struct {
		what, want string
		from       handle
		to         netip.AddrPort
	}{
		{"a neighbour", "two from 10.7.0.6", inOne, four(two, 80)},
		{"the other way", "one from 10.7.0.7", inTwo, four(one, 80)},
		{"a neighbour by IPv6", "two from fd07::6", inOne, six(two, 80)},
		{"the gateway", "gateway from 10.7.0.6", inOne, at(vpcGateway4, 80)},
		{"the gateway by IPv6", "gateway from fd07::6", inOne, at(vpcGateway6, 80)},
		{"from the VPC", "one from 10.7.0.1", v.ns, four(one, 80)},
		{"beyond the gateway", "gateway from 10.7.0.6", inOne, at(imds4, 80)},
		{"the agent", "agent from 169.254.172.6", inOne, at(metadataAddress(), 80)},
		{"the agent from the other", "agent from 169.254.172.7", inTwo, at(metadataAddress(), 80)},
	} {
		got, err := ask(t.Context(), c.from, "tcp", c.to)
		if c.to.Addr() == imds4 {
			if err == nil {
				t.Errorf("instance metadata is closed, and answered %q", got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, c.want)
		}
	}
	unanswered(t, "instance metadata by IPv6", inOne, "tcp", at(imds6, 80))
	command(t, inOne, "ip", "route", "del", "blackhole", imds4.String())
	if got, err := ask(t.Context(), inOne, "tcp", at(imds4, 80)); err != nil {
		t.Errorf("without the route: %q, %v; the test proves nothing", got, err)
	}

	// Not past the VPC: neither to a neighbour nor into the world nor to the host's loopback addresses.
	gateway, _ := l.net.cfg.LinkLocal.Gateway()
	serve(t, l.client, "world", 80)
	command(t, inOne, "ip", "route", "add", second.IPv4.String(), "dev", sideLink)
	unanswered(t, "a neighbour by the second interface", inOne, "tcp", at(second.IPv4, 80))
	command(t, inOne, "ip", "route", "replace", second.IPv4.String(), "via", gateway.String(), "dev", sideLink)
	unanswered(t, "a neighbour by way of the host", inOne, "tcp", at(second.IPv4, 80))
	command(t, inOne, "ip", "route", "add", client4.String(), "via", gateway.String(), "dev", sideLink, "src", first.IPv4.String())
	unanswered(t, "the world by way of the host", inOne, "tcp", at(client4, 80))
	unanswered(t, "the world to the second interface", l.client, "tcp", at(first.IPv4, 80))

	// Nor what the host itself serves on all of its addresses, such as ssh: neither at the gateway, which is next to
	// the task, nor where the task leads a route of its own.
	serve(t, l.host, "ssh", 22)
	command(t, inOne, "ip", "route", "add", host4.String(), "via", gateway.String(), "dev", sideLink, "src", first.IPv4.String())
	for _, to := range []netip.Addr{gateway, host4, metadataAddress()} {
		unanswered(t, "the host at "+to.String(), inOne, "tcp", at(to, 22))
	}
	unanswered(t, "the agent's own port", inOne, "tcp", at(gateway, 51679))
	if got, err := ask(t.Context(), l.host, "tcp", at(first.IPv4, 80)); err != nil {
		t.Errorf("the host to the task: %q, %v", got, err)
	}
	command(t, l.host, "nft", "flush", "chain", "inet", "berth", "input")
	if got, err := ask(t.Context(), inOne, "tcp", at(gateway, 22)); err != nil {
		t.Errorf("without the guard: %q, %v; the test proves nothing", got, err)
	}

	if mtu := strings.Contains(command(t, inOne, "ip", "link", "show", "eth0"), "mtu 9001"); !mtu {
		t.Error("the MTU of the interface was not kept")
	}
}

// What a task sees of its network, as ip prints it.
func TestENIConfiguration(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.BlockIMDS = true
		c.LocalRoutes = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	})
	l.ensure(t)
	v := newVPC(t, l)
	e := dualStack(v.eni(t, "ens6", 6), vpcGateway6)
	e.IPv4 = append(e.IPv4, netip.MustParsePrefix("10.7.0.66/24"))
	v.attached(t, "one", e)
	inside := l.inside(t, "one")
	want4 := `default via 10.7.0.1 dev eth0 
10.7.0.0/24 dev eth0 proto kernel scope link src 10.7.0.6 
10.77.0.0/16 via 169.254.172.1 dev ecs-eth0 src 169.254.172.6 
blackhole 169.254.169.254 
169.254.170.2 via 169.254.172.1 dev ecs-eth0 src 169.254.172.6 
169.254.172.1 dev ecs-eth0 scope link src 169.254.172.6 
`
	if got := command(t, inside, "ip", "route"); got != want4 {
		t.Errorf("routes:\n%s\nwant:\n%s", got, want4)
	}
	six := command(t, inside, "ip", "-6", "route")
	for _, line := range []string{"blackhole fd00:ec2::254 dev lo", "default via fd07::1 dev eth0", "fd07::/64 dev eth0"} {
		if !strings.Contains(six, line) {
			t.Errorf("IPv6 routes lack %q:\n%s", line, six)
		}
	}
	if got := command(t, inside, "ip", "-o", "-4", "addr", "show", "eth0"); !strings.Contains(got, "10.7.0.66/24") {
		t.Errorf("the second address is missing: %s", got)
	}
	if got := command(t, inside, "ip", "-o", "-6", "addr", "show", sideLink); got != "" {
		t.Errorf("the second interface speaks IPv6: %s", got)
	}
	// One that may reach it does, unless the setting is for all.
	other := v.task("two", v.eni(t, "ens7", 7))
	other.AllowIMDS = true
	ok(t, l.net.Attach(t.Context(), other))
	if got := command(t, l.inside(t, "two"), "ip", "route"); strings.Contains(got, "blackhole") {
		t.Errorf("instance metadata is closed to a task that may reach it:\n%s", got)
	}
}

// What the host serves can be opened to tasks, at the gateway and at an address of its own.
func TestENILocalRoutes(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.LocalRoutes = []netip.Prefix{netip.MustParsePrefix("169.254.172.1/32"), netip.PrefixFrom(host4, 32), netip.PrefixFrom(client4, 32)}
	})
	l.ensure(t)
	v := newVPC(t, l)
	v.attached(t, "one", v.eni(t, "ens6", 6))
	inside := l.inside(t, "one")
	serve(t, l.host, "statsd", 8125)
	serve(t, l.client, "world", 80)
	gateway, _ := l.net.cfg.LinkLocal.Gateway()
	for to, want := range map[netip.AddrPort]string{
		at(gateway, 8125): "statsd from 169.254.172.6", at(host4, 8125): "statsd from 169.254.172.6", at(client4, 80): "world from " + host4.String(),
	} {
		if got, err := ask(t.Context(), inside, "tcp", to); err != nil || got != want {
			t.Errorf("%v: %q, %v; want %q", to, got, err, want)
		}
	}
}

// An ENI comes back as it was, however often it is attached and detached.
func TestENIComesBack(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	e := v.eni(t, "ens6", 6)
	endpoint := v.task("one", e)
	for range 3 {
		for range 2 {
			ok(t, l.net.Attach(t.Context(), endpoint))
		}
		if v.onHost(t, e) != nil {
			t.Fatal("the interface is still the host's")
		}
		for range 2 {
			ok(t, l.net.Detach(t.Context(), endpoint))
		}
		link := v.onHost(t, e)
		if link == nil {
			t.Fatal("the interface did not come back")
		}
		a := link.Attrs()
		if a.Name != "ens6" || a.Flags&net.FlagUp != 0 || a.Alias != "" || a.MTU != 9001 {
			t.Fatalf("it came back as %s, %v, alias %q, MTU %d", a.Name, a.Flags, a.Alias, a.MTU)
		}
		if left := l.state(t); len(left) > 0 {
			t.Fatalf("left behind: %q", left)
		}
	}
	// Somebody else has its name by now.
	ok(t, l.net.Attach(t.Context(), endpoint))
	stranger := v.eni(t, "ens6b", 9)
	ok(t, l.net.nl.LinkSetName(v.onHost(t, stranger), "ens6"))
	ok(t, l.net.Detach(t.Context(), endpoint))
	if link := v.onHost(t, e); link == nil || link.Attrs().Name != "eni0a1122334406" {
		t.Errorf("it came back as %v", link)
	}
	ok(t, l.net.Teardown(t.Context()))
	links, err := l.net.nl.LinkList()
	ok(t, err)
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "berth") {
			t.Errorf("after the teardown there is %s", link.Attrs().Name)
		}
	}
}

// An agent that was killed anywhere in between finds its way.
func TestENIInterrupted(t *testing.T) {
	for name, interrupt := range map[string]func(t *testing.T, v *vpc, e ipam.Endpoint){
		"after the namespace": func(t *testing.T, v *vpc, e ipam.Endpoint) {
			t.Helper()
			ns, err := openNetNS(here, v.lab.net.NetNS(e.ID), containerSysctls(e))
			ok(t, err)
			ok(t, ns.Close())
		},
		"after the second interface": func(t *testing.T, v *vpc, e ipam.Endpoint) {
			t.Helper()
			ns, err := openNetNS(here, v.lab.net.NetNS(e.ID), containerSysctls(e))
			ok(t, err)
			defer func() { ok(t, ns.Close()) }()
			inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
			ok(t, err)
			defer inside.Close()
			ok(t, v.lab.net.ensureSide())
			ok(t, v.lab.net.connect(e, ns, inside))
		},
		"moved and not named": func(t *testing.T, v *vpc, e ipam.Endpoint) {
			t.Helper()
			ns, err := openNetNS(here, v.lab.net.NetNS(e.ID), containerSysctls(e))
			ok(t, err)
			defer func() { ok(t, ns.Close()) }()
			ok(t, v.lab.net.nl.LinkSetNsFd(v.onHost(t, e.ENI), int(ns)))
		},
		"all but the record": func(t *testing.T, v *vpc, e ipam.Endpoint) {
			t.Helper()
			ok(t, v.lab.net.Attach(t.Context(), e))
		},
		"given back, and the namespace still there": func(t *testing.T, v *vpc, e ipam.Endpoint) {
			t.Helper()
			ok(t, v.lab.net.Attach(t.Context(), e))
			ok(t, v.lab.net.giveBack(v.lab.net.NetNS(e.ID)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			l.ensure(t)
			v := newVPC(t, l)
			serve(t, v.ns, "gateway", 80)
			e := v.task("one", v.eni(t, "ens6", 6))
			interrupt(t, v, e)
			// The task goes on…
			_, err := l.net.Sync(t.Context(), ipam.Plan{e})
			ok(t, err)
			ok(t, l.net.Attach(t.Context(), e))
			if got, err := ask(t.Context(), l.inside(t, "one"), "tcp", at(vpcGateway4, 80)); err != nil || got != "gateway from 10.7.0.6" {
				t.Errorf("the gateway: %q, %v", got, err)
			}
			// …and another time its record is lost. What was moved without our mark, and is no device, cannot be
			// told from what a task made itself; EC2's interfaces are devices.
			interrupt(t, v, v.task("one", v.renewed(t, e)))
			removed, err := l.net.Sync(t.Context(), nil)
			ok(t, err)
			if len(removed) == 0 && name != "given back, and the namespace still there" {
				t.Error("nothing was removed")
			}
			if left := l.state(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if name == "moved and not named" {
				return
			}
			if v.onHost(t, e.ENI) == nil {
				t.Error("the interface did not come back")
			}
		})
	}
}

// An agent that was killed between the making of a link and the setting of its port leaves a port of the usual kind:
// second interfaces would not be isolated, and containers would not reach their own published ports.
func TestPortIsSetAgain(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	port := func(e ipam.Endpoint) string {
		t.Helper()
		return command(t, l.host, "bridge", "-d", "link", "show", "dev", l.net.cfg.linkName(e.ID))
	}
	for _, c := range []struct {
		e    ipam.Endpoint
		set  func(link netlink.Link, on bool) error
		want string
	}{
		{v.attached(t, "one", v.eni(t, "ens6", 6)), l.net.nl.LinkSetIsolated, "isolated on"},
		{l.attached(t, "two"), l.net.nl.LinkSetHairpin, "hairpin on"},
	} {
		link, err := l.net.nl.LinkByName(l.net.cfg.linkName(c.e.ID))
		ok(t, err)
		ok(t, c.set(link, false))
		if strings.Contains(port(c.e), c.want) {
			t.Fatal("the test proves nothing")
		}
		ok(t, l.net.Attach(t.Context(), c.e))
		if got := port(c.e); !strings.Contains(got, c.want) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// renewed detaches an endpoint and answers with its ENI.
func (v *vpc) renewed(t *testing.T, e ipam.Endpoint) *ipam.ENI {
	t.Helper()
	ok(t, v.lab.net.Detach(t.Context(), e))
	return e.ENI
}

// An interface that comes late is waited for, by what the kernel says and not by the clock.
func TestENIComesLate(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	late := v.eni(t, "ens6", 6)
	// It is there under another address until EC2 attaches it.
	link := v.onHost(t, late)
	ok(t, l.net.nl.LinkSetHardwareAddr(link, net.HardwareAddr{2, 2, 2, 2, 2, 2}))
	attached := make(chan error, 1)
	go func() { attached <- l.net.Attach(t.Context(), v.task("one", late)) }()
	other := v.task("two", v.eni(t, "ens7", 7))
	ok(t, l.net.Attach(t.Context(), other)) // nobody else waits meanwhile
	ok(t, l.net.nl.LinkSetHardwareAddr(link, late.MAC[:]))
	ok(t, <-attached)
	// What is attached already is there too.
	ok(t, l.net.AwaitENI(t.Context(), late.MAC, ipam.MAC{}))

	cause := errors.New("the task is stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		attached <- l.net.Attach(ctx, v.task("three", &ipam.ENI{MAC: ipam.MAC{0x0a, 9}, IPv4: late.IPv4}))
	}()
	cancel(cause)
	if err := <-attached; !errors.Is(err, cause) {
		t.Errorf("an interface that never comes: %v", err)
	}
	l.net.cfg.ENIPatience = 1
	err := l.net.Attach(t.Context(), v.task("three", &ipam.ENI{MAC: ipam.MAC{0x0a, 9}, IPv4: late.IPv4}))
	if want := "0a:09:00:00:00:00 did not appear within 1ns"; !errors.Is(err, ErrNoInterface) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("an interface that never comes: %v, want %q", err, want)
	}
}

// The host's own way out is not taken, whoever asks for it.
func TestOwnInterfaceStays(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	up, err := l.net.nl.LinkByName("up0")
	ok(t, err)
	e := &ipam.ENI{IPv4: []netip.Prefix{netip.PrefixFrom(host4, 24)}, GatewayIPv4: client4}
	copy(e.MAC[:], up.Attrs().HardwareAddr)
	if err := l.net.Attach(t.Context(), v.task("one", e)); !errors.Is(err, ErrOwnInterface) {
		t.Errorf("%v, want ErrOwnInterface", err)
	}
	if _, err := l.net.nl.LinkByName("up0"); err != nil {
		t.Errorf("the host's interface: %v", err)
	}
}

// A dual-stack ENI without an IPv6 gateway learns its default route from a router, and no address.
func TestENIRouterAdvertisement(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	e := dualStack(v.eni(t, "ens6", 6), netip.Addr{})
	v.attached(t, "one", e)
	inside := l.inside(t, "one")
	h, err := netlink.NewHandleAt(inside, unix.NETLINK_ROUTE)
	ok(t, err)
	defer h.Close()
	routes, done := make(chan netlink.RouteUpdate, 16), make(chan struct{})
	ok(t, netlink.RouteSubscribeAt(inside, routes, done))
	defer func() {
		close(done)
		for range routes {
		}
	}()
	// One that comes before the interface has its link-local address is not heard.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	v.advertise(t)
	for learnt := false; !learnt; {
		select {
		case u := <-routes:
			learnt = u.Type == unix.RTM_NEWROUTE && u.Protocol == unix.RTPROT_RA && (u.Dst == nil || u.Dst.IP.IsUnspecified())
		case <-again.C:
			v.advertise(t)
		case <-late.C:
			t.Fatal("no default route was learnt")
		}
	}
	if got := command(t, inside, "ip", "-6", "route", "show", "default"); !strings.Contains(got, "proto ra") {
		t.Errorf("default route: %s", got)
	}
	got := command(t, inside, "ip", "-o", "-6", "addr", "show", "dev", "eth0", "scope", "global")
	if strings.Count(got, "inet6") != 1 || !strings.Contains(got, "fd07::6/64") {
		t.Errorf("addresses: %s", got)
	}
}

// advertise sends a router advertisement into the VPC, with a prefix that hosts could make addresses of.
func (v *vpc) advertise(t *testing.T) {
	t.Helper()
	ok(t, within(v.ns, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		bridge, err := net.InterfaceByName("vpc0")
		if err != nil {
			return err
		}
		// Hop limit 64, no flags, a router for 30 minutes; then a prefix that is on the link and for addresses.
		message := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
		message = append(message, 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)
		prefix := netip.MustParseAddr("fd99::").As16()
		message = append(message, prefix[:]...)
		all := unix.SockaddrInet6{Addr: [16]byte{0xff, 0x02, 15: 1}, ZoneId: uint32(bridge.Index)}
		return unix.Sendto(fd, message, 0, &all)
	}))
}

// A branch is a VLAN of its trunk, which stays on the host.
func TestBranchENI(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	v := newVPC(t, l)
	trunk := v.eni(t, "ens6", 6)
	e := &ipam.ENI{
		MAC: ipam.MAC{0x0a, 0x11, 0x22, 0x33, 0x55, 5}, VLAN: 101, Trunk: trunk.MAC,
		IPv4: []netip.Prefix{netip.MustParsePrefix("10.8.0.5/24")}, GatewayIPv4: netip.MustParseAddr("10.8.0.1"),
	}
	err := l.net.Attach(t.Context(), v.task("one", e))
	if !CanBranch() {
		// This kernel has no VLANs: the refusal is clear, and the trunk is left alone.
		if !errors.Is(err, unix.EOPNOTSUPP) || v.onHost(t, trunk) == nil {
			t.Errorf("a branch without VLANs in the kernel: %v", err)
		}
		return
	}
	ok(t, err)
	far := v.handle(t)
	peer, err := far.LinkByName("ens6")
	ok(t, err)
	ok(t, far.LinkSetNoMaster(peer))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "far", peer.Attrs().Index
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: 101, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	ok(t, far.LinkAdd(vlan))
	ok(t, far.LinkSetUp(vlan))
	ok(t, far.AddrAdd(vlan, linkAddr(netip.MustParsePrefix("10.8.0.1/24"))))
	serve(t, v.ns, "gateway", 80)
	for range 3 {
		ok(t, l.net.Attach(t.Context(), v.task("one", e)))
		if got, err := ask(t.Context(), l.inside(t, "one"), "tcp", at(e.GatewayIPv4, 80)); err != nil || got != "gateway from 10.8.0.5" {
			t.Errorf("over the VLAN: %q, %v", got, err)
		}
		ok(t, l.net.Detach(t.Context(), v.task("one", e)))
	}
	if v.onHost(t, trunk) == nil {
		t.Error("the trunk has left the host")
	}
}

// The redirection of App Mesh, with real connections.
func TestProxy(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TMDS = netip.MustParseAddrPort("127.0.0.1:51679") })
	l.ensure(t)
	v := newVPC(t, l)
	e := dualStack(v.eni(t, "ens6", 6), vpcGateway6)
	uid := uint32(1337)
	e.Proxy = &ipam.Proxy{
		IgnoredUID: &uid, IngressPort: 15000, EgressPort: 15001, AppPorts: []uint16{8080},
		EgressIgnoredIPs:   []netip.Prefix{netip.PrefixFrom(metadataAddress(), 32), netip.MustParsePrefix("10.7.0.200/29")},
		EgressIgnoredPorts: []uint16{22},
	}
	for range 2 { // the rules are written, not added
		v.attached(t, "one", e)
	}
	inside := l.inside(t, "one")
	for name, port := range map[string]uint16{"ingress": 15000, "egress": 15001, "app": 8080, "admin": 9901} {
		serve(t, inside, name, port)
	}
	h := v.handle(t)
	bridge, err := h.LinkByName("vpc0")
	ok(t, err)
	ok(t, h.AddrAdd(bridge, linkAddr(netip.MustParsePrefix("10.7.0.201/32"))))
	serve(t, v.ns, "gateway", 80)
	serve(t, v.ns, "ssh", 22)
	serve(t, l.host, "agent", 51679)
	for _, c := range []struct {
		what, want string
		from       handle
		to         netip.AddrPort
	}{
		{"a request for the application", "ingress from 10.7.0.1", v.ns, four(e, 8080)},
		{"by IPv6", "ingress from fd07::1", v.ns, six(e, 8080)},
		{"a port that is none of the application's", "admin from 10.7.0.1", v.ns, four(e, 9901)},
		{"what the application asks for", "egress from 10.7.0.6", inside, at(vpcGateway4, 80)},
		{"by IPv6", "egress from fd07::6", inside, at(vpcGateway6, 80)},
		{"an ignored port", "ssh from 10.7.0.6", inside, at(vpcGateway4, 22)},
		{"an ignored network", "gateway from 10.7.0.6", inside, netip.MustParseAddrPort("10.7.0.201:80")},
		{"the agent", "agent from 169.254.172.6", inside, at(metadataAddress(), 80)},
		{"itself", "app from 10.7.0.6", inside, four(e, 8080)},
		{"localhost", "app from 127.0.0.1", inside, netip.MustParseAddrPort("127.0.0.1:8080")},
	} {
		if got, err := ask(t.Context(), c.from, "tcp", c.to); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, c.want)
		}
	}
	// The proxy's own user is let through.
	got := command(t, inside, "setpriv", "--reuid=1337", "--clear-groups", "busybox", "nc", vpcGateway4.String(), "80")
	if strings.TrimSpace(got) != "gateway from 10.7.0.6" {
		t.Errorf("the proxy's own connections: %q", got)
	}
	rules := command(t, inside, "nft", "list", "table", "inet", proxyTable)
	if n := strings.Count(rules, "redirect"); n != 2 {
		t.Errorf("%d redirections, want 2:\n%s", n, rules)
	}
}

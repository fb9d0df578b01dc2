package network

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

func TestOverlapIsRefused(t *testing.T) {
	l := newLab(t, nil)
	command(t, l.host, "ip", "route", "add", "172.29.4.0/24", "via", client4.String())
	before := command(t, l.host, "nft", "list", "ruleset") + command(t, l.host, "ip", "link")
	err := l.net.Ensure(t.Context())
	overlap, ok := errors.AsType[*ipam.OverlapError](err)
	if !ok || overlap.Route.Prefix.String() != "172.29.4.0/24" || overlap.Route.Device != "up0" {
		t.Fatalf("error %v, want the route to 172.29.4.0/24", err)
	}
	if after := command(t, l.host, "nft", "list", "ruleset") + command(t, l.host, "ip", "link"); before != after {
		t.Errorf("a refused pool changed the host:\n%s", cmp.Diff(before, after))
	}
	// A route that appears later does not keep the agent from coming back to its containers.
	command(t, l.host, "ip", "route", "del", "172.29.4.0/24")
	l.ensure(t)
	command(t, l.host, "ip", "route", "add", "172.29.4.0/24", "via", client4.String())
	l.ensure(t)
}

// What others have on the host is as it was, and what is in our way is found.
func TestForeignRulesStay(t *testing.T) {
	l := newLab(t, nil)
	command(t, l.host, "nft", "add table ip theirs { chain forward { type filter hook forward priority 0; policy drop; }; }")
	theirs := command(t, l.host, "nft", "list", "table", "ip", "theirs")
	l.ensure(t)
	e := l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	problems, err := l.net.Check(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].What, "table ip theirs") {
		t.Errorf("Check found %q, %v; want their table", problems, err)
	}
	if err := l.net.Detach(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, err := l.net.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := command(t, l.host, "nft", "list", "table", "ip", "theirs"); got != theirs {
		t.Errorf("their table changed:\n%s", cmp.Diff(theirs, got))
	}
}

// A second agent with a bridge of its own works beside the first, and cleans up after itself only.
func TestTwoNetworksOnOneHost(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	serve(t, l.inside(t, "web"), "first", 80)

	cfg := l.net.cfg
	cfg.Bridge, cfg.Table, cfg.NetNSDir = "berth1", "berth1", l.dir+"/second"
	cfg.Pool = ipam.Pool{IPv4: netip.MustParsePrefix("10.77.0.0/24"), IPv6: netip.MustParsePrefix("fd77::/64")}
	second := l.second(t, cfg)
	second.ensure(t)
	second.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8081, ContainerPort: 80})
	serve(t, second.inside(t, "web"), "second", 80)
	l.ensure(t)
	for port, name := range map[uint16]string{8080: "first", 8081: "second"} {
		for _, host := range []netip.Addr{host4, host6} {
			got, err := ask(t.Context(), l.client, "tcp", at(host, port))
			if err != nil || !strings.HasPrefix(got, name+" from") {
				t.Errorf("%v, port %d: %q, %v; want %s", host, port, got, err, name)
			}
		}
	}
	before := l.state(t)
	if _, err := second.net.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.state(t)); diff != "" {
		t.Errorf("the second took something of the first:\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	l := newLab(t, nil)
	check := func() []Problem {
		t.Helper()
		problems, err := l.net.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return problems
	}
	command(t, l.host, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
	if got := check(); len(got) != 4 {
		t.Errorf("before Ensure: %q; want bridge, table and two settings", got)
	}
	l.ensure(t)
	if got := check(); len(got) != 0 {
		t.Errorf("after Ensure: %q", got)
	}
	command(t, l.host, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	command(t, l.host, "ip", "route", "add", "172.29.4.0/24", "via", client4.String())
	if got := check(); len(got) != 2 {
		t.Errorf("with forwarding off and a route in the way: %q", got)
	}
	command(t, l.host, "ip", "route", "add", "169.254.0.0/16", "dev", "up0")
	if got := check(); len(got) != 2 {
		t.Errorf("with a route to all link-local addresses: %q", got)
	}
	command(t, l.host, "ip", "route", "add", "169.254.172.0/22", "dev", "up0")
	if got := check(); len(got) != 3 || !strings.Contains(got[1].What, "169.254.172.0/22 via up0") {
		t.Errorf("with another's link-local addresses: %q", got)
	}
}

// A host that learns its IPv6 default route from a router keeps learning when forwarding is switched on.
func TestRouterAdvertisementsAreKept(t *testing.T) {
	l := newLab(t, nil)
	command(t, l.host, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.up0.accept_ra=1", "net.ipv6.conf.lo.accept_ra=0")
	l.ensure(t)
	got := command(t, l.host, "sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.up0.accept_ra", "net.ipv6.conf.lo.accept_ra")
	if got != "1\n2\n0\n" {
		t.Errorf("forwarding, accept_ra of up0 and of lo are %q", got)
	}
}

// The pool changed between two starts: the bridge has the new addresses only, and the same hardware address.
func TestPoolChange(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	mac := func() string {
		link, err := l.net.nl.LinkByName("berth0")
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().HardwareAddr.String()
	}
	before := mac()
	l.net.cfg.Pool = ipam.Pool{IPv4: netip.MustParsePrefix("10.77.0.0/24")}
	l.ensure(t)
	link, err := l.net.nl.LinkByName("berth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := l.net.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		if a.Scope != unix.RT_SCOPE_LINK {
			got = append(got, a.IPNet.String())
		}
	}
	if diff := cmp.Diff([]string{"10.77.0.1/24"}, got); diff != "" {
		t.Errorf("addresses of the bridge:\n%s", diff)
	}
	if after := mac(); after != before {
		t.Errorf("hardware address %s became %s", before, after)
	}
}

// The rules as nft prints them.
func TestTableText(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.BlockIMDS = true
		c.TMDS = netip.MustParseAddrPort("127.0.0.1:51679")
		c.LocalRoutes = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	})
	l.ensure(t)
	got := tableText(t, l)
	want, err := os.ReadFile("testdata/tables.nft")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("tables differ from testdata/tables.nft:\n%s", diff)
	}
}

package network

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/ipam"
)

// A Network that is torn down leaves the host as it found it, and a second one on the host as it was.
func TestTeardownRemovesOursOnly(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	serve(t, l.inside(t, "web"), "first", 80)
	host := func() string {
		return command(t, l.host, "nft", "list", "ruleset") + command(t, l.host, "ip", "-br", "link") + command(t, l.host, "ip", "-br", "addr")
	}
	// The kernel says that links are up a moment after they are; one that answers is.
	if _, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil {
		t.Fatal(err)
	}
	before := host()

	cfg := l.net.cfg
	cfg.Bridge, cfg.Table, cfg.NetNSDir = "berth1", "berth1", l.dir+"/second"
	cfg.Pool = ipam.Pool{IPv4: netip.MustParsePrefix("10.77.0.0/24"), IPv6: netip.MustParsePrefix("fd77::/64")}
	second := l.second(t, cfg)
	for range 2 { // It can be made again.
		second.ensure(t)
		second.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8081, ContainerPort: 80})
		if host() == before {
			t.Fatal("the second network is not on the host: the test could not fail")
		}
		for range 2 { // Nothing to remove is no error.
			if err := second.net.Teardown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(before, host()); diff != "" {
			t.Errorf("the host is not what it was (-before +after):\n%s", diff)
		}
		left, err := os.ReadDir(cfg.NetNSDir)
		if err != nil || len(left) > 0 {
			t.Errorf("namespaces left: %v, %v", left, err)
		}
		second.leases.Release("web")
	}
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil || !strings.HasPrefix(got, "first from") {
		t.Errorf("the first answers %q, %v", got, err)
	}
}

// A link that has the bridge's name and is no bridge is somebody else's.
func TestTeardownLeavesAStrangersLink(t *testing.T) {
	l := newLab(t, nil)
	command(t, l.host, "ip", "link", "add", "berth0", "type", "veth", "peer", "name", "other")
	err := l.net.Teardown(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not a bridge") {
		t.Errorf("error %v, want one that says it is not a bridge", err)
	}
	command(t, l.host, "ip", "link", "show", "berth0")
}

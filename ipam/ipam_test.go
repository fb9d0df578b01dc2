package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func pool(v4, v6 string) Pool {
	var p Pool
	if v4 != "" {
		p.IPv4 = netip.MustParsePrefix(v4)
	}
	if v6 != "" {
		p.IPv6 = netip.MustParsePrefix(v6)
	}
	return p
}

func TestPoolValidate(t *testing.T) {
	for _, c := range []struct {
		v4, v6   string
		good     bool
		capacity int
	}{
		{"172.29.0.0/20", "fdb7:2e74:be27::/64", true, 4093},
		{"10.0.0.0/29", "", true, 5},
		{"10.0.0.0/8", "", true, 1<<20 - 2},
		{"", "fd00::/64", true, 1<<20 - 2},
		{"", "fd00::/112", true, 65534},
		{"10.0.0.0/24", "fd00::/112", true, 253},
		{"", "", false, 0},
		{"10.0.0.0/30", "", false, 0},
		{"10.0.0.1/24", "", false, 0},
		{"", "fd00::/120", false, 0},
		{"fd00::/64", "", false, 0},
		{"", "10.0.0.0/24", false, 0},
		{"127.0.0.0/8", "", false, 0},
		{"224.0.0.0/8", "", false, 0},
		{"", "::ffff:10.0.0.0/112", false, 0},
	} {
		p := pool(c.v4, c.v6)
		err := p.Validate()
		if c.good && (err != nil || p.Capacity() != c.capacity) {
			t.Errorf("%v: capacity %d, %v; want %d", p, p.Capacity(), err, c.capacity)
		}
		if !c.good && !errors.Is(err, ErrBadPool) {
			t.Errorf("%q, %q: %v; want ErrBadPool", c.v4, c.v6, err)
		}
	}
	if err := DefaultPool().Validate(); err != nil {
		t.Error(err)
	}
}

func TestAddressesGoTogether(t *testing.T) {
	for _, c := range []struct {
		pool Pool
		want [2]string // gateway, then the first container
	}{
		{pool("172.29.0.0/20", "fdb7:2e74:be27::/64"), [2]string{
			"172.29.0.1 fdb7:2e74:be27::1", "172.29.0.2 fdb7:2e74:be27::2 0a:be:ac:1d:00:02",
		}},
		{pool("10.1.2.128/25", ""), [2]string{"10.1.2.129 invalid IP", "10.1.2.130 invalid IP 0a:be:0a:01:02:82"}},
		{pool("", "fd00:1::/64"), [2]string{"invalid IP fd00:1::1", "invalid IP fd00:1::2 0a:be:00:00:00:02"}},
	} {
		gw4, gw6 := c.pool.Gateway()
		if got := fmt.Sprint(gw4, " ", gw6); got != c.want[0] {
			t.Errorf("%v: gateway %s, want %s", c.pool, got, c.want[0])
		}
		l, err := New(c.pool)
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.Lease("x")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(a.IPv4, " ", a.IPv6, " ", a.MAC); got != c.want[1] {
			t.Errorf("%v: container %s, want %s", c.pool, got, c.want[1])
		}
		for _, addr := range []netip.Addr{a.IPv4, a.IPv6} {
			if id, ok := l.Owner(addr); addr.IsValid() && (id != "x" || !ok) {
				t.Errorf("owner of %v is %q", addr, id)
			}
		}
	}
}

func TestLeases(t *testing.T) {
	l, err := New(pool("10.0.0.0/29", "fd00::/64")) // 2 to 6
	if err != nil {
		t.Fatal(err)
	}
	lease := func(id string) string {
		t.Helper()
		a, err := l.Lease(id)
		if err != nil {
			return err.Error()
		}
		return a.IPv4.String()
	}
	for _, step := range []struct{ do, id, want string }{
		{"lease", "a", "10.0.0.2"},
		{"lease", "b", "10.0.0.3"},
		{"lease", "a", "10.0.0.2"}, // the same again
		{"release", "b", ""},
		{"lease", "c", "10.0.0.4"}, // b's address rests
		{"lease", "d", "10.0.0.5"},
		{"lease", "e", "10.0.0.6"}, // the last; 7 is broadcast
		{"lease", "f", "10.0.0.3"}, // around
		{"lease", "g", "cannot lease an address for container g: address pool is exhausted: all 5 of 10.0.0.0/29 and fd00::/64 are in use"},
		{"release", "d", ""},
		{"release", "d", ""},
		{"release", "never", ""},
		{"lease", "g", "10.0.0.5"},
	} {
		if step.do == "release" {
			l.Release(step.id)
			continue
		}
		if got := lease(step.id); got != step.want {
			t.Fatalf("lease of %s: %s, want %s", step.id, got, step.want)
		}
	}
	if _, err := l.Lease("h"); !errors.Is(err, ErrExhausted) {
		t.Errorf("error %v, want ErrExhausted", err)
	}
	if l.Len() != 5 {
		t.Errorf("%d leases, want 5", l.Len())
	}
}

func TestRestore(t *testing.T) {
	p := pool("10.0.0.0/24", "fd00::/64")
	old, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	a, err := old.Lease("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := old.Lease("b")
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Restore("a", a); err != nil {
		t.Fatal(err)
	}
	if err := l.Restore("a", a); err != nil {
		t.Errorf("the same again: %v", err)
	}
	mixed := Addresses{IPv4: b.IPv4, IPv6: a.IPv6}
	at := func(s string) Addresses { return Addresses{IPv4: netip.MustParseAddr(s)} }
	for _, c := range []struct {
		name string
		id   string
		a    Addresses
		want error
	}{
		{"another's", "b", a, ErrConflict},
		{"a second one", "a", b, ErrConflict},
		{"another pool's", "b", at("10.0.1.2"), ErrOutside},
		{"the gateway", "b", at("10.0.0.1"), ErrOutside},
		{"broadcast", "b", at("10.0.0.255"), ErrOutside},
		{"nothing", "b", Addresses{}, ErrOutside},
		{"of two offsets", "b", mixed, ErrOutside},
	} {
		if err := l.Restore(c.id, c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if l.Len() != 1 {
		t.Errorf("%d leases after failures, want 1", l.Len())
	}
	next, err := l.Lease("c")
	if err != nil || next.IPv4 != b.IPv4 {
		t.Errorf("the lease after a restore is %v, %v; want %v", next.IPv4, err, b.IPv4)
	}
	if _, ok := l.Owner(netip.MustParseAddr("fd00::1:0:0:2")); ok {
		t.Error("an address that only looks like a container's has an owner")
	}
	if id, _ := l.Owner(netip.MustParseAddr("::ffff:10.0.0.2")); id != "a" {
		t.Errorf("owner of a mapped address is %q, want a", id)
	}
}

func TestLeasesAreSafeForConcurrentUse(t *testing.T) {
	l, err := New(pool("10.0.0.0/24", ""))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			if _, err := l.Lease(id); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				l.Release(id)
			}
		})
	}
	wg.Wait()
	if l.Len() != 50 {
		t.Errorf("%d leases, want 50", l.Len())
	}
}

func TestEndpointSurvivesJSON(t *testing.T) {
	want := Endpoint{
		ID: "c1",
		Addresses: Addresses{
			IPv4: netip.MustParseAddr("10.0.0.2"), IPv6: netip.MustParseAddr("fd00::2"), MAC: MAC{0x0a, 0xbe, 10, 0, 0, 2},
		},
		Ports:     []Publish{{Protocol: TCP, HostPort: 32768, ContainerPort: 80}, {Protocol: UDP, HostPort: 1, ContainerPort: 2, Count: 3}},
		AllowIMDS: true,
	}
	for _, e := range []Endpoint{want, {ID: "none"}} {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got Endpoint
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(e, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s:\n%s", b, diff)
		}
	}
	var m MAC
	for _, bad := range []string{"", "x", "00:00:00:00:00:00:00:00"} {
		if err := m.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is read as %v", bad, m)
		}
	}
}

func TestPlanValidate(t *testing.T) {
	at := func(id, v4, v6 string, ports ...Publish) Endpoint {
		e := Endpoint{ID: id, Ports: ports}
		if v4 != "" {
			e.IPv4 = netip.MustParseAddr(v4)
		}
		if v6 != "" {
			e.IPv6 = netip.MustParseAddr(v6)
		}
		return e
	}
	tcp := func(host, container, count uint16) Publish {
		return Publish{Protocol: TCP, HostPort: host, ContainerPort: container, Count: count}
	}
	for _, c := range []struct {
		name string
		plan Plan
		good bool
	}{
		{"empty", nil, true},
		{"two", Plan{at("a", "10.0.0.2", "fd00::2", tcp(80, 80, 0)), at("b", "10.0.0.3", "", tcp(81, 80, 0))}, true},
		{"two without addresses", Plan{at("a", "", ""), at("b", "", "")}, true},
		{"tcp and udp", Plan{at("a", "10.0.0.2", "", tcp(80, 80, 0), Publish{Protocol: UDP, HostPort: 80, ContainerPort: 80})}, true},
		{"one id", Plan{at("a", "10.0.0.2", ""), at("a", "10.0.0.3", "")}, false},
		{"one IPv4 address", Plan{at("a", "10.0.0.2", ""), at("b", "10.0.0.2", "")}, false},
		{"one IPv6 address", Plan{at("a", "", "fd00::2"), at("b", "", "fd00::2")}, false},
		{"one port", Plan{at("a", "10.0.0.2", "", tcp(80, 80, 0)), at("b", "10.0.0.3", "", tcp(80, 81, 0))}, false},
		{"a port of a range", Plan{at("a", "10.0.0.2", "", tcp(80, 80, 5)), at("b", "10.0.0.3", "", tcp(84, 80, 0))}, false},
		{"families exchanged", Plan{at("a", "fd00::2", "10.0.0.2")}, false},
		{"ports without address", Plan{at("a", "", "", tcp(80, 80, 0))}, false},
		{"host port open", Plan{at("a", "10.0.0.2", "", tcp(0, 80, 0))}, false},
		{"container port 0", Plan{at("a", "10.0.0.2", "", tcp(80, 0, 0))}, false},
		{"beyond the last port", Plan{at("a", "10.0.0.2", "", tcp(65535, 80, 2))}, false},
		{"protocol", Plan{at("a", "10.0.0.2", "", Publish{Protocol: "sctp", HostPort: 80, ContainerPort: 80})}, false},
		{"no id", Plan{at("", "10.0.0.2", "")}, false},
		{"id with a slash", Plan{at("a/../b", "10.0.0.2", "")}, false},
		{"id upwards", Plan{at("..", "10.0.0.2", "")}, false},
	} {
		if err := c.plan.Validate(); c.good != (err == nil) || !c.good && !errors.Is(err, ErrBadPlan) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOverlaps(t *testing.T) {
	routes := func(s ...string) []Route {
		var out []Route
		for _, p := range s {
			out = append(out, Route{Prefix: netip.MustParsePrefix(p), Device: "eth0"})
		}
		return out
	}
	for _, c := range []struct {
		routes []Route
		want   string // the route in the way
	}{
		{nil, ""},
		{routes("0.0.0.0/0", "::/0", "172.31.0.0/16", "169.254.0.0/16", "ff00::/8", "fe80::/64"), ""},
		{routes("10.0.0.0/8", "172.16.0.0/12"), "172.16.0.0/12"},
		{routes("172.29.3.4/32"), "172.29.3.4/32"},
		{routes("fd00::/8"), "fd00::/8"},
	} {
		err := Overlaps(DefaultPool(), c.routes)
		overlap, found := errors.AsType[*OverlapError](err)
		if found != (c.want != "") || found && overlap.Route.Prefix.String() != c.want {
			t.Errorf("%v: %v, want %q", c.routes, err, c.want)
		}
	}
	err := Overlaps(DefaultPool(), routes("172.16.0.0/12"))
	want := "bridge subnet 172.29.0.0/20 overlaps the route to 172.16.0.0/12 via eth0: set BERTH_BRIDGE_SUBNET to a range that this host does not use"
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/ipam/ports"
)

// handle is a namespace.
type handle = netns.NsHandle

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

var (
	loop4 = netip.MustParseAddr("127.0.0.1")
	loop6 = netip.MustParseAddr("::1")
)

// Everybody who may reach a published port does, over both protocols and both families, and the container sees who it
// is unless the packets had to be given the bridge's address to find their way back.
func TestPublishedPortsAreReachable(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	web := l.attached(t, "web",
		ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80},
		ipam.Publish{Protocol: ipam.UDP, HostPort: 8080, ContainerPort: 80},
		ipam.Publish{Protocol: ipam.TCP, HostPort: 40000, ContainerPort: 7000, Count: 3})
	other := l.attached(t, "other")
	// As in earnest, the ports are held by bound sockets. Nothing must get to those but what is for ::1.
	for _, p := range web.Ports {
		for i := range p.Len() {
			err := within(l.host, func() error {
				held, err := ports.HostBinder{}.Bind(p.Protocol, p.HostPort+uint16(i))
				if err == nil {
					t.Cleanup(func() { _ = held.Close() })
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	inWeb, inOther := l.inside(t, "web"), l.inside(t, "other")
	serve(t, inWeb, "web", 80)
	serve(t, inWeb, "second of the range", 7001)
	serve(t, inOther, "other", 80)
	serve(t, l.client, "client", 80)
	gw4, gw6 := l.net.cfg.Pool.Gateway()

	for _, c := range []struct {
		name string
		from string
		to   netip.AddrPort
		want string
	}{
		{"another host, IPv4", "client", at(host4, 8080), "web from 192.0.2.9"},
		{"another host, IPv6", "client", at(host6, 8080), "web from 2001:db8:1::9"},
		{"the host's own address, IPv4", "host", at(host4, 8080), "web from " + host4.String()},
		{"the host's own address, IPv6", "host", at(host6, 8080), "web from " + host6.String()},
		{"the host's loopback", "host", at(loop4, 8080), "web from " + gw4.String()},
		{"the host to the container", "host", at(web.IPv4, 80), "web from " + gw4.String()},
		{"the host to the container, IPv6", "host", at(web.IPv6, 80), "web from " + gw6.String()},
		{"another container by the published port, IPv4", "other", at(host4, 8080), "web from " + gw4.String()},
		{"another container by the published port, IPv6", "other", at(host6, 8080), "web from " + gw6.String()},
		{"another container by the gateway's address", "other", at(gw4, 8080), "web from " + gw4.String()},
		{"another container by the bridge, IPv4", "other", at(web.IPv4, 80), "web from " + other.IPv4.String()},
		{"another container by the bridge, IPv6", "other", at(web.IPv6, 80), "web from " + other.IPv6.String()},
		{"the container itself by its published port, IPv4", "web", at(host4, 8080), "web from " + gw4.String()},
		{"the container itself by its published port, IPv6", "web", at(host6, 8080), "web from " + gw6.String()},
		{"the container to the outside, IPv4", "web", at(client4, 80), "client from 192.0.2.1"},
		{"the container to the outside, IPv6", "web", at(client6, 80), "client from 2001:db8:1::1"},
	} {
		ns := map[string]int{"client": int(l.client), "host": int(l.host), "web": int(inWeb), "other": int(inOther)}[c.from]
		for _, network := range []string{"tcp", "udp"} {
			t.Run(c.name+"/"+network, func(t *testing.T) {
				got, err := ask(t.Context(), handle(ns), network, c.to)
				if err != nil || got != c.want {
					t.Errorf("answer %q, %v; want %q", got, err, c.want)
				}
			})
		}
	}

	t.Run("range", func(t *testing.T) {
		got, err := ask(t.Context(), l.client, "tcp", at(host4, 40001))
		if want := "second of the range from 192.0.2.9"; err != nil || got != want {
			t.Errorf("answer %q, %v; want %q", got, err, want)
		}
	})
	t.Run("IPv6 loopback is refused", func(t *testing.T) {
		if got, err := ask(t.Context(), l.host, "tcp", at(loop6, 8080)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("answer %q, %v; want it refused", got, err)
		}
	})
}

func TestOnePortForTwo(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	port := ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80}
	l.attached(t, "first", port)
	before := l.state(t)
	second := l.endpoint(t, "second", ipam.Publish{Protocol: ipam.TCP, HostPort: 9090, ContainerPort: 80}, port)
	if err := l.net.Attach(t.Context(), second); !errors.Is(err, ErrPortTaken) {
		t.Fatalf("error %v, want ErrPortTaken", err)
	}
	if err := l.net.Detach(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, l.state(t)); diff != "" {
		t.Errorf("the failed endpoint left something, or took something of the first:\n%s", diff)
	}
	serve(t, l.inside(t, "first"), "first", 80)
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil {
		t.Errorf("the first is no longer reachable: %q, %v", got, err)
	}
}

// Everything may be done twice, in any state, and what was made can be removed to the last trace.
func TestIdempotentAndClean(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	if s := l.state(t); len(s) != 0 {
		t.Fatalf("before anything is attached there is %q", s)
	}
	rules := tableText(t, l)
	published := []ipam.Publish{{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80}, {Protocol: ipam.UDP, HostPort: 53, ContainerPort: 53}}
	web := l.attached(t, "web", published...)
	made := l.state(t)
	l.ensure(t)
	l.attached(t, "web", published...)
	if diff := cmp.Diff(made, l.state(t)); diff != "" {
		t.Errorf("the second time changed something:\n%s", diff)
	}
	for range 2 {
		if err := l.net.Detach(t.Context(), web); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.state(t); len(s) != 0 {
		t.Errorf("Detach left %q", s)
	}
	if diff := cmp.Diff(rules, tableText(t, l)); diff != "" {
		t.Errorf("tables are not as they were:\n%s", diff)
	}

	// Half of it gone already, or everything.
	for _, damage := range [][]string{
		{"ip", "link", "del", l.net.cfg.linkName("web")},
		{"nft", "delete", "table", "inet", "berth"},
		{"ip", "link", "del", "berth0"},
	} {
		l.ensure(t)
		l.attached(t, "web", published...)
		command(t, l.host, damage[0], damage[1:]...)
		if err := l.net.Detach(t.Context(), web); err != nil {
			t.Errorf("Detach after %q: %v", damage, err)
		}
		l.ensure(t)
		if s := l.state(t); len(s) != 0 {
			t.Errorf("Detach after %q left %q", damage, s)
		}
	}
}

func TestNoAddresses(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	e := ipam.Endpoint{ID: "none"}
	for range 2 {
		if err := l.net.Attach(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	out := command(t, l.inside(t, "none"), "ip", "-o", "link")
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, "lo: <LOOPBACK,UP") {
		t.Errorf("links of the namespace:\n%s", out)
	}
	if removed, err := l.net.Sync(t.Context(), ipam.Plan{e}); err != nil || len(removed) != 0 {
		t.Errorf("Sync removed %q, %v", removed, err)
	}
	if err := l.net.Detach(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if s := l.state(t); len(s) != 0 {
		t.Errorf("Detach left %q", s)
	}
}

// After a restart the plan is true again, whatever happened meanwhile, and connections are not disturbed.
func TestSync(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	keep := l.attached(t, "keep", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	stray := l.attached(t, "stray", ipam.Publish{Protocol: ipam.TCP, HostPort: 9090, ContainerPort: 80})
	cut := l.attached(t, "cut", ipam.Publish{Protocol: ipam.TCP, HostPort: 7070, ContainerPort: 80})
	lost := l.endpoint(t, "lost", ipam.Publish{Protocol: ipam.TCP, HostPort: 6060, ContainerPort: 80})
	want := ipam.Plan{keep, cut, lost}
	serve(t, l.inside(t, "keep"), "keep", 80)
	serve(t, l.inside(t, "cut"), "cut", 80)
	command(t, l.host, "ip", "link", "set", l.net.cfg.linkName("cut"), "nomaster")
	command(t, l.host, "nft", "delete", "element", "inet", "berth", "publish4", "{ tcp . 7070 }")
	command(t, l.host, "nft", "add", "element", "inet", "berth", "publish4", "{ tcp . 6060 : "+stray.IPv4.String()+" . 80 }")

	removed, err := l.net.Sync(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"publish4 9090/tcp", "publish6 9090/tcp", "publish4 6060/tcp", "link " + l.net.cfg.linkName("stray"), "network namespace stray"} {
		if !slices.Contains(removed, r) {
			t.Errorf("Sync did not remove %s, but %q", r, removed)
		}
	}
	serve(t, l.inside(t, "lost"), "lost", 80)
	for port, name := range map[uint16]string{8080: "keep", 7070: "cut", 6060: "lost"} {
		got, err := ask(t.Context(), l.client, "tcp", at(host4, port))
		if err != nil || !strings.HasPrefix(got, name+" from") {
			t.Errorf("%s on port %d: %q, %v", name, port, got, err)
		}
	}
	again, err := l.net.Sync(t.Context(), want)
	if err != nil || len(again) != 0 {
		t.Errorf("the second Sync removed %q, %v", again, err)
	}
	// The whole table flushed away, as by a careless firewall script.
	command(t, l.host, "nft", "flush", "ruleset")
	l.ensure(t)
	if _, err := l.net.Sync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t.Context(), l.client, "tcp", at(host6, 8080)); err != nil {
		t.Errorf("after the table was flushed: %q, %v", got, err)
	}
	if _, err := l.net.Sync(t.Context(), ipam.Plan{keep, keep}); !errors.Is(err, ipam.ErrBadPlan) {
		t.Errorf("a plan with a container twice: %v, want ErrBadPlan", err)
	}
	if _, err := l.net.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if s := l.state(t); len(s) != 0 {
		t.Errorf("an empty plan left %q", s)
	}
}

// A UDP client that does not stop sending finds the new container behind the port, although the kernel remembers where
// it sent to before.
func TestUDPFlowsFollowThePort(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	port := ipam.Publish{Protocol: ipam.UDP, HostPort: 5353, ContainerPort: 53}
	from := at(client4, 6000)
	to := at(host4, 5353)
	if got, err := ask(briefly(t), l.client, "udp", to, from); err == nil {
		t.Fatalf("nobody serves yet, but: %q", got)
	}
	for _, name := range []string{"old", "new"} {
		e := l.attached(t, name, port)
		serve(t, l.inside(t, name), name, 53)
		if got, err := ask(t.Context(), l.client, "udp", to, from); err != nil || got != name+" from 192.0.2.9" {
			t.Errorf("answer %q, %v; want one of %s", got, err, name)
		}
		if err := l.net.Detach(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, l.host, "host", 5353)
	if got, err := ask(t.Context(), l.client, "udp", to, from); err != nil || got != "host from 192.0.2.9" {
		t.Errorf("answer %q, %v; want one of a process of the host", got, err)
	}
}

// Somebody unbinds the namespace while a process lives on in it: the container gets a new one, and the link with it.
func TestNamespaceLost(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	e := l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	l.inside(t, "web") // open until the end of the test, as if by a process
	if err := removeNetNS(here, l.net.NetNS("web")); err != nil {
		t.Fatal(err)
	}
	if removed, err := l.net.Sync(t.Context(), ipam.Plan{e}); err != nil || len(removed) != 0 {
		t.Fatalf("Sync removed %q, %v", removed, err)
	}
	serve(t, l.inside(t, "web"), "web", 80)
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil || got != "web from 192.0.2.9" {
		t.Errorf("answer %q, %v", got, err)
	}
}

func TestNameFiles(t *testing.T) {
	l := newLab(t, nil)
	for _, shared := range []bool{false, true} {
		f, err := l.net.Files(t.Context(), FilesRequest{ID: "web", HostNetwork: shared, Hostname: "web"})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{f.Hosts, f.ResolvConf, f.Hostname} {
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err := l.net.RemoveFiles(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(f.Hosts); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after removal: %v", err)
		}
	}
}

// Files that containers share are written once, by whoever is first: the others must see what is mounted already.
func TestSharedNameFiles(t *testing.T) {
	l := newLab(t, nil)
	r := FilesRequest{ID: "task", Hostname: "first", Shared: true}
	var first os.FileInfo
	for range 2 {
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				if _, err := l.net.Files(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		writers.Wait()
		dir := filepath.Join(l.net.cfg.FilesDir, "task")
		info, err := os.Stat(filepath.Join(dir, "hostname"))
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !os.SameFile(first, info) {
			t.Error("the file was replaced")
		}
		first = info
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
			t.Errorf("%v, %v, want three files", entries, err)
		}
		r.Hostname = "second"
	}
}

// A context that is over stops every method before it begins, and the error says why.
func TestContext(t *testing.T) {
	l := newLab(t, nil)
	why := errors.New("the agent is stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	e := l.endpoint(t, "web")
	for name, call := range map[string]func() error{
		"Ensure":      func() error { return l.net.Ensure(ctx) },
		"Attach":      func() error { return l.net.Attach(ctx, e) },
		"Detach":      func() error { return l.net.Detach(ctx, e) },
		"Sync":        func() error { _, err := l.net.Sync(ctx, ipam.Plan{e}); return err },
		"Check":       func() error { _, err := l.net.Check(ctx); return err },
		"Files":       func() error { _, err := l.net.Files(ctx, FilesRequest{ID: "web"}); return err },
		"RemoveFiles": func() error { return l.net.RemoveFiles(ctx, "web") },
	} {
		if err := call(); !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", name, err, why)
		}
	}
	if _, err := l.net.nl.LinkByName("berth0"); err == nil {
		t.Error("a bridge was made nevertheless")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no pool":      {},
		"long name":    {Pool: ipam.DefaultPool(), Bridge: "a-name-of-16-byt"},
		"TMDS on IPv6": {Pool: ipam.DefaultPool(), TMDS: netip.MustParseAddrPort("[::1]:51679")},
		"no namespace": {Pool: ipam.DefaultPool(), NetNS: t.TempDir() + "/none"},
	} {
		if n, err := New(cfg); err == nil {
			t.Errorf("%s: it is accepted", name)
			_ = n.Close()
		}
	}
}

// A containerPortRange may be as long as the dynamic range of the host.
func TestLongRange(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	e := l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 20000, ContainerPort: 1000, Count: 20000})
	serve(t, l.inside(t, "web"), "last", 20999)
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 39999)); err != nil || got != "last from 192.0.2.9" {
		t.Errorf("answer %q, %v", got, err)
	}
	if removed, err := l.net.Sync(t.Context(), ipam.Plan{e}); err != nil || len(removed) != 0 {
		t.Errorf("Sync removed %d things, %v", len(removed), err)
	}
	if err := l.net.Detach(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if s := l.state(t); len(s) != 0 {
		t.Errorf("Detach left %d things", len(s))
	}
}

func TestManyAtOnce(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	const many = 20
	plan := make(ipam.Plan, many)
	for i := range plan {
		plan[i] = l.endpoint(t, fmt.Sprintf("c%d", i), ipam.Publish{Protocol: ipam.TCP, HostPort: uint16(8000 + i), ContainerPort: 80})
	}
	each := func(do func(ipam.Endpoint) error) {
		var wg sync.WaitGroup
		for _, e := range plan {
			wg.Go(func() {
				if err := do(e); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(func(e ipam.Endpoint) error { return l.net.Attach(t.Context(), e) })
	if removed, err := l.net.Sync(t.Context(), plan); err != nil || len(removed) != 0 {
		t.Errorf("Sync after attaching removed %q, %v", removed, err)
	}
	serve(t, l.inside(t, "c13"), "c13", 80)
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8013)); err != nil || got != "c13 from 192.0.2.9" {
		t.Errorf("answer %q, %v", got, err)
	}
	each(func(e ipam.Endpoint) error { return l.net.Detach(t.Context(), e) })
	if s := l.state(t); len(s) != 0 {
		t.Errorf("Detach left %q", s)
	}
}

// Links are removed as a group, unless somebody else's is in it.
func TestLinksAreRemovedTogether(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	command(t, l.host, "ip", "link", "add", "theirs", "type", "veth", "peer", "name", "theirs2")
	var names []string
	for _, shared := range []bool{false, true} {
		links := make(map[string]netlink.Link)
		for _, id := range []string{"a", "b", "c"} {
			l.attached(t, id)
			link, err := l.net.nl.LinkByName(l.net.cfg.linkName(id))
			if err != nil {
				t.Fatal(err)
			}
			links[l.net.cfg.linkName(id)] = link
			names = append(names, l.net.cfg.linkName(id))
		}
		if shared {
			command(t, l.host, "ip", "link", "set", "theirs", "group", fmt.Sprint(linkGroup))
			if err := l.net.unlink.removeGroup(links); err == nil {
				t.Error("a group with a link of others is removed")
			}
		}
		if err := l.net.unlink.remove(append(names, "bthnone")...); err != nil {
			t.Error(err)
		}
		out := command(t, l.host, "ip", "-o", "link")
		if strings.Contains(out, l.net.cfg.linkPrefix()) || !strings.Contains(out, "theirs@theirs2") {
			t.Errorf("links after removal:\n%s", out)
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	l := newLab(b, nil)
	l.ensure(b)
	var attached []ipam.Endpoint
	i := 0
	for b.Loop() {
		e := l.endpoint(b, fmt.Sprintf("c%d", i), ipam.Publish{Protocol: ipam.TCP, HostPort: uint16(20000 + i), ContainerPort: 80})
		if err := l.net.Attach(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		attached = append(attached, e)
		i++
		if len(attached) == 200 {
			b.StopTimer()
			for _, e := range attached {
				if err := l.net.Detach(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
			attached = attached[:0]
			b.StartTimer()
		}
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	l := newLab(b, nil)
	l.ensure(b)
	e := l.endpoint(b, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	for b.Loop() {
		if err := l.net.Attach(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		if err := l.net.Detach(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

package network

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports that are not published stay closed to other hosts that know the way to the pool, and the host's loopback is
// closed to containers, although the bridge routes to it.
func TestGuards(t *testing.T) {
	l := newLab(t, func(c *Config) { c.BlockIMDS = true })
	l.ensure(t)
	web := l.attached(t, "web")
	trusted := l.endpoint(t, "trusted")
	trusted.AllowIMDS = true
	if err := l.net.Attach(t.Context(), trusted); err != nil {
		t.Fatal(err)
	}
	inWeb, inTrusted := l.inside(t, "web"), l.inside(t, "trusted")
	serve(t, inWeb, "web", 80)
	serve(t, l.host, "host", 81)
	serve(t, l.client, "instance metadata", 80)
	imds4, imds6 := imds()
	command(t, l.client, "ip", "addr", "add", imds4.String()+"/32", "dev", "lo")
	command(t, l.client, "ip", "addr", "add", imds6.String()+"/128", "dev", "lo")
	command(t, l.client, "ip", "route", "add", l.net.cfg.Pool.IPv4.String(), "via", host4.String())
	command(t, l.client, "ip", "-6", "route", "add", l.net.cfg.Pool.IPv6.String(), "via", host6.String())

	for _, to := range []netip.Addr{web.IPv4, web.IPv6} {
		unanswered(t, "another host, of what is not published", l.client, "tcp", at(to, 80))
	}
	command(t, l.host, "nft", "flush", "chain", "inet", "berth", "forward")
	for _, to := range []netip.Addr{web.IPv4, web.IPv6} {
		if got, err := ask(t.Context(), l.client, "tcp", at(to, 80)); err != nil {
			t.Errorf("without the guard: %q, %v; the test proves nothing", got, err)
		}
	}
	l.ensure(t)

	// The container turns its own loopback off, so that packets for 127.0.0.1 leave for the bridge.
	command(t, inWeb, "sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
	command(t, inWeb, "ip", "rule", "add", "pref", "0", "to", "127.0.0.0/8", "lookup", "77")
	command(t, inWeb, "ip", "route", "add", "127.0.0.0/8", "via", gateway4(l), "dev", "eth0", "src", web.IPv4.String(), "table", "77")
	command(t, inWeb, "ip", "rule", "add", "pref", "10", "lookup", "local")
	command(t, inWeb, "ip", "rule", "del", "pref", "0", "lookup", "local")
	unanswered(t, "a container, of the host's loopback", inWeb, "tcp", at(loop4, 81))
	// It was our rule that dropped it, and nothing on the way.
	command(t, l.host, "nft", "flush", "chain", "inet", "berth", "input")
	if got, err := ask(t.Context(), inWeb, "tcp", at(loop4, 81)); err != nil {
		t.Errorf("without the guard: %q, %v; the test proves nothing", got, err)
	}

	for _, to := range []netip.Addr{imds4, imds6} {
		if got, err := ask(t.Context(), inWeb, "tcp", at(to, 80)); err == nil {
			t.Errorf("a container reached %v: %q", to, got)
		}
		if _, err := ask(t.Context(), inTrusted, "tcp", at(to, 80)); err != nil {
			t.Errorf("a container that may reach %v cannot: %v", to, err)
		}
	}
}

// An address tells who is calling: a container that takes another's gets no answer.
func TestSourceAddressesAreChecked(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	l.attached(t, "thief")
	victim := l.attached(t, "victim")
	serve(t, l.host, "host", 81)
	inThief := l.inside(t, "thief")
	gw4, gw6 := l.net.cfg.Pool.Gateway()
	for _, to := range []netip.Addr{gw4, gw6} {
		if got, err := ask(t.Context(), inThief, "udp", at(to, 81)); err != nil {
			t.Fatalf("with its own address: %q, %v", got, err)
		}
	}
	// The victim is away, so that only the guard keeps the thief from being it.
	command(t, l.host, "ip", "link", "set", l.net.cfg.linkName(victim.ID), "down")
	command(t, inThief, "ip", "addr", "add", victim.IPv4.String()+"/20", "dev", "eth0")
	command(t, inThief, "ip", "addr", "add", victim.IPv6.String()+"/64", "dev", "eth0", "nodad")
	for _, c := range []struct{ to, from netip.Addr }{{gw4, victim.IPv4}, {gw6, victim.IPv6}} {
		if got, err := ask(briefly(t), inThief, "udp", at(c.to, 81), at(c.from, 0)); err == nil {
			t.Errorf("with the address of another container: %q", got)
		}
	}
	command(t, l.host, "nft", "flush", "chain", "bridge", "berth", "prerouting")
	if got, err := ask(t.Context(), inThief, "udp", at(gw4, 81), at(victim.IPv4, 0)); err != nil {
		t.Errorf("without the guard: %q, %v; the test proves nothing", got, err)
	}
}

// A process of the host that forges the address of an awsvpc task does not even reach the agent: it could see the answers
// and go on by hand. (One of the bridge's pool is translated on its way.)
func TestForgedOnTheHost(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TMDS = netip.MustParseAddrPort("127.0.0.1:51679") })
	l.ensure(t)
	task := netip.MustParseAddr("169.254.172.9")
	command(t, l.host, "ip", "route", "add", l.net.cfg.LinkLocal.IPv4.String(), "dev", "berth0")
	serve(t, l.host, "agent", 51679)
	// begun tells whether a connection from the task's address got as far as half of a handshake.
	begun := func() bool {
		t.Helper()
		table := ""
		err := within(l.host, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: task.As4()}); err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: loop4.As4(), Port: 51679}); !errors.Is(err, unix.EINPROGRESS) {
				return err
			}
			text, err := os.ReadFile("/proc/thread-self/net/tcp6") // The server listens for both families.
			table = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		const synReceived = " 03 "
		return strings.Contains(table, synReceived)
	}
	if begun() {
		t.Error("the agent has begun to talk to who forges an address")
	}
	command(t, l.host, "nft", "flush", "chain", "inet", "berth", "input")
	if !begun() {
		t.Error("without the guard no connection began; the test proves nothing")
	}
}

func TestTaskMetadataAddress(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:51679", "169.254.170.2:51679"} {
		t.Run(listen, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.TMDS = netip.MustParseAddrPort(listen) })
			l.ensure(t)
			web := l.attached(t, "web")
			serve(t, l.host, "agent", 51679)
			tmds := at(metadataAddress(), 80)
			got, err := ask(t.Context(), l.inside(t, "web"), "tcp", tmds)
			if want := "agent from " + web.IPv4.String(); err != nil || got != want {
				t.Errorf("from a container: %q, %v; want %q", got, err, want)
			}
			got, err = ask(t.Context(), l.host, "tcp", tmds)
			if err != nil || !strings.HasPrefix(got, "agent from ") {
				t.Errorf("from the host: %q, %v", got, err)
			}
			command(t, l.client, "ip", "route", "add", metadataAddress().String(), "via", host4.String())
			for _, port := range []uint16{80, 51679} {
				unanswered(t, "from another host", l.client, "tcp", at(metadataAddress(), port))
			}
			command(t, l.host, "nft", "flush", "chain", "inet", "berth", "input")
			if got, err := ask(t.Context(), l.client, "tcp", at(metadataAddress(), 51679)); err != nil {
				t.Errorf("without the guard: %q, %v; the test proves nothing", got, err)
			}
		})
	}
}

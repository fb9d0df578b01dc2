package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// A lab is a host and another machine, each a network namespace, joined by a cable. The Network under test believes
// that the first is the host. Everything in it goes away with the namespaces.
//
//	client 192.0.2.9, 2001:db8:1::9 ───── 192.0.2.1, 2001:db8:1::1 host ── berth0 ── containers
type lab struct {
	dir          string
	host, client netns.NsHandle
	net          *Network
	leases       *ipam.Leases
}

// How long an answer may take, and how long none must come for silence to be believed. Packets cross no real wire.
const (
	patience = 20 * time.Second
	silence  = 250 * time.Millisecond
)

var (
	host4   = netip.MustParseAddr("192.0.2.1")
	host6   = netip.MustParseAddr("2001:db8:1::1")
	client4 = netip.MustParseAddr("192.0.2.9")
	client6 = netip.MustParseAddr("2001:db8:1::9")
)

func newLab(tb testing.TB, change func(*Config)) *lab {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: it makes network namespaces")
	}
	l := &lab{dir: tb.TempDir()}
	l.host = l.namespace(tb, "host")
	l.client = l.namespace(tb, "client")
	l.cable(tb)

	cfg := Config{
		Pool:     ipam.DefaultPool(),
		NetNSDir: filepath.Join(l.dir, "netns"),
		FilesDir: filepath.Join(l.dir, "files"),
		NetNS:    filepath.Join(l.dir, "host"),
		Log:      zap.NewNop(),
	}
	if change != nil {
		change(&cfg)
	}
	return l.second(tb, cfg)
}

// second is the same host with a Network of its own.
func (l *lab) second(tb testing.TB, cfg Config) *lab {
	tb.Helper()
	n, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		entries, err := os.ReadDir(cfg.NetNSDir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Error(err)
		}
		for _, e := range entries {
			if err := removeNetNS(here, n.NetNS(e.Name())); err != nil {
				tb.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	leases, err := ipam.New(cfg.Pool)
	if err != nil {
		tb.Fatal(err)
	}
	return &lab{dir: l.dir, host: l.host, client: l.client, net: n, leases: leases}
}

// here is the host to a test.
func here(fn func() error) error { return fn() }

func (l *lab) namespace(tb testing.TB, name string) netns.NsHandle {
	tb.Helper()
	path := filepath.Join(l.dir, name)
	tb.Cleanup(func() {
		if err := removeNetNS(here, path); err != nil {
			tb.Error(err)
		}
	})
	ns, err := openNetNS(here, path, containerSysctls(ipam.Endpoint{Addresses: ipam.Addresses{IPv6: host6}}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ns.Close() })
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatal(err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		tb.Fatal(err)
	}
	return ns
}

// cable joins host and client, and makes the client the host's default gateway.
func (l *lab) cable(tb testing.TB) {
	tb.Helper()
	hostSide, err := netlink.NewHandleAt(l.host, unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatal(err)
	}
	defer hostSide.Close()
	clientSide, err := netlink.NewHandleAt(l.client, unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatal(err)
	}
	defer clientSide.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	if err := hostSide.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(l.client)}); err != nil {
		tb.Fatal(err)
	}
	for _, end := range []struct {
		h              *netlink.Handle
		a4, a6, gw, g6 netip.Addr
	}{{hostSide, host4, host6, client4, client6}, {clientSide, client4, client6, netip.Addr{}, netip.Addr{}}} {
		link, err := end.h.LinkByName("up0")
		if err != nil {
			tb.Fatal(err)
		}
		if err := end.h.LinkSetUp(link); err != nil {
			tb.Fatal(err)
		}
		for _, p := range []netip.Prefix{netip.PrefixFrom(end.a4, 24), netip.PrefixFrom(end.a6, 64)} {
			if err := end.h.AddrAdd(link, linkAddr(p)); err != nil {
				tb.Fatal(err)
			}
		}
		for _, gw := range []netip.Addr{end.gw, end.g6} {
			if !gw.IsValid() {
				continue
			}
			if err := end.h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// endpoint leases addresses for a container.
func (l *lab) endpoint(tb testing.TB, id string, publish ...ipam.Publish) ipam.Endpoint {
	tb.Helper()
	a, err := l.leases.Lease(id)
	if err != nil {
		tb.Fatal(err)
	}
	return ipam.Endpoint{ID: id, Addresses: a, Ports: publish}
}

// attached makes the network of a container, after Ensure.
func (l *lab) attached(tb testing.TB, id string, publish ...ipam.Publish) ipam.Endpoint {
	tb.Helper()
	e := l.endpoint(tb, id, publish...)
	if err := l.net.Attach(tb.Context(), e); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (l *lab) ensure(tb testing.TB) {
	tb.Helper()
	if err := l.net.Ensure(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// inside opens a container's namespace.
func (l *lab) inside(tb testing.TB, id string) netns.NsHandle {
	tb.Helper()
	ns, err := netns.GetFromPath(l.net.NetNS(id))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ns.Close() })
	return ns
}

// serve answers every connection and datagram to a port with "NAME from ADDRESS", ADDRESS being who asked.
func serve(tb testing.TB, ns netns.NsHandle, name string, port uint16) {
	tb.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	err := within(ns, func() (err error) {
		var lc net.ListenConfig
		if tcp, err = lc.Listen(tb.Context(), "tcp", fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
		udp, err = lc.ListenPacket(tb.Context(), "udp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{}, 2) // one for each loop
	answer := func(a net.Addr) string {
		who := netip.MustParseAddrPort(a.String())
		return fmt.Sprintf("%s from %v\n", name, who.Addr().Unmap())
	}
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(answer(c.RemoteAddr())))
			_ = c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte(answer(from)), from)
		}
	}()
	tb.Cleanup(func() {
		_ = tcp.Close()
		_ = udp.Close()
		<-done
		<-done
	})
}

// unanswered fails the test if a request is answered. Mind that a UDP answer counts only if it comes from the address
// that was asked; serve does not see to that.
func unanswered(tb testing.TB, what string, ns netns.NsHandle, network string, to netip.AddrPort) {
	tb.Helper()
	if got, err := ask(briefly(tb), ns, network, to); err == nil {
		tb.Errorf("%s: asked %v and got %q", what, to, got)
	}
}

// briefly is a context for requests that nobody should answer.
func briefly(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), silence, errors.New("silence"))
	tb.Cleanup(cancel)
	return ctx
}

// ask sends one request out of a namespace and returns the answer.
func ask(ctx context.Context, ns netns.NsHandle, network string, to netip.AddrPort, from ...netip.AddrPort) (string, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(patience)
	}
	var c net.Conn
	err := within(ns, func() (err error) {
		d := net.Dialer{Deadline: deadline}
		if len(from) > 0 {
			d.LocalAddr = net.UDPAddrFromAddrPort(from[0])
		}
		c, err = d.DialContext(ctx, network, to.String())
		return err
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// state is what there is of ours: links, namespaces and elements, for comparisons.
func (l *lab) state(tb testing.TB) []string {
	tb.Helper()
	var out []string
	links, err := l.net.nl.LinkList()
	if err != nil {
		tb.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, l.net.cfg.linkPrefix()) {
			out = append(out, "link "+link.Attrs().Name)
		}
	}
	entries, err := os.ReadDir(l.net.cfg.NetNSDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, "netns "+e.Name())
	}
	var els []element
	err = l.net.nft.transact(func(c *nftables.Conn) (err error) {
		els, err = l.net.nft.current(c)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, el := range els {
		out = append(out, fmt.Sprintf("element %v %x %x", el, el.key, el.val))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.net.cfg.NetNSDir) {
			out = append(out, "mount "+line)
		}
	}
	return out
}

func tableText(t *testing.T, l *lab) string {
	t.Helper()
	return command(t, l.host, "nft", "list", "table", "inet", "berth") + command(t, l.host, "nft", "list", "table", "bridge", "berth")
}

func gateway4(l *lab) string {
	gw, _ := l.net.cfg.Pool.Gateway()
	return gw.String()
}

// command runs a tool in a namespace.
func command(t *testing.T, ns handle, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	var out []byte
	err := within(ns, func() (err error) {
		out, err = exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

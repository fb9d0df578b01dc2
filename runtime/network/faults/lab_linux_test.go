package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/fault"
)

// A lab is a namespace that faults are made in, here, and one that answers, far. Both go away with the test.
//
//	here: eth0 10.9.0.2, fd09::2 ───── eth0 10.9.0.1, fd09::1 :far
//	            10.9.0.4, fd09::4           10.9.0.3, fd09::3
type lab struct {
	path      string
	here, far netns.NsHandle
	faults    *Faults
}

var (
	here4, here6 = netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")
	here4b       = netip.MustParseAddr("10.9.0.4")
	far4, far6   = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")
	far4b, far6b = netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("fd09::3")
)

const (
	// patience is how long an answer may take, silence how long none must come to be believed.
	patience = 20 * time.Second
	silence  = 200 * time.Millisecond
)

func newLab(tb testing.TB) *lab {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: it makes network namespaces")
	}
	l := &lab{path: filepath.Join(tb.TempDir(), "here")}
	l.here, l.far = namespace(tb, l.path), namespace(tb, filepath.Join(tb.TempDir(), "far"))
	l.faults = New(Config{NetNS: l.path})
	l.cable(tb, "eth0")
	l.address(tb, l.here, "eth0", "10.9.0.2/24", "fd09::2/64", "10.9.0.4/24")
	l.address(tb, l.far, "eth0", "10.9.0.1/24", "fd09::1/64", "10.9.0.3/24", "fd09::3/64")
	l.defaultRoutes(tb, "eth0", far4, far6)
	return l
}

func (l *lab) place() Place { return Place{NetNS: l.path, Links: []string{"eth0"}, Task: "one"} }

func (l *lab) start(tb testing.TB, f fault.Fault) {
	tb.Helper()
	ok(tb, l.faults.Start(tb.Context(), l.place(), f))
	l.running(tb, f, true)
}

func (l *lab) stop(tb testing.TB, f fault.Fault) {
	tb.Helper()
	ok(tb, l.faults.Stop(tb.Context(), l.place(), f))
	l.running(tb, f, false)
}

func (l *lab) running(tb testing.TB, f fault.Fault, want bool) {
	tb.Helper()
	got, err := l.faults.Running(tb.Context(), l.place(), f)
	ok(tb, err)
	if got != want {
		tb.Errorf("%s running: %v", f.Kind, got)
	}
}

// untouched checks that nothing is left of any fault.
func (l *lab) untouched(tb testing.TB) {
	tb.Helper()
	if left := command(tb, l.here, "nft", "list", "ruleset"); left != "" {
		tb.Errorf("there is still\n%s", left)
	}
	if left := command(tb, l.here, "tc", "qdisc", "show"); strings.Contains(left, "prio") || strings.Contains(left, "netem") {
		tb.Errorf("there is still\n%s", left)
	}
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// namespace makes one and binds it at a path.
func namespace(tb testing.TB, path string) netns.NsHandle {
	tb.Helper()
	ok(tb, os.WriteFile(path, nil, 0o444))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // For good: the thread ends with the goroutine.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		for _, s := range []string{"all/accept_dad", "default/accept_dad"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+s, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				done <- err
				return
			}
		}
		done <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	ok(tb, <-done)
	tb.Cleanup(func() { ok(tb, unix.Unmount(path, unix.MNT_DETACH)) })
	ns, err := netns.GetFromPath(path)
	ok(tb, err)
	tb.Cleanup(func() { _ = ns.Close() })
	h := handle(tb, ns)
	lo, err := h.LinkByName("lo")
	ok(tb, err)
	ok(tb, h.LinkSetUp(lo))
	return ns
}

func handle(tb testing.TB, ns netns.NsHandle) *netlink.Handle {
	tb.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	ok(tb, err)
	tb.Cleanup(h.Close)
	return h
}

// cable joins the namespaces by links of a name.
func (l *lab) cable(tb testing.TB, name string) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	ok(tb, handle(tb, l.here).LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(l.far)}))
	for _, ns := range []netns.NsHandle{l.here, l.far} {
		h := handle(tb, ns)
		link, err := h.LinkByName(name)
		ok(tb, err)
		ok(tb, h.LinkSetUp(link))
	}
}

func (l *lab) address(tb testing.TB, ns netns.NsHandle, link string, all ...string) {
	tb.Helper()
	h := handle(tb, ns)
	at, err := h.LinkByName(link)
	ok(tb, err)
	for _, a := range all {
		addr, err := netlink.ParseAddr(a)
		ok(tb, err)
		addr.Flags = unix.IFA_F_NODAD
		ok(tb, h.AddrAdd(at, addr))
	}
}

func (l *lab) defaultRoutes(tb testing.TB, link string, by ...netip.Addr) {
	tb.Helper()
	h := handle(tb, l.here)
	at, err := h.LinkByName(link)
	ok(tb, err)
	for _, gw := range by {
		ok(tb, h.RouteAdd(&netlink.Route{LinkIndex: at.Attrs().Index, Gw: gw.AsSlice(), Priority: at.Attrs().Index}))
	}
}

// inside runs fn in a namespace, in which what it opens stays.
func inside(ns netns.NsHandle, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // For good.
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// echo answers datagrams and connections to a port of a namespace, from the address that was asked.
func echo(tb testing.TB, ns netns.NsHandle, address netip.Addr, port uint16) {
	tb.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	at := netip.AddrPortFrom(address, port).String()
	ok(tb, inside(ns, func() (err error) {
		var lc net.ListenConfig
		if tcp, err = lc.Listen(tb.Context(), "tcp", at); err != nil {
			return err
		}
		udp, err = lc.ListenPacket(tb.Context(), "udp", at)
		return err
	}))
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("!"))
			_ = c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 64)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
	tb.Cleanup(func() {
		_, _ = tcp.Close(), udp.Close()
		<-done
		<-done
	})
}

// dial is a connection out of a namespace.
func dial(ctx context.Context, ns netns.NsHandle, network string, to netip.AddrPort) (c net.Conn, err error) {
	err = inside(ns, func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, to.String())
		return err
	})
	return c, err
}

// ask sends a request out of a namespace and waits for the answer. That sending fails is an error of the test: lost is
// lost, and not refused.
func ask(tb testing.TB, ns netns.NsHandle, network string, to netip.AddrPort, wait time.Duration) bool {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), wait, errors.New("no answer"))
	defer cancel()
	c, err := dial(ctx, ns, network, to)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	ok(tb, c.SetDeadline(time.Now().Add(wait)))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); errors.Is(err, unix.EPERM) {
			return false
		} else if err != nil {
			tb.Fatal(err)
		}
	}
	_, err = c.Read(make([]byte, 8))
	return err == nil
}

// answered demands an answer, or that there is none.
func answered(tb testing.TB, want bool, ns netns.NsHandle, network string, to netip.AddrPort) {
	tb.Helper()
	wait := patience
	if !want {
		wait = silence
	}
	if got := ask(tb, ns, network, to, wait); got != want {
		tb.Errorf("%s to %v answered: %v", network, to, got)
	}
}

// command runs a tool in a namespace.
func command(tb testing.TB, ns netns.NsHandle, name string, args ...string) string {
	tb.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tb.Skipf("needs %s: %v", name, err)
	}
	var out bytes.Buffer
	err := inside(ns, func() error {
		cmd := exec.CommandContext(tb.Context(), name, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	if err != nil {
		tb.Fatal(fmt.Errorf("%s %q: %w\n%s", name, args, err, out.String()))
	}
	return out.String()
}

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

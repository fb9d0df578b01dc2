package ports

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/berthd/berth/ipam"
)

// hold binds a free port of the host and returns it.
func hold(t *testing.T, protocol ipam.Protocol) uint16 {
	t.Helper()
	for range 20 {
		n := free(t)
		c, err := HostBinder{}.Bind(protocol, n)
		if errors.Is(err, ErrInUse) {
			continue // somebody was faster
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return n
	}
	t.Fatal("found no free port")
	return 0
}

func free(t *testing.T) uint16 {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A held port can be taken by nobody, on no address, not even by those who ask to share it.
func TestHeldPortIsTaken(t *testing.T) {
	var lc net.ListenConfig // sets SO_REUSEADDR
	n := hold(t, ipam.TCP)
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "[::1]", "[::]", ""} {
		if l, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", host, n)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen on %s:%d: %v, %v; want it in use", host, n, l, err)
		}
	}
	u := hold(t, ipam.UDP)
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "[::1]", "[::]"} {
		if c, err := lc.ListenPacket(t.Context(), "udp", fmt.Sprintf("%s:%d", host, u)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen for datagrams on %s:%d: %v, %v; want it in use", host, u, c, err)
		}
	}
	// The other protocol's port of the same number is another port.
	if c, err := (HostBinder{}).Bind(ipam.UDP, n); err == nil {
		_ = c.Close()
	} else if !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}

// A connection to a held port is refused at once: nobody will ever accept it.
func TestHeldPortRefuses(t *testing.T) {
	n := hold(t, ipam.TCP)
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		var d net.Dialer
		if c, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", host, n)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, %v; want it refused", host, c, err)
		}
	}
}

func TestForeignPortIsReportedWithItsHolder(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listen(t, addr)
		t.Cleanup(func() { _ = l.Close() })
		n := netip.MustParseAddrPort(l.Addr().String()).Port()
		tab, err := New(Config{Binder: HostBinder{}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tab.Lease(owner("a"), []ipam.Publish{tcp(n, 80, 0)})
		used, ok := errors.AsType[*InUseError](err)
		if !ok || used.Process.PID != os.Getpid() || used.Process.Name == "" || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v; want this process, pid %d", addr, err, os.Getpid())
		}
	}
}

// Connections that linger in TIME_WAIT after their server has gone are no reason to refuse its port.
func TestPortWithLingeringConnections(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	n := netip.MustParseAddrPort(l.Addr().String()).Port()
	var d net.Dialer
	client, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// Who closes first has the connection linger.
	if err := errors.Join(server.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Fatal("the server did not close")
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := bind(ipam.TCP, n, alone)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("nothing lingers (%v, %v), so the test proves nothing", s, err)
	}
	c, err := HostBinder{}.Bind(ipam.TCP, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	var lc net.ListenConfig
	if l, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", n)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("somebody else can listen: %v, %v", l, err)
	}
}

func TestReleaseLetsGo(t *testing.T) {
	tab, err := New(Config{Dynamic: Range{First: 20000, Last: 29999}, Binder: HostBinder{}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tab.Lease(owner("a"), []ipam.Publish{tcp(0, 80, 5), udp(0, 53)})
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Release(owner("a")); err != nil {
		t.Fatal(err)
	}
	if again, err := tab.Lease(owner("b"), got); err != nil {
		t.Errorf("%v is not free again: %v, %v", got, again, err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkLease(b *testing.B) {
	tab, err := New(Config{Dynamic: Range{First: 20000, Last: 29999}, Binder: HostBinder{}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := tab.Lease(owner("a"), []ipam.Publish{tcp(0, 80, 0)}); err != nil {
			b.Fatal(err)
		}
		if err := tab.Release(owner("a")); err != nil {
			b.Fatal(err)
		}
	}
}

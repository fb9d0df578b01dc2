package taskmeta

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A crowd of connections from one address keeps nobody else out, and those that
// end make room again.
func TestCrowd(t *testing.T) {
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	crowd := netip.MustParseAddr("127.0.0.2")
	g := newGuardedListener(inner, NewIndex())
	g.most = func(netip.Addr) int { return 3 }
	accepted := make(chan net.Conn, 8)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := g.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		_ = g.Close()
		<-ended
	})
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp4", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var ours []net.Conn
	for range 3 {
		dial(crowd.String())
		ours = append(ours, <-accepted)
	}
	refused := dial(crowd.String())
	_ = refused.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the fourth: %v, want the end", err)
	}
	dial("127.0.0.3")
	other := <-accepted
	for range 2 { // closing twice makes room once
		_ = ours[0].Close()
	}
	dial(crowd.String())
	ours[0] = <-accepted
	for _, conn := range append(ours, other) {
		_ = conn.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) != 0 {
		t.Errorf("remembered: %v", g.open)
	}
}

// A container may have fewer connections than the host.
func TestCrowdOfContainer(t *testing.T) {
	index := NewIndex()
	task := vpcTask()
	index.Put(task)
	g := newGuardedListener(nil, index)
	if n := g.most(task.Endpoints[""].IPv4); n != mostOfContainer {
		t.Errorf("a container may have %d", n)
	}
	if n := g.most(netip.MustParseAddr("127.0.0.1")); n != mostOfHost {
		t.Errorf("the host may have %d", n)
	}
}

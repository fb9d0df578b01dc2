package netns

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/await"
)

// namespace is a network namespace of a test, kept by a process that does nothing.
type namespace struct {
	pid  int
	path string
	end  func()
}

func newNamespace(tb testing.TB) namespace {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: makes network namespaces")
	}
	for _, tool := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			tb.Skipf("needs %s: %v", tool, err)
		}
	}
	cmd := exec.CommandContext(tb.Context(), "unshare", "--net", "sh", "-c", "echo ready; read end")
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := false
	n := namespace{pid: cmd.Process.Pid, path: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)}
	n.end = func() {
		if !ended {
			ended = true
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	tb.Cleanup(n.end)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		tb.Fatalf("cannot make a network namespace: %v", err)
	}
	return n
}

// ip runs ip(8) inside the namespace.
func (n namespace) ip(tb testing.TB, args ...string) {
	tb.Helper()
	all := append([]string{"-t", strconv.Itoa(n.pid), "-n", "ip"}, args...)
	if out, err := exec.CommandContext(tb.Context(), "nsenter", all...).CombinedOutput(); err != nil {
		tb.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// pair makes two namespaces joined by a veth pair, eth0 in each, 10.9.0.1 and 10.9.0.2. Something has been sent then.
func pair(tb testing.TB) (a, b namespace) {
	tb.Helper()
	a, b = newNamespace(tb), newNamespace(tb)
	a.ip(tb, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(b.pid))
	for i, n := range []namespace{a, b} {
		n.ip(tb, "link", "set", "lo", "up")
		n.ip(tb, "address", "add", fmt.Sprintf("10.9.0.%d/24", i+1), "dev", "eth0")
		n.ip(tb, "link", "set", "eth0", "up")
	}
	r := open(tb, b.path, metrics.EthernetLinks)
	await.That(tb, "a way from end to end", func() bool {
		a.send(tb, [4]byte{10, 9, 0, 2}, 1) // The kernel drops it for as long as the link has no carrier.
		return read(tb, r).Total.RxBytes > 0
	})
	return a, b
}

// send sends one UDP datagram from inside the namespace.
func (n namespace) send(tb testing.TB, to [4]byte, size int) {
	tb.Helper()
	err := inside(n.path, func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(s) }()
		return unix.Sendto(s, make([]byte, size), 0, &unix.SockaddrInet4{Port: 9, Addr: to})
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, path string, links metrics.Links) *Reader {
	tb.Helper()
	r, err := Open(path, links)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

func read(tb testing.TB, r *Reader) metrics.Network {
	tb.Helper()
	n, err := r.Read()
	if err != nil {
		tb.Fatal(err)
	}
	return *n
}

func TestTrafficOfAPair(t *testing.T) {
	a, b := pair(t)
	readA, readB := open(t, a.path, metrics.EthernetLinks), open(t, b.path, metrics.EthernetLinks)
	beforeA, beforeB := read(t, readA), read(t, readB)
	if beforeA.ID == 0 || beforeA.ID == beforeB.ID {
		t.Errorf("identities %d and %d", beforeA.ID, beforeB.ID)
	}
	const size, count = 1000, 20
	for range count {
		a.send(t, [4]byte{10, 9, 0, 2}, size)
		a.send(t, [4]byte{127, 0, 0, 1}, size) // loopback must not count
	}
	var afterA, afterB metrics.Network
	await.That(t, "everything received", func() bool {
		afterB = read(t, readB)
		return afterB.Total.RxBytes-beforeB.Total.RxBytes >= size*count
	})
	afterA = read(t, readA)
	sent := afterA.Total.TxBytes - beforeA.Total.TxBytes
	if sent < size*count || sent > size*count+count*42+20_000 {
		t.Errorf("sent %d bytes in datagrams of %d in all", sent, size*count)
	}
	if packets := afterA.Total.TxPackets - beforeA.Total.TxPackets; packets < count || packets > 2*count+100 {
		t.Errorf("sent %d packets, %d of them ours", packets, count)
	}
	for _, n := range []metrics.Network{afterA, afterB} {
		if len(n.Interfaces) != 1 || n.Interfaces[0].Name != "eth0" || n.Interfaces[0].Traffic != n.Total {
			t.Errorf("read %+v, want eth0 alone", n)
		}
	}
}

func TestDeviceLinksLeaveVethOut(t *testing.T) {
	a, _ := pair(t)
	a.ip(t, "link", "add", "ecs-eth0", "type", "veth", "peer", "name", "other")
	if n := read(t, open(t, a.path, metrics.DeviceLinks)); len(n.Interfaces) != 1 || n.Interfaces[0].Name != "eth0" || n.Total.TxBytes == 0 {
		t.Errorf("read %+v, want eth0, which stands for the task's own", n)
	}
	a.ip(t, "link", "set", "eth0", "down")
	a.ip(t, "link", "set", "eth0", "name", "side")
	if n := read(t, open(t, a.path, metrics.DeviceLinks)); len(n.Interfaces) != 0 || n.Total != (metrics.Traffic{}) {
		t.Errorf("read %+v, want nothing", n)
	}
}

func TestLinksThatComeGoAndAreRenamed(t *testing.T) {
	a, _ := pair(t)
	r := open(t, a.path, metrics.EthernetLinks)
	names := func() []string {
		var names []string
		for _, i := range read(t, r).Interfaces {
			names = append(names, i.Name)
		}
		return names
	}
	if got := names(); !slices.Equal(got, []string{"eth0"}) {
		t.Fatalf("at first %v", got)
	}
	a.ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
	got := names()
	slices.Sort(got)
	if !slices.Equal(got, []string{"eth0", "eth1", "eth2"}) {
		t.Errorf("with a new pair %v", got)
	}
	a.ip(t, "link", "delete", "eth1")
	if got := names(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("without it %v", got)
	}
	a.ip(t, "link", "set", "eth0", "down")
	a.ip(t, "link", "set", "eth0", "name", "uplink")
	for range relearnEvery {
		names()
	}
	if got := names(); !slices.Equal(got, []string{"uplink"}) {
		t.Errorf("after the renaming %v", got)
	}
}

// TestANamespaceIsLetGo proves that a forgotten Reader does not keep a dead namespace, and with it the peer of its veth.
func TestANamespaceIsLetGo(t *testing.T) {
	a, b := pair(t)
	r := open(t, a.path, metrics.EthernetLinks)
	peer := open(t, b.path, metrics.EthernetLinks)
	read(t, r)
	a.end()
	if n := read(t, peer); len(n.Interfaces) != 1 {
		t.Fatalf("the peer went away before the Reader let go: %+v", n)
	}
	for range 2 { // again, too
		if _, err := r.Read(); !errors.Is(err, metrics.ErrGone) {
			t.Fatalf("reading a dead namespace: %v, want ErrGone", err)
		}
	}
	await.That(t, "the peer gone", func() bool { return len(read(t, peer).Interfaces) == 0 })
}

func TestClosedReader(t *testing.T) {
	a := newNamespace(t)
	r := open(t, a.path, metrics.EthernetLinks)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Read(); !errors.Is(err, metrics.ErrGone) {
		t.Errorf("reading after Close: %v, want ErrGone", err)
	}
}

func TestOpenOfNothing(t *testing.T) {
	ordinary := filepath.Join(t.TempDir(), "ordinary")
	if err := os.WriteFile(ordinary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/proc/self/ns/nothing", filepath.Dir(ordinary) + "/absent", ordinary} {
		if _, err := Open(path, metrics.EthernetLinks); !errors.Is(err, metrics.ErrGone) {
			t.Errorf("opening %s: %v, want ErrGone", path, err)
		}
	}
}

// TestThreadsStayAtHome looks at every thread of the process after many visits to another namespace, and at the main thread, which
// is what /proc/self shows, during each.
func TestThreadsStayAtHome(t *testing.T) {
	a := newNamespace(t)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			err := inside(a.path, func() error {
				if at, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || at == home {
					t.Errorf("not inside: %s, %v", at, err)
				}
				if at, err := os.Readlink("/proc/self/ns/net"); err != nil || at != home {
					t.Errorf("the main thread is in %s, want %s (%v)", at, home, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(links) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at != home {
			t.Errorf("%s is %s, want %s", link, at, home)
		}
	}
}

// TestAgreesWithSysfs compares the counters of this process's own namespace with those of sysfs, before and after.
func TestAgreesWithSysfs(t *testing.T) {
	r, err := Open("/proc/self/ns/net", metrics.EthernetLinks)
	if err != nil {
		t.Skipf("needs to enter its own namespace (root): %v", err)
	}
	defer func() { _ = r.Close() }()
	names := make(map[string]bool)
	kinds, err := filepath.Glob("/sys/class/net/*/type")
	if err != nil || len(kinds) == 0 {
		t.Skipf("needs sysfs: %v", err)
	}
	for _, kind := range kinds {
		if b, err := os.ReadFile(kind); err == nil && strings.TrimSpace(string(b)) == "1" {
			names[filepath.Base(filepath.Dir(kind))] = true
		}
	}
	counter := func(name, file string) uint64 {
		b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "statistics", file))
		if err != nil {
			return 0
		}
		n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		return n
	}
	fields := map[string]func(t metrics.Traffic) uint64{
		"rx_bytes": func(t metrics.Traffic) uint64 { return t.RxBytes }, "tx_bytes": func(t metrics.Traffic) uint64 { return t.TxBytes },
		"rx_packets": func(t metrics.Traffic) uint64 { return t.RxPackets }, "tx_packets": func(t metrics.Traffic) uint64 { return t.TxPackets },
		"rx_errors": func(t metrics.Traffic) uint64 { return t.RxErrors }, "tx_errors": func(t metrics.Traffic) uint64 { return t.TxErrors },
		"rx_dropped": func(t metrics.Traffic) uint64 { return t.RxDropped }, "tx_dropped": func(t metrics.Traffic) uint64 { return t.TxDropped },
	}
	before := make(map[string]uint64)
	for name := range names {
		for file := range fields {
			before[name+file] = counter(name, file)
		}
	}
	n := read(t, r)
	for _, i := range n.Interfaces {
		if !names[i.Name] {
			continue // came after the listing: other tests make links
		}
		for file, of := range fields {
			low, high := before[i.Name+file], counter(i.Name, file)
			if got := of(i.Traffic); high >= low && (got < low || got > high) {
				t.Errorf("%s of %s is %d, sysfs says %d to %d", file, i.Name, got, low, high)
			}
		}
		delete(names, i.Name)
	}
	for name := range maps.Keys(names) {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			t.Errorf("%s was not read", name)
		}
	}
}

func TestWhichLinksCount(t *testing.T) {
	tests := []struct {
		link             link
		ethernet, device bool
	}{
		{link{name: "eth0", hardware: unix.ARPHRD_ETHER}, true, true},
		{link{name: "eth0.5", kind: "vlan", hardware: unix.ARPHRD_ETHER}, true, true},
		{link{name: "eth0", kind: "veth", hardware: unix.ARPHRD_ETHER}, true, true},
		{link{name: "ecs-eth0", kind: "veth", hardware: unix.ARPHRD_ETHER}, true, false},
		{link{name: "lo", hardware: unix.ARPHRD_LOOPBACK, loopback: true}, false, false},
		{link{name: "sit0", kind: "sit", hardware: unix.ARPHRD_SIT}, false, false},
		{link{name: "wg0", kind: "wireguard", hardware: unix.ARPHRD_NONE}, false, false},
	}
	for _, tt := range tests {
		if got := tt.link.counts(metrics.EthernetLinks); got != tt.ethernet {
			t.Errorf("%s counts as Ethernet: %v", tt.link.name, got)
		}
		if got := tt.link.counts(metrics.DeviceLinks); got != tt.device {
			t.Errorf("%s counts as device: %v", tt.link.name, got)
		}
	}
}

// FuzzMessages feeds anything to the parsers: they must not panic or loop.
func FuzzMessages(f *testing.F) {
	f.Add(linkRequest())
	f.Add(statsRequest())
	f.Add([]byte{20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		c := newConn(-1)
		_, _ = c.messages(b, func(kind uint16, body []byte) {
			parseLink(kind, body)
			parseStats(kind, body)
		})
		parseLink(unix.RTM_NEWLINK, b)
		parseStats(unix.RTM_NEWSTATS, b)
	})
}

func BenchmarkRead(b *testing.B) {
	a, _ := pair(b)
	r := open(b, a.path, metrics.EthernetLinks)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	a := newNamespace(b)
	for b.Loop() {
		r, err := Open(a.path, metrics.EthernetLinks)
		if err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

package ports

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/ipam"
)

// fakeHost is a host of which other processes have some ports.
type fakeHost struct {
	mu      sync.Mutex // guards all
	foreign map[port]Process
	bound   map[port]bool
	broken  error // what binding says, if anything
}

func newFakeHost(foreign ...port) *fakeHost {
	h := &fakeHost{foreign: make(map[port]Process), bound: make(map[port]bool)}
	for _, p := range foreign {
		h.foreign[p] = Process{PID: 7, Name: "nginx"}
	}
	return h
}

func (h *fakeHost) Bind(protocol ipam.Protocol, number uint16) (io.Closer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := port{protocol, number}
	_, foreign := h.foreign[k]
	switch {
	case h.broken != nil:
		return nil, h.broken
	case foreign || h.bound[k]:
		return nil, &InUseError{Protocol: protocol, Port: number, Err: errors.New("address already in use")}
	}
	h.bound[k] = true
	return closer(func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.bound[k] {
			return fmt.Errorf("%v is closed twice", k)
		}
		delete(h.bound, k)
		return nil
	}), nil
}

func (h *fakeHost) Holder(protocol ipam.Protocol, number uint16) Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.foreign[port{protocol, number}]
}

// ports lists what is bound, as 80/tcp, sorted.
func (h *fakeHost) ports() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for k := range maps.Keys(h.bound) {
		out = append(out, fmt.Sprintf("%d/%s", k.number, k.protocol))
	}
	slices.Sort(out)
	return out
}

type closer func() error

func (c closer) Close() error { return c() }

func table(t *testing.T, h Binder, dynamic string, reserved ...uint16) *Table {
	t.Helper()
	r, err := ParseRange(dynamic)
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Config{Dynamic: r, ReservedTCP: reserved, Binder: h})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func owner(task string) Owner { return Owner{Task: task, Container: task + "-web"} }

func tcp(host, container, count uint16) ipam.Publish {
	return ipam.Publish{Protocol: ipam.TCP, HostPort: host, ContainerPort: container, Count: count}
}

func udp(host, container uint16) ipam.Publish {
	return ipam.Publish{Protocol: ipam.UDP, HostPort: host, ContainerPort: container}
}

func TestLease(t *testing.T) {
	foreign := port{ipam.TCP, 104}
	for _, c := range []struct {
		name  string
		wants [][]ipam.Publish // task after task
		want  []string         // what each got, or the error
	}{
		{"fixed", [][]ipam.Publish{{tcp(80, 8080, 0), udp(80, 8080)}}, []string{"[80->8080/tcp 80->8080/udp]"}},
		{"fixed, twice", [][]ipam.Publish{{tcp(80, 1, 0)}, {tcp(80, 1, 0)}}, []string{
			"[80->1/tcp]", "host port 80/tcp is in use by task t0",
		}},
		{"fixed, foreign", [][]ipam.Publish{{tcp(104, 1, 0)}}, []string{
			"host port 104/tcp is in use by another process (nginx, pid 7)",
		}},
		{"fixed, reserved", [][]ipam.Publish{{tcp(102, 1, 0)}}, []string{"[102->1/tcp]"}},
		{"fixed range", [][]ipam.Publish{{tcp(105, 1, 2)}, {tcp(0, 1, 0)}}, []string{"[105-106->1-2/tcp]", "[100->1/tcp]"}},
		{"dynamic goes on upwards and around", [][]ipam.Publish{
			{tcp(0, 1, 0)}, {udp(0, 1)}, {tcp(0, 1, 0)}, {tcp(0, 1, 0), tcp(0, 2, 0)}, {tcp(0, 1, 0)}, {tcp(0, 1, 0)},
		}, []string{
			"[100->1/tcp]", "[101->1/udp]", "[103->1/tcp]", "[105->1/tcp 106->2/tcp]", "[107->1/tcp]", "[101->1/tcp]",
		}},
		{"dynamic keeps out of the way of fixed", [][]ipam.Publish{{tcp(0, 1, 0), tcp(100, 2, 0)}}, []string{
			"[101->1/tcp 100->2/tcp]",
		}},
		{"contiguous", [][]ipam.Publish{{tcp(0, 1, 3)}, {tcp(0, 1, 2)}, {tcp(0, 1, 1)}}, []string{
			"[105-107->1-3/tcp]", "[100-101->1-2/tcp]", "[103->1/tcp]",
		}},
		{"no run is long enough", [][]ipam.Publish{{tcp(0, 1, 4)}, {tcp(0, 1, 9)}, {tcp(0, 1, 3)}}, []string{
			"4 contiguous host ports are unavailable", "9 contiguous host ports are unavailable", "[105-107->1-3/tcp]",
		}},
		{"exhausted", [][]ipam.Publish{{tcp(0, 1, 3), tcp(0, 1, 2)}, {tcp(0, 1, 0)}, {tcp(0, 1, 0)}}, []string{
			"[105-107->1-3/tcp 100-101->1-2/tcp]", "[103->1/tcp]", "a host port is unavailable",
		}},
		{"all or nothing", [][]ipam.Publish{{tcp(0, 1, 0), tcp(104, 2, 0)}, {tcp(0, 1, 0)}}, []string{
			"host port 104/tcp is in use by another process (nginx, pid 7)", "[100->1/tcp]",
		}},
		{"nonsense", [][]ipam.Publish{{{Protocol: "sctp", ContainerPort: 1}}, {tcp(0, 0, 0)}, {tcp(65535, 1, 2)}}, []string{
			`bad network plan: protocol "sctp" of port 1 is neither tcp nor udp`,
			"bad network plan: a published container port is 0",
			"bad network plan: ports 65535-65536->1-2/tcp go beyond 65535",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newFakeHost(foreign)
			tab := table(t, host, "100-107", 102)
			var got []string
			for i, want := range c.wants {
				leases, err := tab.Lease(owner(fmt.Sprintf("t%d", i)), want)
				if err != nil {
					got = append(got, err.Error())
					continue
				}
				got = append(got, fmt.Sprint(leases))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			for i := range c.wants {
				if err := tab.Release(owner(fmt.Sprintf("t%d", i))); err != nil {
					t.Error(err)
				}
			}
			if left := host.ports(); len(left) != 0 {
				t.Errorf("still bound: %q", left)
			}
		})
	}
}

// A client may still hold on to a port that was just released, so the search goes on behind it.
func TestReleasedPortsRest(t *testing.T) {
	tab := table(t, newFakeHost(), "100-107")
	for _, want := range []uint16{100, 103, 100} {
		got, err := tab.Lease(owner("a"), []ipam.Publish{tcp(0, 80, 3)})
		if err != nil || got[0].HostPort != want {
			t.Errorf("leased %v, %v; want 3 from %d", got, err, want)
		}
		if err := tab.Release(owner("a")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	host := newFakeHost(port{ipam.TCP, 100})
	tab := table(t, host, "100-100")
	_, err := tab.Lease(owner("a"), []ipam.Publish{tcp(100, 1, 0)})
	if used, ok := errors.AsType[*InUseError](err); !ok || !errors.Is(err, ErrInUse) || used.Process.Name != "nginx" {
		t.Errorf("fixed: %v", err)
	}
	_, err = tab.Lease(owner("a"), []ipam.Publish{tcp(0, 1, 0)})
	if none, ok := errors.AsType[*UnavailableError](err); !ok || !errors.Is(err, ErrUnavailable) || none.Count != 1 {
		t.Errorf("dynamic: %v", err)
	}
	host.broken = errors.New("permission denied")
	for _, p := range []uint16{0, 80} {
		if _, err := tab.Lease(owner("a"), []ipam.Publish{tcp(p, 1, 0)}); !errors.Is(err, host.broken) {
			t.Errorf("host port %d: %v, want what binding says", p, err)
		}
	}
}

func TestRestore(t *testing.T) {
	host := newFakeHost(port{ipam.TCP, 101})
	tab := table(t, host, "100-103")
	leases := []ipam.Publish{tcp(100, 80, 3)}
	err := tab.Restore(owner("a"), leases)
	if used, ok := errors.AsType[*InUseError](err); !ok || used.Port != 101 || used.Process.Name != "nginx" {
		t.Errorf("a port that nginx took: %v", err)
	}
	if diff := cmp.Diff([]string{"100/tcp", "102/tcp"}, host.ports()); diff != "" {
		t.Error(diff)
	}
	err = tab.Restore(owner("b"), leases)
	if used, ok := errors.AsType[*InUseError](err); !ok || used.Owner != owner("a") {
		t.Errorf("another's ports: %v", err)
	}
	if _, err := tab.Lease(owner("b"), []ipam.Publish{tcp(101, 1, 0)}); !errors.Is(err, ErrInUse) {
		t.Errorf("a restored port that could not be bound is given away: %v", err)
	}
	// nginx goes; the second attempt holds the port.
	delete(host.foreign, port{ipam.TCP, 101})
	if err := tab.Restore(owner("a"), leases); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if got, err := tab.Lease(owner("c"), []ipam.Publish{tcp(0, 1, 0)}); err != nil || got[0].HostPort != 103 {
		t.Errorf("dynamic beside restored ones: %v, %v", got, err)
	}
	if err := tab.Restore(owner("d"), []ipam.Publish{{}}); !errors.Is(err, ipam.ErrBadPlan) {
		t.Errorf("an empty lease: %v", err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	if err := tab.Release(owner("a")); err != nil {
		t.Errorf("release after close: %v", err)
	}
	if left := host.ports(); len(left) != 0 {
		t.Errorf("still bound: %q", left)
	}
}

func TestConcurrentLeasesDoNotClash(t *testing.T) {
	host := newFakeHost()
	tab := table(t, host, "1000-1099")
	got := make([][]ipam.Publish, 50)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = tab.Lease(owner(fmt.Sprint(i)), []ipam.Publish{tcp(0, 1, 0), tcp(0, 2, 0)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := make(map[uint16]bool)
	for _, leases := range got {
		for _, p := range leases {
			if seen[p.HostPort] {
				t.Errorf("port %d is leased twice", p.HostPort)
			}
			seen[p.HostPort] = true
		}
	}
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]string{
		"32768-60999":    "32768-60999",
		"32768\t60999\n": "32768-60999",
		" 1 - 2 ":        "1-2",
		"7-7":            "7-7",
		"":               "",
		"7":              "",
		"0-7":            "",
		"8-7":            "",
		"1-65536":        "",
		"a-b":            "",
		"1 2 3":          "",
		"1-":             "",
	} {
		got, err := ParseRange(s)
		if want == "" && !errors.Is(err, ErrBadRange) || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: %v, %v; want %q", s, got, err, want)
		}
	}
	if _, err := New(Config{Dynamic: Range{First: 9, Last: 3}}); !errors.Is(err, ErrBadRange) {
		t.Errorf("New: %v, want ErrBadRange", err)
	}
	tab, err := New(Config{})
	if err != nil || tab.dynamic != Fallback() {
		t.Errorf("New without a range: %v", err)
	}
}

func TestBindings(t *testing.T) {
	leases := []ipam.Publish{tcp(32768, 80, 0), tcp(40000, 8000, 3), tcp(41000, 9000, 1)}
	show := func(f Families) string {
		var out []string
		for _, b := range Bindings(leases, f) {
			if b.IsRange() {
				last := uint16(b.Len() - 1)
				out = append(out, fmt.Sprintf("%v %d-%d %d-%d", b.BindIP, b.ContainerPort, b.ContainerPort+last, b.HostPort, b.HostPort+last))
				continue
			}
			out = append(out, fmt.Sprintf("%v %d %d", b.BindIP, b.ContainerPort, b.HostPort))
		}
		return strings.Join(out, ", ")
	}
	for f, want := range map[Families]string{
		{IPv4: true}:             "0.0.0.0 80 32768, 0.0.0.0 8000-8002 40000-40002, 0.0.0.0 9000-9000 41000-41000",
		{IPv6: true}:             ":: 80 32768, :: 8000-8002 40000-40002, :: 9000-9000 41000-41000",
		{IPv4: true, IPv6: true}: "0.0.0.0 80 32768, :: 80 32768, 0.0.0.0 8000-8002 40000-40002, :: 8000-8002 40000-40002, 0.0.0.0 9000-9000 41000-41000, :: 9000-9000 41000-41000",
		{}:                       "",
	} {
		if got := show(f); got != want {
			t.Errorf("%+v: %s, want %s", f, got, want)
		}
	}
}

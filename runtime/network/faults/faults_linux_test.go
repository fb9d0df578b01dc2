package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/runtime/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBlackhole: each direction, protocol and family; a neighbouring port and a spared end are not touched.
func TestBlackhole(t *testing.T) {
	for _, direction := range []string{fault.Ingress, fault.Egress} {
		for _, protocol := range []string{"tcp", "udp"} {
			t.Run(direction+" "+protocol, func(t *testing.T) {
				l := newLab(t)
				from, to, targets := l.here, l.far, []netip.Addr{far4, far6}
				spared, other := prefixes("10.9.0.3/32", "fd09::3/128"), []netip.Addr{far4b, far6b}
				if direction == fault.Ingress {
					from, to, targets = l.far, l.here, []netip.Addr{here4, here6}
					spared, other = prefixes("10.9.0.1/32"), nil
				}
				for _, a := range append(targets, other...) {
					echo(t, to, a, 7)
					echo(t, to, a, 8)
				}
				f := fault.Fault{Kind: fault.BlackholePort, Port: 7, Protocol: protocol, Direction: direction}
				for _, a := range targets {
					answered(t, true, from, protocol, port(a, 7))
				}
				l.running(t, f, false)
				l.start(t, f)
				l.start(t, f) // Again: the same.
				for _, a := range targets {
					answered(t, false, from, protocol, port(a, 7))
					answered(t, true, from, protocol, port(a, 8))
				}
				elsewhere := f
				elsewhere.Port = 8
				l.running(t, elsewhere, false)
				l.stop(t, elsewhere)
				l.running(t, f, true)
				l.stop(t, f)
				l.stop(t, f)
				l.untouched(t)
				for _, a := range targets {
					answered(t, true, from, protocol, port(a, 7))
				}

				f.SourcesToFilter = spared
				l.start(t, f)
				if direction == fault.Egress {
					answered(t, false, from, protocol, port(far4, 7))
					answered(t, true, from, protocol, port(far4b, 7))
					answered(t, false, from, protocol, port(far6, 7))
					answered(t, true, from, protocol, port(far6b, 7))
				} else {
					answered(t, true, from, protocol, port(here4, 7)) // From far4.
					answered(t, false, from, protocol, port(here6, 7))
				}
				second := fault.Fault{Kind: fault.BlackholePort, Port: 8, Protocol: protocol, Direction: direction, SourcesToFilter: prefixes("::/0")}
				l.start(t, second)
				l.stop(t, f)
				l.running(t, second, true)
				l.stop(t, second)
				l.untouched(t)
			})
		}
	}
}

// TestBlackholeSparesOwnAddress: for what comes in, SourcesToFilter may name the address that it goes to as well.
func TestBlackholeSparesOwnAddress(t *testing.T) {
	l := newLab(t)
	echo(t, l.here, here4, 7)
	echo(t, l.here, here4b, 7)
	l.start(t, fault.Fault{Kind: fault.BlackholePort, Port: 7, Protocol: "tcp", Direction: fault.Ingress, SourcesToFilter: prefixes("10.9.0.4/32")})
	answered(t, false, l.far, "tcp", port(here4, 7))
	answered(t, true, l.far, "tcp", port(here4b, 7))
}

// TestMetadataStays: the endpoint by which a fault is ended is never swallowed.
func TestMetadataStays(t *testing.T) {
	l := newLab(t)
	l.faults = New(Config{NetNS: l.path, Metadata: []netip.AddrPort{port(far4, 80), port(here4, 51679)}})
	for _, a := range []netip.Addr{far4, far4b} {
		echo(t, l.far, a, 80)
	}
	echo(t, l.here, here4, 51679)
	l.start(t, fault.Fault{Kind: fault.BlackholePort, Port: 80, Protocol: "tcp", Direction: fault.Egress})
	answered(t, true, l.here, "tcp", port(far4, 80))
	answered(t, false, l.here, "tcp", port(far4b, 80))
	for _, direction := range []string{fault.Ingress, fault.Egress} {
		l.start(t, fault.Fault{Kind: fault.BlackholePort, Port: 51679, Protocol: "tcp", Direction: direction})
		answered(t, true, l.here, "tcp", port(here4, 51679))
	}
}

func loss(percent, flows int, sources ...string) fault.Fault {
	return fault.Fault{Kind: fault.PacketLoss, LossPercent: percent, FlowsPercent: flows, Sources: prefixes(sources...)}
}

// TestPacketLoss: everything to the sources is lost, nothing to others and to the spared.
func TestPacketLoss(t *testing.T) {
	l := newLab(t)
	for _, a := range []netip.Addr{far4, far4b, far6, far6b} {
		echo(t, l.far, a, 7)
	}
	f := loss(100, 100, "10.9.0.1/32", "fd09::1/128")
	l.start(t, f)
	for _, protocol := range []string{"tcp", "udp"} {
		answered(t, false, l.here, protocol, port(far4, 7))
		answered(t, false, l.here, protocol, port(far6, 7))
		answered(t, true, l.here, protocol, port(far4b, 7))
		answered(t, true, l.here, protocol, port(far6b, 7))
	}
	l.stop(t, f)
	l.untouched(t)
	answered(t, true, l.here, "udp", port(far4, 7))

	f = loss(100, 100, "0.0.0.0/0")
	f.SourcesToFilter = prefixes("10.9.0.0/30", "fd09::/64")
	l.start(t, f)
	answered(t, true, l.here, "udp", port(far6, 7))
	c, err := dial(t.Context(), l.here, "udp", port(netip.MustParseAddr("10.9.0.5"), 7))
	ok(t, err)
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Errorf("the sender of a lost packet is told: %v", err)
	}
	l.stop(t, f)
	l.untouched(t)
}

// TestLossIsByChance: a share of packets, and a share of flows, each of which suffers in all its packets or in none.
func TestLossIsByChance(t *testing.T) {
	l := newLab(t)
	for _, to := range [][2]netip.AddrPort{{port(far4, 7), port(far4b, 7)}, {port(far6, 7), port(far6b, 7)}} {
		to, spared := to[0], to[1]
		f := loss(50, 100, fmt.Sprintf("%v/%d", to.Addr(), to.Addr().BitLen()))
		l.start(t, f)
		if got := l.fates(t, to, spared, 1, 400)[0]; got < 120 || got > 280 {
			t.Errorf("%v: half the packets are to be lost; %d of 400 arrived", to, got)
		}
		l.stop(t, f)
		f.LossPercent, f.FlowsPercent = 100, 40
		l.start(t, f)
		whole := 0
		for _, n := range l.fates(t, to, spared, 150, 2) {
			if n == 1 {
				t.Errorf("%v: a flow lost one of two packets", to)
			}
			whole += n / 2
		}
		if whole < 55 || whole > 125 {
			t.Errorf("%v: 60 of 100 flows are not to suffer; %d of 150 did not", to, whole)
		}
		l.stop(t, f)
	}
}

// fates sends packets by several flows, and counts for each how many arrived. A last one, to an address that is spared,
// tells when all of them must have.
func (l *lab) fates(t *testing.T, to, spared netip.AddrPort, flows, packets int) []int {
	t.Helper()
	var far net.PacketConn
	ok(t, inside(l.far, func() (err error) {
		var lc net.ListenConfig
		far, err = lc.ListenPacket(t.Context(), "udp", fmt.Sprintf(":%d", to.Port()))
		return err
	}))
	defer func() { _ = far.Close() }()
	ok(t, far.(*net.UDPConn).SetReadBuffer(1<<20))
	send := func(to netip.AddrPort, packets int, content string) {
		t.Helper()
		c, err := dial(t.Context(), l.here, "udp", to)
		ok(t, err)
		for range packets {
			_, err := c.Write([]byte(content))
			ok(t, err)
		}
		ok(t, c.Close())
	}
	for i := range flows {
		send(to, packets, strconv.Itoa(i))
	}
	send(spared, 1, "end")
	came := make([]int, flows)
	b := make([]byte, 8)
	ok(t, far.SetReadDeadline(time.Now().Add(patience)))
	for {
		n, _, err := far.ReadFrom(b)
		ok(t, err)
		if string(b[:n]) == "end" {
			return came
		}
		i, err := strconv.Atoi(string(b[:n]))
		ok(t, err)
		came[i]++
	}
}

// TestOneAtATime: loss excludes loss and latency; to stop the other kind leaves it alone.
func TestOneAtATime(t *testing.T) {
	l := newLab(t)
	f := loss(10, 100, "10.9.0.1/32")
	l.start(t, f)
	latency := fault.Fault{Kind: fault.Latency, DelayMilliseconds: 1, FlowsPercent: 100, Sources: f.Sources}
	for _, again := range []fault.Fault{f, latency} {
		var running *fault.RunningError
		if err := l.faults.Start(t.Context(), l.place(), again); !errors.As(err, &running) || running.Kind != fault.PacketLoss {
			t.Errorf("%s: %v", again.Kind, err)
		}
	}
	l.stop(t, latency)
	l.running(t, f, true)
	l.stop(t, f)
	l.untouched(t)
}

// TestManySources: as many as a request has room for.
func TestManySources(t *testing.T) {
	l := newLab(t)
	f := loss(100, 50, "10.9.0.1/32")
	for i := range 6000 {
		f.Sources = append(f.Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}), 32))
	}
	l.start(t, f)
	l.stop(t, f)
	l.untouched(t)
}

// TestHost: in the host's namespace faults are their tasks', on all links that default routes lead through; another
// process finds them.
func TestHost(t *testing.T) {
	l := newLab(t)
	l.cable(t, "up1")
	l.address(t, l.here, "up1", "10.10.0.2/24")
	l.address(t, l.far, "up1", "10.10.0.1/24")
	l.cable(t, "local1")
	l.address(t, l.here, "local1", "10.11.0.2/24")
	l.address(t, l.far, "local1", "10.11.0.1/24")
	l.defaultRoutes(t, "up1", netip.MustParseAddr("10.10.0.1"))
	command(t, l.here, "ip", "-6", "route", "add", "unreachable", "default", "metric", "4096")
	one, two := Place{Task: "one"}, Place{Task: "two"}
	everything := loss(100, 100, "0.0.0.0/0")
	hole := func(p uint16) fault.Fault {
		return fault.Fault{Kind: fault.BlackholePort, Port: p, Protocol: "tcp", Direction: fault.Egress, SourcesToFilter: prefixes("10.0.0.0/8")}
	}
	ctx := t.Context()
	ok(t, l.faults.Start(ctx, one, everything))
	ok(t, l.faults.Start(ctx, one, hole(1)))
	ok(t, l.faults.Start(ctx, two, hole(2)))
	for address, want := range map[string]bool{"10.9.0.1": false, "10.10.0.1": false, "10.11.0.1": true} {
		a := netip.MustParseAddr(address)
		echo(t, l.far, a, 7)
		answered(t, want, l.here, "udp", port(a, 7))
	}
	echo(t, l.here, netip.MustParseAddr("127.0.0.1"), 7)
	answered(t, true, l.here, "udp", netip.MustParseAddrPort("127.0.0.1:7"))
	chains := command(t, l.here, "nft", "list", "table", "netdev", "berth-faults")
	for link, want := range map[string]bool{"eth0": true, "up1": true, "local1": false, "lo": false} {
		if strings.Contains(chains, "chain via-"+link+" ") != want {
			t.Errorf("loss on %s is to be %v:\n%s", link, want, chains)
		}
	}
	state := func(want ...bool) {
		t.Helper()
		l.faults = New(Config{NetNS: l.path}) // As after a restart.
		for i, f := range []fault.Fault{everything, hole(1), hole(2)} {
			got, err := l.faults.Running(ctx, two, f)
			ok(t, err)
			if got != want[i] {
				t.Errorf("%s %d running: %v", f.Kind, f.Port, got)
			}
		}
	}
	state(true, true, true)
	ok(t, l.faults.Sweep(ctx, func(string) bool { return true }))
	state(true, true, true)
	ok(t, l.faults.Release(ctx, "three"))
	state(true, true, true)
	ok(t, l.faults.Release(ctx, "one"))
	state(false, false, true)
	ok(t, l.faults.Start(ctx, two, everything))
	ok(t, l.faults.Stop(ctx, one, everything)) // Any task of the host may.
	ok(t, l.faults.Start(ctx, two, everything))
	ok(t, l.faults.Sweep(ctx, func(id string) bool { return id == "one" }))
	state(false, false, false)
	l.untouched(t)
}

// TestRefused: each reason why a fault cannot be, after which nothing is there.
func TestRefused(t *testing.T) {
	l := newLab(t)
	latency := fault.Fault{Kind: fault.Latency, DelayMilliseconds: 1, FlowsPercent: 100, Sources: prefixes("10.9.0.1/32")}
	check := func(what string, at Place, f fault.Fault, want error) {
		t.Helper()
		if err := l.faults.Start(t.Context(), at, f); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	gone := l.place()
	gone.NetNS = filepath.Join(t.TempDir(), "gone")
	check("no such namespace", gone, latency, fault.ErrNoNamespace)
	ok(t, os.WriteFile(gone.NetNS, nil, 0o444))
	check("a namespace that was unbound", gone, latency, fault.ErrNoNamespace)
	missing := l.place()
	missing.Links = []string{"eth7"}
	if err := l.faults.Start(t.Context(), missing, latency); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("no such link: %v", err)
	}
	command(t, l.here, "ip", "route", "flush", "default")
	command(t, l.here, "ip", "-6", "route", "flush", "default")
	check("no default route", Place{Task: "one"}, latency, fault.ErrNoLink)
	command(t, l.here, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "1s")
	before := command(t, l.here, "tc", "qdisc", "show", "dev", "eth0")
	check("somebody else's queueing discipline", l.place(), latency, ErrForeign)
	if after := command(t, l.here, "tc", "qdisc", "show", "dev", "eth0"); after != before {
		t.Errorf("it was\n%sand is\n%s", before, after)
	}
	l.start(t, loss(10, 100, "10.9.0.1/32")) // Loss needs none.
	l.stop(t, loss(10, 100, "10.9.0.1/32"))
	command(t, l.here, "tc", "qdisc", "del", "dev", "eth0", "root")
	if errors.Is(l.faults.Supported(), ErrNoNetem) {
		check("a kernel without netem", l.place(), latency, ErrNoNetem)
	}
	busy := errors.New("no time left")
	ctx, cancel := context.WithCancelCause(t.Context())
	l.faults.turn <- struct{}{}
	cancel(busy)
	if err := l.faults.Start(ctx, l.place(), latency); !errors.Is(err, busy) {
		t.Errorf("busy: %v", err)
	}
	<-l.faults.turn
	l.untouched(t)
}

// TestSupported: the kernel is asked without leaving anything in the namespace of the test.
func TestSupported(t *testing.T) {
	l := newLab(t)
	ok(t, inside(l.here, func() error {
		if err := New(Config{}).Supported(); err != nil && !errors.Is(err, ErrNoNetem) {
			return err
		}
		return nil
	}))
	l.untouched(t)
}

// TestTables: what the kernel is told, as nft reads it back.
func TestTables(t *testing.T) {
	l := newLab(t)
	l.faults = New(Config{NetNS: l.path, Metadata: []netip.AddrPort{netip.MustParseAddrPort("169.254.170.2:80")}})
	l.start(t, fault.Fault{Kind: fault.BlackholePort, Port: 80, Protocol: "tcp", Direction: fault.Egress, SourcesToFilter: prefixes("10.0.0.0/8", "fd00::/8")})
	l.start(t, fault.Fault{Kind: fault.BlackholePort, Port: 53, Protocol: "udp", Direction: fault.Ingress, SourcesToFilter: prefixes("192.0.2.7/32")})
	f := loss(20, 70, "10.9.0.0/24", "fd09::1/128")
	f.SourcesToFilter = prefixes("10.9.0.3/32")
	l.start(t, f)
	got := command(t, l.here, "nft", "list", "ruleset")
	const golden = "testdata/tables.nft"
	if *update {
		ok(t, os.MkdirAll("testdata", 0o755))
		ok(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	ok(t, err)
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

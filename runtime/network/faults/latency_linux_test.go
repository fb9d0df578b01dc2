//go:build netem

package faults

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/berthd/berth/runtime/fault"
)

// TestLatency: a round trip takes at least the delay, but not one to the spared; it is found after a restart, and what a
// killed process left of it is removed. It needs a kernel that can delay packets, as that of the machine image: the test of
// that (ami/vm) has it run there.
func TestLatency(t *testing.T) {
	l := newLab(t)
	ok(t, l.faults.Supported())
	for _, a := range []netip.Addr{far4, far4b, far6} {
		echo(t, l.far, a, 7)
	}
	trip := func(a netip.Addr) time.Duration {
		t.Helper()
		began := time.Now()
		if !ask(t, l.here, "udp", port(a, 7), time.Minute) {
			t.Errorf("no answer of %v", a)
		}
		return time.Since(began)
	}
	const delay = 3 * time.Second
	f := fault.Fault{
		Kind: fault.Latency, DelayMilliseconds: uint64(delay.Milliseconds()), FlowsPercent: 100,
		Sources: prefixes("10.9.0.0/24", "::/0"), SourcesToFilter: prefixes("10.9.0.3/32"),
	}
	l.start(t, f)
	l.faults = New(Config{NetNS: l.path})
	l.running(t, f, true)
	l.running(t, loss(1, 1), false)
	if took := trip(far4); took < delay {
		t.Errorf("an answer took %v", took)
	}
	if took := trip(far6); took < delay {
		t.Errorf("an answer by IPv6 took %v", took)
	}
	if took := trip(far4b); took >= delay {
		t.Errorf("an answer of the spared took %v", took)
	}
	var running *fault.RunningError
	if err := l.faults.Start(t.Context(), l.place(), f); !errors.As(err, &running) || running.Kind != fault.Latency {
		t.Errorf("started again: %v", err)
	}
	l.stop(t, f)
	l.untouched(t)
	if took := trip(far4); took >= delay {
		t.Errorf("an answer took %v after the end", took)
	}

	// In the host's namespace; with some flows; with jitter alone.
	host := Place{Task: "one"}
	f.FlowsPercent, f.DelayMilliseconds, f.JitterMilliseconds = 50, 0, 20
	ok(t, l.faults.Start(t.Context(), host, f))
	ok(t, l.faults.Release(t.Context(), "one"))
	l.untouched(t)

	// Killed: between the queueing discipline and the rules, and after them by whoever has removed the former.
	ok(t, l.faults.within(t.Context(), l.path, func(s *session) error {
		links, err := s.links(l.place())
		ok(t, err)
		return s.queue(links[0], &f)
	}))
	l.running(t, f, false)
	l.start(t, f)
	command(t, l.here, "tc", "qdisc", "del", "dev", "eth0", "root")
	l.running(t, f, false)
	l.start(t, f)
	ok(t, l.faults.within(t.Context(), l.path, func(s *session) error {
		s.nft.DelTable(s.table(nftables.TableFamilyNetdev))
		return s.commit()
	}))
	l.running(t, f, false)
	ok(t, l.faults.Sweep(t.Context(), func(string) bool { return true }))
	l.untouched(t)
}

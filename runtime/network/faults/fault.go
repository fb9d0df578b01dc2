package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berthd/berth/runtime/fault"
)

// Place is where a fault is.
type Place struct {
	// NetNS is the path of a task's own network namespace, "" for the host's.
	NetNS string
	// Links are those that latency and loss are on; in the host's namespace nil stands for those of the default routes.
	Links []string
	// Task is the id of the task that the fault is for. In the host's namespace the fault ends with it at the latest.
	Task string
}

var (
	// ErrForeign says that a link has somebody else's queueing discipline.
	ErrForeign = errors.New("the link has a queueing discipline that is not ours")
	// ErrNoNetem says that the kernel cannot delay packets.
	ErrNoNetem = errors.New("the kernel has no prio or no netem queueing discipline (sch_prio, sch_netem)")
)

// chainOf is the name of a black hole's chain.
func chainOf(f *fault.Fault) string { return fmt.Sprintf("%s-%s-%d", f.Direction, f.Protocol, f.Port) }

// disjoint are the prefixes of one family without those that lie in others: sets of the kernel have no overlaps.
func disjoint(all []netip.Prefix, ipv4 bool) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range all {
		if p.Addr().Is4() == ipv4 {
			own = append(own, p.Masked())
		}
	}
	slices.SortFunc(own, netip.Prefix.Compare) // By address, the wider one first.
	var out []netip.Prefix
	for _, p := range own {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// after is the first address behind a prefix; it is not valid behind the last one there is.
func after(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for i := range last {
		if covered := p.Bits() - 8*i; covered < 8 {
			last[i] |= byte(0xff >> max(covered, 0))
		}
	}
	a, _ := netip.AddrFromSlice(last)
	return a.Next()
}

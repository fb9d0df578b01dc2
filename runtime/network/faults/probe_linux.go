package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/fault"
)

// Supported tells whether the kernel can make every fault, nil being yes. It makes each of them in a network namespace
// of its own, which nobody sees and which is gone when it returns. The kernel may load its modules for that, as it would
// for a fault.
func (f *Faults) Supported() error {
	done := make(chan error, 1) // One result, so that the thread can end before it is read.
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self is it: away from home for good, it would lead everybody astray who
			// looks there for the host's namespace. While this goroutine holds it, another one gets another thread.
			defer runtime.UnlockOSThread()
			done <- f.Supported()
			return
		}
		// Never unlocked: the thread ends with the goroutine, and the namespace with the thread.
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("cannot make network namespace: %w", err)
			}
			ns, err := netns.Get()
			if err != nil {
				return fmt.Errorf("cannot open network namespace: %w", err)
			}
			return errors.Join(f.inside(ns, rehearse), ns.Close())
		}()
	}()
	return <-done
}

// rehearse makes every kind of fault, first what a kernel most likely cannot.
func rehearse(s *session) error {
	lo, err := s.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find link lo: %w", err)
	}
	everywhere := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	for _, f := range []*fault.Fault{
		{Kind: fault.Latency, DelayMilliseconds: 1, FlowsPercent: 50, Sources: everywhere},
		{Kind: fault.PacketLoss, LossPercent: 50, FlowsPercent: 50, Sources: everywhere},
	} {
		if err := s.startImpairment([]netlink.Link{lo}, "probe", f); err != nil {
			return fmt.Errorf("%s: %w", f.Kind, err)
		}
		if err := s.clear(); err != nil {
			return fmt.Errorf("%s: %w", f.Kind, err)
		}
	}
	hole := &fault.Fault{Kind: fault.BlackholePort, Port: 1, Protocol: "tcp", Direction: fault.Egress, SourcesToFilter: everywhere}
	if err := s.startBlackhole("probe", hole); err != nil {
		return fmt.Errorf("%s: %w", hole.Kind, err)
	}
	return nil
}

package faults

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/fault"
)

const (
	// maxDelay is the longest latency in milliseconds, some 268 s: netem counts ticks of 64 ns in 32 bits.
	maxDelay = math.MaxUint32 / 16 / 1000
	// waiting is how many packets may be under way to their end at once on a link.
	waiting = 100_000
)

// startImpairment gives links latency or loss.
func (s *session) startImpairment(links []netlink.Link, task string, f *fault.Fault) error {
	kind, err := s.impairment()
	if err != nil {
		return err
	}
	if kind != "" {
		return &fault.RunningError{Kind: kind}
	}
	if err := s.clear(); err != nil {
		return err
	}
	if f.Kind == fault.PacketLoss {
		return s.writeImpairment(links, task, f)
	}
	for _, link := range links {
		if err := s.mayQueue(link); err != nil {
			return err
		}
	}
	for _, link := range links {
		if err = s.queue(link, f); err != nil {
			break
		}
	}
	if err == nil {
		err = s.writeImpairment(links, task, f)
	}
	if err != nil {
		return errors.Join(err, s.unqueue())
	}
	return nil
}

// stopImpairment ends latency or loss, whichever is asked for, if it is there.
func (s *session) stopImpairment(kind string) error {
	running, err := s.impairment()
	if err != nil || running != kind && running != "" {
		return err
	}
	return s.clear()
}

// impairment is the kind that is there, "" for none. Latency without its queueing disciplines, which somebody else has
// removed, is none.
func (s *session) impairment() (string, error) {
	chains, err := s.chains(nftables.TableFamilyNetdev)
	switch {
	case err != nil:
		return "", err
	case chains[fault.PacketLoss]:
		return fault.PacketLoss, nil
	case !chains[fault.Latency]:
		return "", nil
	}
	ours, err := s.queues()
	if err != nil || len(ours) == 0 {
		return "", err
	}
	return fault.Latency, nil
}

// clear removes whatever there is of latency and loss: the rules first, then what they gave packets to.
func (s *session) clear() error {
	there, err := s.hasTable(nftables.TableFamilyNetdev)
	if err != nil {
		return err
	}
	if there {
		s.nft.DelTable(s.table(nftables.TableFamilyNetdev))
		if err := s.commit(); err != nil {
			return err
		}
	}
	return s.unqueue()
}

// queues are our root queueing disciplines.
func (s *session) queues() ([]netlink.Qdisc, error) {
	all, err := whole(func() ([]netlink.Qdisc, error) { return s.nl.QdiscList(nil) })
	if err != nil {
		return nil, fmt.Errorf("cannot list queueing disciplines: %w", err)
	}
	var ours []netlink.Qdisc
	for _, q := range all {
		if s.own(q) {
			ours = append(ours, q)
		}
	}
	return ours, nil
}

func (s *session) own(q netlink.Qdisc) bool {
	a := q.Attrs()
	return a.Parent == netlink.HANDLE_ROOT && a.Handle == netlink.MakeHandle(s.handle, 0) && q.Type() == "prio"
}

// mayQueue refuses links whose queueing discipline somebody has chosen: it could not be put back. Those that the kernel
// gives by default have no number.
func (s *session) mayQueue(link netlink.Link) error {
	all, err := whole(func() ([]netlink.Qdisc, error) { return s.nl.QdiscList(link) })
	if err != nil {
		return fmt.Errorf("cannot list the queueing disciplines of link %s: %w", link.Attrs().Name, err)
	}
	for _, q := range all {
		if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Handle != 0 && !s.own(q) {
			return fmt.Errorf("%w: %s %s on %s", ErrForeign, q.Type(), netlink.HandleStr(a.Handle), link.Attrs().Name)
		}
	}
	return nil
}

// queue puts prio, with netem in its first band, in the place of the kernel's default. All packets go to the second band
// but those that a rule gives to the first.
func (s *session) queue(link netlink.Link, f *fault.Fault) error {
	root := netlink.NewPrio(netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(s.handle, 0), Parent: netlink.HANDLE_ROOT,
	})
	root.Bands = 2
	for i := range root.PriorityMap {
		root.PriorityMap[i] = 1
	}
	late := &netlink.Netem{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(s.handle+1, 0), Parent: netlink.MakeHandle(s.handle, 1),
		},
		Latency: ticks(f.DelayMilliseconds), Jitter: ticks(f.JitterMilliseconds), Limit: waiting,
	}
	for _, q := range []netlink.Qdisc{root, late} {
		err := s.nl.QdiscAdd(q)
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%w: %s on link %s", ErrNoNetem, q.Type(), link.Attrs().Name)
		}
		if err != nil {
			return fmt.Errorf("cannot put queueing discipline %s on link %s: %w", q.Type(), link.Attrs().Name, err)
		}
	}
	return nil
}

// ticks are what netem counts in.
func ticks(milliseconds uint64) uint32 {
	return uint32(float64(min(milliseconds, maxDelay)*1000) * netlink.TickInUsec())
}

// unqueue removes our queueing disciplines; the kernel puts its default in their place.
func (s *session) unqueue() error {
	ours, err := s.queues()
	if err != nil {
		return err
	}
	for _, q := range ours {
		a := q.Attrs()
		err := s.nl.QdiscDel(&netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: a.LinkIndex, Handle: a.Handle, Parent: a.Parent}, QdiscType: q.Type(),
		})
		// The link may have gone meanwhile.
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("cannot remove queueing discipline: %w", err)
		}
	}
	return nil
}

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// HostTasks are the tasks whose containers share the host's network namespace. They have no address that would tell them
// from the host, so they are known by their version 2 control groups: each is the id that the kernel gives a control
// group, its inode number.
type HostTasks struct {
	// Group is the one that all tasks' groups are in, directly below the root of the hierarchy; 0 if there is none yet.
	Group uint64
	// Allowed are the groups of tasks that may reach instance metadata.
	Allowed []uint64
}

// The levels of the groups below the root of the hierarchy.
const (
	levelTasks = 1
	levelTask  = 2
)

// GuardHostTasks closes instance metadata to these tasks but the allowed ones, if BlockIMDS is set. It may be called
// with the same tasks for ever, and must be called again before a container is started when the group of all tasks was
// made anew. [Network.Mend] remembers the latest tasks.
func (n *Network) GuardHostTasks(ctx context.Context, h HostTasks) error {
	if err := alive(ctx); err != nil {
		return err
	}
	n.plan.RLock()
	defer n.plan.RUnlock()
	return n.nft.guardTasks(h)
}

// guardTasks makes the two sets contain these groups and nothing else.
func (f *firewall) guardTasks(h HostTasks) error {
	if !f.knowsTasks {
		return nil
	}
	var want []element
	if h.Group != 0 {
		want = append(want, element{set: f.sets.tasks, key: groupKey(h.Group)})
	}
	for _, id := range h.Allowed {
		want = append(want, element{set: f.sets.allowed, key: groupKey(id)})
	}
	err := f.transact(func(c *nftables.Conn) error {
		f.hostTasks = h
		return replace(c, []*nftables.Set{f.sets.tasks, f.sets.allowed}, want)
	})
	if err != nil {
		return fmt.Errorf("cannot close instance metadata to tasks in host network mode: %w", err)
	}
	return nil
}

// replace makes sets contain these elements and no others, in one transaction.
func replace(c *nftables.Conn, all []*nftables.Set, want []element) error {
	var stray []element
	for _, s := range all {
		els, err := c.GetSetElements(s)
		if err != nil {
			return fmt.Errorf("cannot read nftables set %s: %w", s.Name, err)
		}
		for _, el := range els {
			have := element{set: s, key: string(el.Key)}
			if i := slices.Index(want, have); i >= 0 {
				want = slices.Delete(want, i, i+1)
			} else {
				stray = append(stray, have)
			}
		}
	}
	for _, s := range all {
		if err := errors.Join(inChunks(s, stray, c.SetDeleteElements), inChunks(s, want, c.SetAddElements)); err != nil {
			return err
		}
	}
	return c.Flush()
}

// GuardsHostTasks tells, once Ensure was called, whether instance metadata can be closed to tasks in the host's network
// namespace: whether BlockIMDS is set and this kernel knows the control groups of sockets.
func (n *Network) GuardsHostTasks() bool {
	n.plan.RLock()
	defer n.plan.RUnlock()
	return n.nft.knowsTasks
}

func groupKey(id uint64) string { return string(binaryutil.NativeEndian.PutUint64(id)) }

// guardOutput closes instance metadata to sockets of tasks. Those of containers with a namespace of their own do not
// come here.
func (b batch) guardOutput(t *nftables.Table) {
	c := b.chain(nftables.Chain{
		Table: t, Name: "local", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	if !b.knowsTasks {
		return
	}
	imds4, imds6 := imds()
	for _, a := range []netip.Addr{imds4, imds6} {
		closed := slices.Concat(daddr(a), socketGroup(levelTasks, b.sets.tasks, false), socketGroup(levelTask, b.sets.allowed, true))
		// TCP does not take an ICMP error of its own host for an answer, and tries again for minutes.
		b.rule(c, closed, tcp(), reset())
		b.rule(c, closed, reject())
	}
}

// socketGroup matches packets by the control group that their socket is in at a level.
func socketGroup(level uint32, s *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: invert},
	}
}

func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

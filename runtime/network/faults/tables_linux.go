package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/fault"
)

// elementsAtOnce is how many prefixes go into one message, whose attributes have at most 64 KiB.
const elementsAtOnce = 500

func (s *session) table(family nftables.TableFamily) *nftables.Table {
	return &nftables.Table{Family: family, Name: s.cfg.Table}
}

// chains are those of our table of a family, and whether they are there.
func (s *session) chains(family nftables.TableFamily) (map[string]bool, error) {
	all, err := s.nft.ListChainsOfTableFamily(family)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // A kernel without the family has none.
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list nftables chains: %w", err)
	}
	ours := map[string]bool{}
	for _, c := range all {
		if c.Table.Name == s.cfg.Table {
			ours[c.Name] = true
		}
	}
	return ours, nil
}

// hasTable says whether our table of a family is there.
func (s *session) hasTable(family nftables.TableFamily) (bool, error) {
	all, err := s.nft.ListTablesOfFamily(family)
	if err != nil {
		return false, fmt.Errorf("cannot list nftables tables: %w", err)
	}
	return slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == s.cfg.Table }), nil
}

// transaction is what the kernel is told at once. Sets get their numbers here: the library would draw them without a
// lock.
type transaction struct {
	*session

	table *nftables.Table
	owner []byte
	sets  uint32
}

// begin is a transaction for a task's fault.
func (s *session) begin(family nftables.TableFamily, task string) *transaction {
	t := &transaction{session: s, table: s.table(family), owner: userdata.AppendString(nil, userdata.TypeComment, task)}
	s.nft.AddTable(t.table)
	return t
}

func (t *transaction) rule(c *nftables.Chain, parts ...[]expr.Any) {
	t.nft.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: slices.Concat(parts...), UserData: t.owner})
}

// addresses is a set of prefixes of one family; nil if there are none.
func (t *transaction) addresses(name string, all []netip.Prefix, ipv4 bool) (*nftables.Set, error) {
	all = disjoint(all, ipv4)
	if len(all) == 0 {
		return nil, nil
	}
	t.sets++
	set := &nftables.Set{ID: t.sets, Table: t.table, Name: setName(name, ipv4), Interval: true, KeyType: nftables.TypeIPAddr}
	if !ipv4 {
		set.KeyType = nftables.TypeIP6Addr
	}
	if err := t.nft.AddSet(set, nil); err != nil {
		return nil, fmt.Errorf("cannot describe nftables set %s: %w", set.Name, err)
	}
	var elements []nftables.SetElement
	for _, p := range all {
		elements = append(elements, nftables.SetElement{Key: p.Addr().AsSlice()})
		if end := after(p); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for part := range slices.Chunk(elements, elementsAtOnce) {
		if err := t.nft.SetAddElements(set, part); err != nil {
			return nil, fmt.Errorf("cannot encode nftables set %s: %w", set.Name, err)
		}
	}
	return set, nil
}

func setName(name string, ipv4 bool) string {
	if ipv4 {
		return name + "-4"
	}
	return name + "-6"
}

// startBlackhole makes a chain that drops what is sent to a port.
func (s *session) startBlackhole(task string, f *fault.Fault) error {
	there, err := s.chains(nftables.TableFamilyINet)
	if err != nil || there[chainOf(f)] {
		return err
	}
	t := s.begin(nftables.TableFamilyINet, task)
	hook := nftables.ChainHookInput
	if f.Direction == fault.Egress {
		hook = nftables.ChainHookOutput
	}
	c := t.nft.AddChain(&nftables.Chain{
		Table: t.table, Name: chainOf(f), Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter,
	})
	if f.Protocol == "tcp" {
		for _, m := range s.cfg.Metadata {
			t.rule(c, tcpTo(m), leave())
			t.rule(c, tcpFrom(m), leave())
		}
	}
	for _, ipv4 := range []bool{true, false} {
		spared, err := t.addresses(chainOf(f), f.SourcesToFilter, ipv4)
		if err != nil {
			return err
		}
		if spared == nil {
			continue
		}
		// The other end of what comes in is where it comes from. The ECS agent looks at where it goes to there as well,
		// which spares addresses of the task's own.
		t.rule(c, inetFamily(ipv4), lookup(destination(ipv4), spared), leave())
		if f.Direction == fault.Ingress {
			t.rule(c, inetFamily(ipv4), lookup(source(ipv4), spared), leave())
		}
	}
	t.rule(c, toPort(f.Protocol, f.Port), drop())
	return s.commit()
}

// stopBlackholes removes those of the chains that are there. The last one takes the table with it.
func (s *session) stopBlackholes(names ...string) error {
	there, err := s.chains(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	var gone int
	table := s.table(nftables.TableFamilyINet)
	for _, name := range names {
		if !there[name] {
			continue
		}
		gone++
		c := &nftables.Chain{Table: table, Name: name}
		s.nft.FlushChain(c)
		s.nft.DelChain(c)
	}
	if gone == 0 {
		return nil
	}
	if gone == len(there) {
		s.nft.DelTable(table)
		return s.commit()
	}
	sets, err := s.nft.GetSets(table)
	if err != nil {
		return fmt.Errorf("cannot list nftables sets: %w", err)
	}
	for _, set := range sets {
		if chain := set.Name[:strings.LastIndexByte(set.Name, '-')]; slices.Contains(names, chain) {
			s.nft.DelSet(set)
		}
	}
	return s.commit()
}

// writeImpairment gives packets of the links to the latency or loss.
func (s *session) writeImpairment(links []netlink.Link, task string, f *fault.Fault) error {
	t := s.begin(nftables.TableFamilyNetdev, task)
	impair := t.nft.AddChain(&nftables.Chain{Table: t.table, Name: f.Kind})
	for _, flows := range someFlows(f.FlowsPercent) {
		if f.Kind == fault.PacketLoss {
			t.rule(impair, flows, chance(f.LossPercent), drop())
		} else {
			t.rule(impair, flows, classify(netlink.MakeHandle(s.handle, 1)))
		}
	}
	var chosen [][]expr.Any
	for _, ipv4 := range []bool{true, false} {
		spared, err := t.addresses("spared", f.SourcesToFilter, ipv4)
		if err != nil {
			return err
		}
		suffering, err := t.addresses("sources", f.Sources, ipv4)
		if err != nil {
			return err
		}
		if spared != nil {
			chosen = append(chosen, slices.Concat(frame(ipv4), lookup(destination(ipv4), spared), leave()))
		}
		if suffering != nil {
			chosen = append(chosen, slices.Concat(frame(ipv4), lookup(destination(ipv4), suffering), jump(impair.Name)))
		}
	}
	for _, link := range links {
		name := link.Attrs().Name
		c := t.nft.AddChain(&nftables.Chain{
			Table: t.table, Name: "via-" + name, Device: name,
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookEgress, Priority: nftables.ChainPriorityFilter,
		})
		for _, r := range chosen {
			t.rule(c, r)
		}
	}
	return s.commit()
}

func (s *session) commit() error {
	if err := s.nft.Flush(); err != nil {
		return fmt.Errorf("cannot change nftables table %s: %w", s.cfg.Table, err)
	}
	return nil
}

// owner is the task that a chain's fault is for, "" if nobody knows.
func (s *session) owner(family nftables.TableFamily, chain string) (string, error) {
	table := s.table(family)
	rules, err := s.nft.GetRules(table, &nftables.Chain{Table: table, Name: chain})
	if err != nil {
		return "", fmt.Errorf("cannot list the rules of nftables chain %s: %w", chain, err)
	}
	for _, r := range rules {
		if task, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
			return task, nil
		}
	}
	return "", nil
}

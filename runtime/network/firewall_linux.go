package network

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// firewall is our nftables tables. Rules are written once by ensure; what differs between containers is only in the
// elements of maps and sets, so that a change never touches the traffic of others and costs the same with one container
// as with a thousand.
type firewall struct {
	cfg   *Config
	netns int // descriptor of the host's namespace

	table *nftables.Table // inet: translation and filter
	ports *nftables.Table // bridge: which addresses may come in by which link
	sets  sets

	// guarded says whether the kernel takes tables of the bridge family. Without it source addresses are not checked.
	// Network.plan guards it: ensure writes it.
	guarded bool
	// knowsTasks says whether rules may ask for the control group of a socket, and instance metadata is to be closed to
	// tasks in the host's namespace. Network.plan guards it, too.
	knowsTasks bool

	mu sync.Mutex // held from reading elements to changing them; guards conn and hostTasks
	// hostTasks are the latest that guardTasks was told.
	hostTasks HostTasks
	// conn is kept open, since the kernel makes whoever closes a socket wait until everything deleted is really gone. It
	// is nil before the first use and after an error, which may leave answers unread.
	conn *nftables.Conn
}

// sets are the maps and sets whose elements describe the containers.
type sets struct {
	publish4, publish6 *nftables.Set // protocol . host port → container address . port
	imds4, imds6       *nftables.Set // addresses that may reach instance metadata
	macs               *nftables.Set // link . hardware address that may come in there
	source4, source6   *nftables.Set // link . hardware address . address that may come in there
	tasks, allowed     *nftables.Set // control groups of tasks in the host's namespace: see HostTasks
}

func newFirewall(cfg *Config, netnsFD int) *firewall {
	f := &firewall{
		cfg:     cfg,
		netns:   netnsFD,
		table:   &nftables.Table{Family: nftables.TableFamilyINet, Name: cfg.Table},
		ports:   &nftables.Table{Family: nftables.TableFamilyBridge, Name: cfg.Table},
		guarded: true, knowsTasks: cfg.BlockIMDS,
	}
	concat := nftables.MustConcatSetType
	service := nftables.TypeInetService
	port := concat(nftables.TypeInetProto, service)
	to4, to6 := concat(nftables.TypeIPAddr, service), concat(nftables.TypeIP6Addr, service)
	mac := concat(nftables.TypeIFName, nftables.TypeEtherAddr)
	src4 := concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)
	src6 := concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr)
	// An ID is a number within one transaction; given here because the library would draw it without a lock.
	f.sets = sets{
		publish4: &nftables.Set{ID: 1, Table: f.table, Name: "publish4", IsMap: true, Concatenation: true, KeyType: port, DataType: to4},
		publish6: &nftables.Set{ID: 2, Table: f.table, Name: "publish6", IsMap: true, Concatenation: true, KeyType: port, DataType: to6},
		imds4:    &nftables.Set{ID: 3, Table: f.table, Name: "imds4", KeyType: nftables.TypeIPAddr},
		imds6:    &nftables.Set{ID: 4, Table: f.table, Name: "imds6", KeyType: nftables.TypeIP6Addr},
		source4:  &nftables.Set{ID: 5, Table: f.ports, Name: "source4", Concatenation: true, KeyType: src4},
		source6:  &nftables.Set{ID: 6, Table: f.ports, Name: "source6", Concatenation: true, KeyType: src6},
		tasks:    &nftables.Set{ID: 7, Table: f.table, Name: "tasks", KeyType: nftables.TypeCGroupV2},
		allowed:  &nftables.Set{ID: 8, Table: f.table, Name: "allowed", KeyType: nftables.TypeCGroupV2},
		macs:     &nftables.Set{ID: 9, Table: f.ports, Name: "macs", Concatenation: true, KeyType: mac},
	}
	return f
}

// inUse are the sets that this kernel has.
func (f *firewall) inUse() []*nftables.Set {
	s := []*nftables.Set{f.sets.publish4, f.sets.publish6, f.sets.imds4, f.sets.imds6}
	if f.guarded {
		s = append(s, f.sets.macs, f.sets.source4, f.sets.source6)
	}
	return s
}

// sendBuffer is room for the largest transaction, in bytes: some 50,000 elements. Memory is taken only when it is used.
const sendBuffer = 8 << 20

// transact runs fn with the lasting connection.
func (f *firewall) transact(fn func(*nftables.Conn) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		c, err := nftables.New(nftables.WithNetNSFd(f.netns), nftables.AsLasting(),
			nftables.WithSockOptions(func(s *netlink.Conn) error { return s.SetWriteBuffer(sendBuffer) }))
		if err != nil {
			return fmt.Errorf("cannot open nftables socket: %w", err)
		}
		f.conn = c
	}
	err := fn(f.conn)
	if err != nil {
		err = errors.Join(err, f.hangUp())
	}
	return err
}

func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hangUp()
}

func (f *firewall) hangUp() error {
	if f.conn == nil {
		return nil
	}
	err := f.conn.CloseLasting()
	f.conn = nil
	if err != nil {
		return fmt.Errorf("cannot close nftables socket: %w", err)
	}
	return nil
}

// ensure writes tables, chains, rules and sets in one transaction, whatever was there before. Elements stay. Packets
// see the old rules or the new ones.
func (f *firewall) ensure() error {
	err := f.transact(f.write)
	if f.guarded && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
		f.guarded = false
		err = f.transact(f.write)
	}
	if f.knowsTasks && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)) {
		f.knowsTasks = false
		err = f.transact(f.write)
	}
	if err != nil {
		return fmt.Errorf("cannot write nftables table %s: %w", f.cfg.Table, err)
	}
	return nil
}

func (f *firewall) write(c *nftables.Conn) error {
	b := batch{conn: c, cfg: f.cfg, sets: f.sets, knowsTasks: f.knowsTasks}
	c.AddTable(f.table)
	for _, s := range []*nftables.Set{f.sets.publish4, f.sets.publish6, f.sets.imds4, f.sets.imds6, f.sets.tasks, f.sets.allowed} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("cannot describe nftables set %s: %w", s.Name, err)
		}
	}
	b.translate(f.table)
	b.filter(f.table)
	if f.guarded {
		c.AddTable(f.ports)
		for _, s := range []*nftables.Set{f.sets.macs, f.sets.source4, f.sets.source6} {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("cannot describe nftables set %s: %w", s.Name, err)
			}
		}
		b.guardSources(f.ports)
	}
	return c.Flush()
}

// present reports whether our tables exist.
func (f *firewall) present() (there bool, err error) {
	err = f.transact(func(c *nftables.Conn) error {
		tables, err := c.ListTables()
		if err != nil {
			return fmt.Errorf("cannot list nftables tables: %w", err)
		}
		has := func(want *nftables.Table) bool {
			return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == want.Name && t.Family == want.Family })
		}
		there = has(f.table) && (has(f.ports) || !f.guarded)
		return nil
	})
	return there, err
}

// chains are all chains of the host, others' too.
func (f *firewall) chains() (chains []*nftables.Chain, err error) {
	err = f.transact(func(c *nftables.Conn) error {
		if chains, err = c.ListChains(); err != nil {
			return fmt.Errorf("cannot list nftables chains: %w", err)
		}
		return nil
	})
	return chains, err
}

package ports

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/berthd/berth/ipam"
)

// Binder holds ports against every other process of the host.
type Binder interface {
	// Bind holds a port on all local addresses until the closer is closed. A port that somebody else has is an
	// [*InUseError] without Process; any other error says why this host cannot bind.
	Bind(protocol ipam.Protocol, port uint16) (io.Closer, error)
	// Holder says who has a port, as well as can be found out. It may take milliseconds, and is asked for messages only.
	Holder(protocol ipam.Protocol, port uint16) Process
}

// Config is what a [Table] is made of.
type Config struct {
	// Dynamic is the range that host ports are chosen from. The zero value stands for [Fallback].
	Dynamic Range
	// ReservedTCP and ReservedUDP are never chosen. A task that asks for one of them by number may have it, if it can be
	// bound: which fixed ports a host gives away is decided by whoever places tasks on it.
	ReservedTCP, ReservedUDP []uint16
	// Binder is [HostBinder] in earnest.
	Binder Binder
}

// Table knows which host port belongs to which container, and holds the ports. It is safe for concurrent use. Calls
// are serialised, since a range is found by trying; each takes some microseconds per port.
type Table struct {
	dynamic  Range
	binder   Binder
	reserved map[port]bool

	mu     sync.Mutex // guards the fields below
	cursor uint16     // the dynamic port assigned last; 0 before the first
	held   map[port]holding
	owners map[Owner][]port
}

type port struct {
	protocol ipam.Protocol
	number   uint16
}

type holding struct {
	owner  Owner
	closer io.Closer // nil where a foreign process took the port while the agent was away
}

// New makes a table without leases. Its error is [ErrBadRange].
func New(cfg Config) (*Table, error) {
	if cfg.Dynamic == (Range{}) {
		cfg.Dynamic = Fallback()
	}
	if err := cfg.Dynamic.Validate(); err != nil {
		return nil, err
	}
	t := &Table{
		dynamic:  cfg.Dynamic,
		binder:   cfg.Binder,
		reserved: make(map[port]bool),
		held:     make(map[port]holding),
		owners:   make(map[Owner][]port),
	}
	for _, n := range cfg.ReservedTCP {
		t.reserved[port{ipam.TCP, n}] = true
	}
	for _, n := range cfg.ReservedUDP {
		t.reserved[port{ipam.UDP, n}] = true
	}
	return t, nil
}

// Lease gives the owner every port it wants, or none, and returns the wishes with each HostPort filled in, in the same
// order. Fixed ports are taken first, so that no dynamic one gets in their way. The errors are [*InUseError],
// [*UnavailableError], [ipam.ErrBadPlan], or what binding said.
func (t *Table) Lease(owner Owner, want []ipam.Publish) ([]ipam.Publish, error) {
	for _, p := range want {
		if err := p.Validate(); err != nil {
			return nil, err
		}
	}
	got := slices.Clone(want)
	t.mu.Lock()
	defer t.mu.Unlock()
	var taken []port
	err := t.leaseAll(owner, got, &taken)
	if err != nil {
		return nil, errors.Join(append([]error{err}, t.drop(taken)...)...)
	}
	t.owners[owner] = append(t.owners[owner], taken...)
	return got, nil
}

func (t *Table) leaseAll(owner Owner, got []ipam.Publish, taken *[]port) error {
	for _, p := range got {
		if p.HostPort == 0 {
			continue
		}
		if err := t.takeRun(owner, p, taken); err != nil {
			return t.explain(err)
		}
	}
	for i := range got {
		if got[i].HostPort != 0 {
			continue
		}
		if err := t.choose(owner, &got[i], taken); err != nil {
			return err
		}
	}
	return nil
}

// takeRun takes every port of a mapping with known host ports, or none.
func (t *Table) takeRun(owner Owner, p ipam.Publish, taken *[]port) error {
	before := len(*taken)
	for i := range p.Len() {
		k := port{p.Protocol, p.HostPort + uint16(i)}
		if err := t.take(owner, k); err != nil {
			errs := append([]error{err}, t.drop((*taken)[before:])...)
			*taken = (*taken)[:before]
			return errors.Join(errs...)
		}
		*taken = append(*taken, k)
	}
	return nil
}

func (t *Table) take(owner Owner, k port) error {
	if h, ok := t.held[k]; ok {
		return &InUseError{Protocol: k.protocol, Port: k.number, Owner: h.owner}
	}
	c, err := t.binder.Bind(k.protocol, k.number)
	if err != nil {
		return err
	}
	t.held[k] = holding{owner: owner, closer: c}
	return nil
}

// explain adds to an error that is about to be shown who has the port.
func (t *Table) explain(err error) error {
	var used *InUseError
	if errors.As(err, &used) && used.Owner == (Owner{}) {
		used.Process = t.binder.Holder(used.Protocol, used.Port)
	}
	return err
}

// choose finds the next run of free ports after the cursor, once around the range.
func (t *Table) choose(owner Owner, p *ipam.Publish, taken *[]port) error {
	n, size := p.Len(), t.dynamic.size()
	start := 0 // offset in the range at which the search begins
	if t.cursor != 0 {
		start = (int(t.cursor) - int(t.dynamic.First) + 1) % size
	}
	// A run does not wrap, so an attempt that would is skipped. After a failure within a run the search goes on behind the
	// port that failed.
	for tried := 0; tried < size; {
		offset := (start + tried) % size
		if offset+n > size {
			tried += size - offset
			continue
		}
		try := *p
		try.HostPort = t.dynamic.First + uint16(offset)
		if skip := t.blocked(try); skip > 0 {
			tried += skip
			continue
		}
		err := t.takeRun(owner, try, taken)
		var used *InUseError
		switch {
		case err == nil:
			*p = try
			t.cursor = try.HostPort + uint16(n-1)
			return nil
		case errors.As(err, &used):
			tried += int(used.Port-try.HostPort) + 1
		default:
			return err
		}
	}
	return &UnavailableError{Count: n, Range: t.dynamic}
}

// blocked says how many ports to skip because one of the run is reserved or leased; 0 if none is.
func (t *Table) blocked(p ipam.Publish) int {
	for i := p.Len() - 1; i >= 0; i-- {
		k := port{p.Protocol, p.HostPort + uint16(i)}
		if _, leased := t.held[k]; leased || t.reserved[k] {
			return i + 1
		}
	}
	return 0
}

// Restore puts leases back as they were given before the agent was restarted, and binds the ports again. A port that a
// foreign process took meanwhile stays leased, since packets still go to the container; it is among the errors as an
// [*InUseError] without Owner, for the log. A port that is leased to another container is an [*InUseError] with its
// Owner, and is not taken.
func (t *Table) Restore(owner Owner, leases []ipam.Publish) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, p := range leases {
		if err := p.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		for i := range p.Len() {
			errs = append(errs, t.restore(owner, port{p.Protocol, p.HostPort + uint16(i)}))
		}
	}
	return errors.Join(errs...)
}

func (t *Table) restore(owner Owner, k port) error {
	h, known := t.held[k]
	if known && (h.owner != owner || h.closer != nil) {
		if h.owner == owner {
			return nil
		}
		return &InUseError{Protocol: k.protocol, Port: k.number, Owner: h.owner}
	}
	c, err := t.binder.Bind(k.protocol, k.number)
	if err != nil {
		c = nil
		err = fmt.Errorf("cannot hold host port again: %w", t.explain(err))
	}
	t.held[k] = holding{owner: owner, closer: c}
	if !known {
		t.owners[owner] = append(t.owners[owner], k)
	}
	return err
}

// Release frees all ports of the owner. Releasing what is not leased does nothing.
func (t *Table) Release(owner Owner) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := t.drop(t.owners[owner])
	delete(t.owners, owner)
	return errors.Join(errs...)
}

// Close lets go of all ports. The containers keep theirs: what is published is not the table's.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := t.drop(slices.Collect(maps.Keys(t.held)))
	clear(t.owners)
	return errors.Join(errs...)
}

func (t *Table) drop(ports []port) []error {
	var errs []error
	for _, k := range ports {
		if c := t.held[k].closer; c != nil {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("cannot let go of host port %d/%s: %w", k.number, k.protocol, err))
			}
		}
		delete(t.held, k)
	}
	return errs
}

var _ io.Closer = (*Table)(nil)

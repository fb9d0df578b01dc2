package sampler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/metrics"
)

// DefaultPeriod is the time between two rounds.
const DefaultPeriod = time.Second

// ErrNotTracked means that the sampler does not know the container.
var ErrNotTracked = errors.New("container is not measured")

// Config is what a Sampler needs. Open is required, the rest has useful zero values.
type Config struct {
	// Open opens a cgroup.
	Open func(cgroup string) (Source, error)
	// OpenNetwork opens a network namespace. Without it there are no network figures.
	OpenNetwork func(netns string, links metrics.Links) (NetworkSource, error)
	// HostCPU tells the processor time of the whole host in nanoseconds. Without it Sample.CPU.HostUsage is zero.
	HostCPU func() (uint64, error)
	// CPUs is the number of logical processors of the host, all by default.
	CPUs int
	// Period is the time between rounds, DefaultPeriod by default.
	Period time.Duration
	// Size is the number of unreported samples kept for a container, metrics.DefaultSize by default.
	Size int
	// Log is told of sources that cannot be read, once for each time they begin to fail.
	Log *zap.Logger
}

// Sampler measures containers. See the package comment for who may call what.
type Sampler struct {
	config Config

	// mu guards everything below and all sources. It is held for the reading of one target, never for a whole round.
	mu       sync.Mutex
	entries  map[string]*entry
	order    []*entry // by task and name; replaced, never changed in place
	networks map[networkKey]*network
	overhead Overhead
	hostCPU  uint64
	scratch  metrics.Sample // the sample being read, here so that it is not made anew each time
}

// New makes a sampler that measures nothing yet.
func New(c Config) *Sampler {
	if c.CPUs <= 0 {
		c.CPUs = runtime.NumCPU()
	}
	if c.Period <= 0 {
		c.Period = DefaultPeriod
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return &Sampler{config: c, entries: make(map[string]*entry), networks: make(map[networkKey]*network)}
}

// Run reads all targets in rounds until ctx is done, and then closes all sources. It is called once.
func (s *Sampler) Run(ctx context.Context) error {
	defer s.close()
	jitter := time.NewTimer(rand.N(s.config.Period))
	defer jitter.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-jitter.C:
	}
	tick := time.NewTicker(s.config.Period)
	defer tick.Stop()
	for {
		s.round()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Track begins to measure a target, from the next round on. For a target that is measured already it changes what is known about
// it: a restart, another path. The series goes on then, and Base is ignored.
func (s *Sampler) Track(t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := t.Container.ID
	if e, ok := s.entries[id]; ok {
		moved := t.Cgroup != e.target.Cgroup || t.Netns != e.target.Netns || t.Links != e.target.Links
		if moved || t.StartedAt.After(e.target.StartedAt) {
			s.release(e)
		}
		e.target, e.between = t, false
	} else {
		s.entries[id] = &entry{
			target: t,
			series: metrics.NewSeries(metrics.SeriesConfig{CPUs: s.config.CPUs, Size: s.config.Size, Base: t.Base}),
		}
	}
	s.sort()
}

// Untrack ends measuring a container and closes its files at once. It should come before the network namespace is taken down: the
// open socket keeps a namespace alive. Unknown ids are fine.
func (s *Sampler) Untrack(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return
	}
	s.release(e)
	e.untracked = true
	delete(s.entries, id)
	s.sort()
}

// Latest is the newest reading of a container; its Sample.Time is zero if there is none yet. It reports false for a container that
// is not tracked.
func (s *Sampler) Latest(id string) (metrics.Reading, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return metrics.Reading{}, false
	}
	return e.reading(s.config.CPUs), true
}

// Detail reads the rarely wanted figures of a container now. It answers ErrNotTracked, or metrics.ErrGone if there is nothing to
// read at the moment.
func (s *Sampler) Detail(id string) (metrics.Detail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return metrics.Detail{}, fmt.Errorf("cannot read details of %s: %w", id, ErrNotTracked)
	}
	if e.source == nil {
		return metrics.Detail{}, fmt.Errorf("cannot read details of %s: %w", id, metrics.ErrGone)
	}
	d, err := e.source.Detail()
	if err != nil {
		return metrics.Detail{}, fmt.Errorf("cannot read details of %s: %w", id, err)
	}
	return d, nil
}

// Reached is what the counters of a container have reached, for whoever stores it until it is measured by a later agent: the Base of
// its next life. It is asked between two lives, and ends the first: nothing is read until Track is told of the second.
func (s *Sampler) Reached(id string) (metrics.Base, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return metrics.Base{}, false
	}
	e.between = true
	s.release(e)
	return e.series.Reached(), true
}

// Collect sums up each container's samples since the last call and marks them as reported, whatever becomes of the report
// (control-plane §5.5). Containers with nothing to report are left out, tracked counts them too: with none tracked the host is idle.
func (s *Sampler) Collect() (reports []Collected, tracked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		if e.target.Container.Name == "" {
			continue
		}
		tracked++
		if r, ok := e.series.Collect(); ok {
			reports = append(reports, Collected{
				Container: e.target.Container, Report: r, RestartPolicy: e.target.RestartPolicy,
			})
		}
	}
	return reports, tracked
}

// Snapshot is the newest reading of everything that has one, ordered by task and container name.
func (s *Sampler) Snapshot() []metrics.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	readings := make([]metrics.Reading, 0, len(s.order))
	for _, e := range s.order {
		if r := e.reading(s.config.CPUs); !r.Sample.Time.IsZero() {
			readings = append(readings, r)
		}
	}
	return readings
}

// Overhead tells what sampling has cost so far.
func (s *Sampler) Overhead() Overhead {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overhead
	o.Tracked = len(s.entries)
	for _, e := range s.order {
		o.Dropped += e.series.Dropped()
	}
	return o
}

// sort makes the order anew. The lock is held.
func (s *Sampler) sort() {
	order := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		order = append(order, e)
	}
	slices.SortFunc(order, func(a, b *entry) int {
		x, y := &a.target.Container, &b.target.Container
		if c := strings.Compare(x.TaskARN, y.TaskARN); c != 0 {
			return c
		}
		if c := strings.Compare(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	s.order = order
}

// close closes every source.
func (s *Sampler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		s.release(e)
	}
}

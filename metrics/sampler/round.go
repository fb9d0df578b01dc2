package sampler

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/metrics"
)

// maxWait is the greatest number of rounds between two attempts at a source that could not be opened.
const maxWait = 16

// entry is one target with what belongs to it.
type entry struct {
	target    Target
	series    *metrics.Series
	untracked bool
	between   bool // two lives: what the first has reached has been told, and nothing of it is added any more

	source  Source // nil while not open
	network *network
	attempt attempt
}

// networkKey is what targets must have in common to share a reading of the network.
type networkKey struct {
	netns string
	links metrics.Links
}

// network is a namespace that one or more targets use.
type network struct {
	key     networkKey
	users   int
	source  NetworkSource // nil while not open
	attempt attempt
	round   uint64 // in which value was read
	value   *metrics.Network
}

// attempt is the patience with something that cannot be opened or read.
type attempt struct {
	next    uint64 // the round of the next attempt
	wait    uint64 // rounds to wait after the next failure
	failing bool   // the log has been told
}

// round reads every target once.
func (s *Sampler) round() {
	began := time.Now()
	s.mu.Lock()
	round := s.overhead.Rounds
	order := s.order
	s.readHost()
	s.mu.Unlock()
	for _, e := range order {
		s.mu.Lock()
		s.read(e, round)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	took := time.Since(began)
	s.overhead.Rounds++
	s.overhead.Last = took
	s.overhead.Total += took
}

// readHost reads the processor time of the host. A failure leaves it unknown.
func (s *Sampler) readHost() {
	s.hostCPU = 0
	if s.config.HostCPU == nil {
		return
	}
	usage, err := s.config.HostCPU()
	if err == nil {
		s.hostCPU = usage
	}
}

// read takes one sample of one target, unless it was untracked since the round began. The lock is held.
func (s *Sampler) read(e *entry, round uint64) {
	if e.untracked || e.between {
		return
	}
	if e.source == nil {
		if !e.attempt.due(round) {
			return
		}
		source, err := s.config.Open(e.target.Cgroup)
		if err != nil {
			s.failed(&e.attempt, round, e.target.Container, err)
			return
		}
		e.source = source
	}
	sample := &s.scratch
	*sample = metrics.Sample{Time: time.Now()}
	sample.CPU.HostUsage = s.hostCPU
	if err := e.source.Read(sample); err != nil {
		s.closeSource(e)
		s.failed(&e.attempt, round, e.target.Container, err)
		return
	}
	e.attempt = attempt{}
	sample.Network = s.readNetwork(e, round)
	e.series.Add(*sample, e.target.Restarts)
}

// readNetwork reads the target's network, once a round for all who share it. Without figures the answer is nil; the container is
// measured all the same. The lock is held.
func (s *Sampler) readNetwork(e *entry, round uint64) *metrics.Network {
	if e.target.Netns == "" || s.config.OpenNetwork == nil {
		return nil
	}
	if e.network == nil {
		e.network = s.join(networkKey{netns: e.target.Netns, links: e.target.Links}, round)
	}
	n := e.network
	if n.round == round {
		return n.value
	}
	n.round, n.value = round, nil
	if n.source == nil {
		if !n.attempt.due(round) {
			return nil
		}
		source, err := s.config.OpenNetwork(n.key.netns, n.key.links)
		if err != nil {
			s.failed(&n.attempt, round, e.target.Container, err)
			return nil
		}
		n.source = source
	}
	value, err := n.source.Read()
	if err != nil {
		s.closeNetwork(n)
		s.failed(&n.attempt, round, e.target.Container, err)
		return nil
	}
	n.attempt = attempt{}
	n.value = value
	return value
}

// join finds the network or makes it, not read in this round yet.
func (s *Sampler) join(key networkKey, round uint64) *network {
	n, ok := s.networks[key]
	if !ok {
		n = &network{key: key, round: round - 1}
		s.networks[key] = n
	}
	n.users++
	return n
}

// release closes what the entry has open, the network if nobody else uses it. The lock is held.
func (s *Sampler) release(e *entry) {
	s.closeSource(e)
	e.attempt = attempt{}
	n := e.network
	if n == nil {
		return
	}
	e.network = nil
	if n.users--; n.users == 0 {
		s.closeNetwork(n)
		delete(s.networks, n.key)
	}
}

func (s *Sampler) closeSource(e *entry) {
	if e.source == nil {
		return
	}
	if err := e.source.Close(); err != nil {
		s.config.Log.Warn("cannot close cgroup files", zap.String("container", e.target.Container.ID), zap.Error(err))
	}
	e.source = nil
}

func (s *Sampler) closeNetwork(n *network) {
	if n.source == nil {
		return
	}
	if err := n.source.Close(); err != nil {
		s.config.Log.Warn("cannot close network namespace", zap.String("netns", n.key.netns), zap.Error(err))
	}
	n.source = nil
}

// failed puts off the next attempt, and tells the log when a source begins to fail for another reason than being gone.
func (s *Sampler) failed(a *attempt, round uint64, c metrics.Container, err error) {
	a.putOff(round)
	if errors.Is(err, metrics.ErrGone) || a.failing {
		return
	}
	a.failing = true
	s.config.Log.Warn("cannot measure container", zap.String("task", c.TaskARN), zap.String("container", c.Name), zap.Error(err))
}

func (a *attempt) due(round uint64) bool { return round >= a.next }

func (a *attempt) putOff(round uint64) {
	a.wait = min(max(2*a.wait, 1), maxWait)
	a.next = round + a.wait
}

// reading is the newest that is known.
func (e *entry) reading(cpus int) metrics.Reading {
	newest, previous, _ := e.series.Newest()
	return metrics.Reading{
		Container: e.target.Container, Sample: newest, Previous: previous, Rates: e.series.Rates(),
		Restarts: e.target.Restarts, RestartPolicy: e.target.RestartPolicy, Dropped: e.series.Dropped(), CPUs: cpus,
	}
}

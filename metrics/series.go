package metrics

import (
	"math"
	"time"
)

// DefaultSize is how many samples not yet reported a Series keeps: the newest 80, as the ECS agent does (task-engine §13.1).
const DefaultSize = 80

// SeriesConfig says how a Series counts. The zero value is a host with one processor and the default size.
type SeriesConfig struct {
	// CPUs is the number of logical processors of the host: all percentages are of them together.
	CPUs int
	// Size is the greatest number of unreported samples kept; older ones are forgotten.
	Size int
	// Base is what the counters had reached in earlier lives of the container.
	Base Base
}

// Series is the recent past of one container. Add believes a sample or drops it, Collect sums up what was not reported yet.
//
// A sample is dropped if a counter fell or rose faster than the host can make it. A single odd reading is thereby forgotten. If
// the next sample agrees with the dropped one, the counter has truly jumped; the series then goes on from there without the jump:
//
//	    agrees with last                      agrees with suspect: carry the jump in the offset
//	   ┌───────────────┐                       ┌──────────────┐
//	   ▼               │    disagrees: drop    │              ▼
//	believing ─────────┴──────────────────► suspecting ──► believing
//	                                         │      ▲
//	                                         └──────┘ disagrees with both: drop, suspect the new one
//
// A cgroup or a namespace with another identity is a restart: its counters begin at zero and the old totals are carried.
type Series struct {
	cpus int
	size int

	offset    counters // added to raw readings
	peak      uint64   // highest Memory.Peak of earlier lives
	failCount uint64   // highest Memory.FailCount of earlier lives

	seen     int // samples believed, ever
	dropped  uint64
	last     reading
	suspect  reading // the odd reading before this one, if there was one
	odd      bool    // there was one
	newest   Sample  // with carried counters
	previous Sample
	rates    rates

	points []point // ring of samples not reported yet
	head   int     // the oldest, when the ring is full

	restarts         int // at the newest sample
	reportedRestarts int // at the last reported sample, or the first sample
}

// reading is a sample reduced to what the next one is compared with.
type reading struct {
	at         time.Time
	raw        counters
	cgroup     uint64
	network    uint64
	hasNetwork bool // this sample has network counters
	hadNetwork bool // raw has network counters, of this sample or of an earlier one
}

// rates are the changes per second; NaN means unknown.
type rates struct {
	cpuPercent, rx, tx float64
}

// point is what one sample adds to a report.
type point struct {
	rates                 rates
	memoryMiB             float64
	readBytes, writeBytes uint64
	traffic               Traffic
	hasNetwork            bool
}

// NewSeries makes an empty series.
func NewSeries(c SeriesConfig) *Series {
	if c.CPUs <= 0 {
		c.CPUs = 1
	}
	if c.Size <= 0 {
		c.Size = DefaultSize
	}
	return &Series{
		cpus: c.CPUs, size: c.Size,
		offset: c.Base.counters(), peak: c.Base.Peak, failCount: c.Base.FailCount,
		rates: unknownRates(),
	}
}

// Add takes a sample and the number of restarts the container has had. It reports false if the sample was dropped.
func (s *Series) Add(sample Sample, restarts int) bool {
	now := readingOf(&sample)
	if s.seen == 0 {
		s.reportedRestarts = restarts
		s.accept(sample, now, unknownRates(), restarts)
		return true
	}
	if now.at.Before(s.last.at) {
		s.dropped++
		return false
	}
	odd := s.oddities(&s.last, &now)
	if odd != 0 && (!s.odd || s.oddities(&s.suspect, &now) != 0) {
		s.suspect, s.odd = now, true
		s.dropped++
		return false
	}
	s.carry(&now, odd)
	s.accept(sample, now, s.ratesTo(&now, odd), restarts)
	return true
}

// Dropped counts the samples that were not believed.
func (s *Series) Dropped() uint64 { return s.dropped }

// Base is what is added to readings by now, for whoever stores it. It changes only when a counter was carried.
func (s *Series) Base() Base {
	var b Sample
	b.Network = &Network{}
	s.offset.apply(&b)
	return Base{
		CPU: b.CPU, IO: b.IO, Network: b.Network.Total, OOMKills: b.Memory.OOMKills,
		Peak: s.peak, FailCount: s.failCount,
	}
}

// Reached is what the counters have reached by now: the Base from which the container goes on once its cgroup is made anew, as it
// is when its restart policy starts it again. Its network namespace stays, and so do the counters of that.
func (s *Series) Reached() Base {
	base := s.Base()
	var cgroup Sample
	last := s.last.raw.plus(&s.offset)
	last.apply(&cgroup)
	base.CPU, base.IO, base.OOMKills = cgroup.CPU, cgroup.IO, cgroup.Memory.OOMKills
	base.Peak = max(base.Peak, s.newest.Memory.Peak)
	base.FailCount = max(base.FailCount, s.newest.Memory.FailCount)
	return base
}

// Newest tells the newest believed sample and the one before it, with carried counters, and how fast things changed between them.
// Without any sample it reports false.
func (s *Series) Newest() (newest, previous Sample, ok bool) {
	return s.newest, s.previous, s.seen > 0
}

// Rates are the changes per second at the newest sample.
func (s *Series) Rates() Rates {
	if math.IsNaN(s.rates.cpuPercent) {
		return Rates{}
	}
	r := Rates{Known: true, CPUPercent: s.rates.cpuPercent}
	if !math.IsNaN(s.rates.rx) {
		r.RxBytesPerSecond, r.TxBytesPerSecond = s.rates.rx, s.rates.tx
	}
	return r
}

// oddities compares two readings and answers with a bit for each counter that cannot have got from one to the other.
func (s *Series) oddities(from, to *reading) uint32 {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds < 0 {
		return math.MaxUint32
	}
	start := from.startOf(to)
	var odd uint32
	for i := range start {
		limit := maxRate(i, s.cpus)
		if limit == 0 || (i >= firstNetCounter && !(from.hadNetwork && to.hasNetwork)) {
			continue
		}
		if to.raw[i] < start[i] || float64(to.raw[i]-start[i]) > limit*(seconds+slackSeconds) {
			odd |= 1 << i
		}
	}
	return odd
}

// carry moves the offset so that the totals go on from where they were: over a new cgroup or namespace, and over a jump that the
// suspect and the new reading agree on.
func (s *Series) carry(now *reading, odd uint32) {
	newCgroup := isAnother(s.last.cgroup, now.cgroup)
	newNetwork := isAnother(s.last.network, now.network)
	if newCgroup {
		s.peak = max(s.peak, s.newest.Memory.Peak)
		s.failCount = max(s.failCount, s.newest.Memory.FailCount)
	}
	var agreed counters // where the suspect and the new reading agree that an odd counter began
	if odd != 0 {
		agreed = s.suspect.startOf(now)
	}
	for i := range s.offset {
		switch {
		case odd&(1<<i) != 0:
			s.offset[i] += s.last.raw[i] - agreed[i]
		case i < firstNetCounter && newCgroup, i >= firstNetCounter && newNetwork:
			s.offset[i] += s.last.raw[i]
		}
	}
}

// ratesTo works out the changes per second up to now, after carry. Readings at one instant have the rates of the first of them.
func (s *Series) ratesTo(now *reading, odd uint32) rates {
	if now.at.Equal(s.last.at) {
		return s.rates
	}
	total := now.raw.plus(&s.offset)
	before := countersOf(&s.newest)
	perSecond := func(i int, to, from uint64) float64 {
		since := s.last.at
		if odd&(1<<i) != 0 {
			since = s.suspect.at
		}
		seconds := now.at.Sub(since).Seconds()
		if seconds <= 0 || to < from {
			return math.NaN()
		}
		return float64(to-from) / seconds
	}
	n := uint64(s.cpus)
	r := unknownRates()
	r.cpuPercent = min(100, 100/nanosPerSecond*perSecond(cpuUsage, total[cpuUsage]/n, before[cpuUsage]/n))
	if s.last.hasNetwork && now.hasNetwork {
		r.rx = perSecond(rxBytes, total[rxBytes], before[rxBytes])
		r.tx = perSecond(txBytes, total[txBytes], before[txBytes])
	}
	return r
}

// accept makes the sample the newest one and adds its point to the ring.
func (s *Series) accept(sample Sample, now reading, r rates, restarts int) {
	total := now.raw.plus(&s.offset)
	total.apply(&sample)
	if sample.Memory.Peak > 0 || s.peak > 0 {
		sample.Memory.Peak = max(sample.Memory.Peak, s.peak)
	}
	sample.Memory.FailCount = max(sample.Memory.FailCount, s.failCount)

	if !now.hasNetwork {
		// Counters that are away for a while are compared with the last that were seen.
		for i := firstNetCounter; i < counterCount; i++ {
			now.raw[i] = s.last.raw[i]
		}
		now.network, now.hadNetwork = s.last.network, s.last.hadNetwork
	}
	s.previous, s.newest = s.newest, sample
	s.last, s.odd = now, false
	s.rates, s.restarts = r, restarts
	s.seen++

	p := point{
		rates: r, memoryMiB: float64(sample.ECSMemoryMiB()),
		readBytes: sample.IO.ReadBytes, writeBytes: sample.IO.WriteBytes,
	}
	if sample.Network != nil {
		p.traffic, p.hasNetwork = sample.Network.Total, true
	}
	s.push(p)
}

func (s *Series) push(p point) {
	if len(s.points) < s.size {
		s.points = append(s.points, p)
		return
	}
	s.points[s.head] = p
	s.head = (s.head + 1) % s.size
}

func readingOf(s *Sample) reading {
	r := reading{at: s.Time, raw: countersOf(s), cgroup: s.CgroupID}
	if s.Network != nil {
		r.network, r.hasNetwork, r.hadNetwork = s.Network.ID, true, true
	}
	return r
}

// startOf is where the counters of the reading to began, seen from r: at r's, or at zero in a new cgroup or namespace.
func (r *reading) startOf(to *reading) counters {
	start := r.raw
	if isAnother(r.cgroup, to.cgroup) {
		clear(start[:firstNetCounter])
	}
	if isAnother(r.network, to.network) {
		clear(start[firstNetCounter:])
	}
	return start
}

func isAnother(a, b uint64) bool { return a != 0 && b != 0 && a != b }

func unknownRates() rates { return rates{cpuPercent: math.NaN(), rx: math.NaN(), tx: math.NaN()} }

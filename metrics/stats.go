package metrics

import (
	"math"
	"math/bits"
)

// Stats is a statistic set over some samples. With a SampleCount of zero the other fields mean nothing.
type Stats struct {
	Min, Max, Sum float64
	SampleCount   int
}

// Add takes one more value into the set.
func (s *Stats) Add(v float64) {
	if s.SampleCount == 0 {
		*s = Stats{Min: v, Max: v, Sum: v, SampleCount: 1}
		return
	}
	s.Min, s.Max = min(s.Min, v), max(s.Max, v)
	s.Sum += v
	s.SampleCount++
}

// Average is the mean of the values, and zero if there are none.
func (s *Stats) Average() float64 {
	if s.SampleCount == 0 {
		return 0
	}
	return s.Sum / float64(s.SampleCount)
}

// UnsignedStats is a statistic set over unsigned counters. The sum stops at the greatest uint64 instead of starting again at zero.
type UnsignedStats struct {
	Min, Max, Sum uint64
	SampleCount   int
}

// Add takes one more value into the set.
func (s *UnsignedStats) Add(v uint64) {
	if s.SampleCount == 0 {
		*s = UnsignedStats{Min: v, Max: v, Sum: v, SampleCount: 1}
		return
	}
	s.Min, s.Max = min(s.Min, v), max(s.Max, v)
	sum, carry := bits.Add64(s.Sum, v, 0)
	if carry != 0 {
		sum = math.MaxUint64
	}
	s.Sum = sum
	s.SampleCount++
}

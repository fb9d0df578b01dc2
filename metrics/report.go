package metrics

import "math"

// Report is the statistics of one container over the samples since the last report, in the units that ECS wants
// (control-plane §5.5).
type Report struct {
	// CPUPercent is in percent of the whole host: one busy processor of four is 25.
	CPUPercent Stats
	// MemoryMiB is Sample.ECSMemoryMiB.
	MemoryMiB Stats
	// ReadBytes and WriteBytes are block device counters, not rates.
	ReadBytes, WriteBytes UnsignedStats
	// Network is nil if the container has no counters of its own.
	Network *NetworkReport
	// Restarts is the number of restarts since the last report.
	Restarts int
}

// NetworkReport is the network part of a Report: counters, and rates in bytes per second. The rates have no samples if there were
// no two successive readings of the network.
type NetworkReport struct {
	RxBytes, RxPackets, RxErrors, RxDropped UnsignedStats
	TxBytes, TxPackets, TxErrors, TxDropped UnsignedStats
	RxBytesPerSecond, TxBytesPerSecond      Stats
}

// Collect sums up the samples that were not reported yet and marks them as reported. It reports false, and marks nothing, if there
// is nothing to report: there have not been two samples, or none since the last report.
func (s *Series) Collect() (Report, bool) {
	if s.seen < 2 || len(s.points) == 0 {
		return Report{}, false
	}
	var r Report
	var network NetworkReport
	for i := range s.points {
		p := &s.points[i]
		r.MemoryMiB.Add(p.memoryMiB)
		addKnown(&r.CPUPercent, p.rates.cpuPercent)
		r.ReadBytes.Add(p.readBytes)
		r.WriteBytes.Add(p.writeBytes)
		if p.hasNetwork {
			network.add(p)
		}
	}
	if r.CPUPercent.SampleCount == 0 {
		// Without CPU there is no report of the container at all (task-engine §13.1).
		return Report{}, false
	}
	if network.RxBytes.SampleCount > 0 {
		r.Network = &network
	}
	r.Restarts = s.restarts - s.reportedRestarts
	s.reportedRestarts = s.restarts
	s.points, s.head = s.points[:0], 0
	return r, true
}

func (n *NetworkReport) add(p *point) {
	t := &p.traffic
	n.RxBytes.Add(t.RxBytes)
	n.RxPackets.Add(t.RxPackets)
	n.RxErrors.Add(t.RxErrors)
	n.RxDropped.Add(t.RxDropped)
	n.TxBytes.Add(t.TxBytes)
	n.TxPackets.Add(t.TxPackets)
	n.TxErrors.Add(t.TxErrors)
	n.TxDropped.Add(t.TxDropped)
	addKnown(&n.RxBytesPerSecond, p.rates.rx)
	addKnown(&n.TxBytesPerSecond, p.rates.tx)
}

func addKnown(s *Stats, v float64) {
	if !math.IsNaN(v) {
		s.Add(v)
	}
}

package metrics

// counters are all the counters of a sample in one row, so that carrying, comparing and subtracting them is a loop.
type counters [counterCount]uint64

// The places in the row. Those from firstNetCounter on count since the network namespace was made, the others since the cgroup was.
const (
	cpuUsage = iota
	cpuUser
	cpuSystem
	cpuPeriods
	cpuThrottledPeriods
	cpuThrottledTime
	ioReadBytes
	ioWriteBytes
	ioReadOps
	ioWriteOps
	oomKills
	rxBytes
	rxPackets
	rxErrors
	rxDropped
	txBytes
	txPackets
	txErrors
	txDropped
	counterCount

	firstNetCounter = rxBytes
)

const (
	nanosPerSecond = 1e9
	// maxBytesPerSecond and maxEventsPerSecond are far above what a container can do, and far below what a garbled counter shows.
	maxBytesPerSecond  = 1e12
	maxEventsPerSecond = 1e10
	// slackSeconds is what a counter may be ahead of the clock: the readings of a sample are not taken at one instant.
	slackSeconds = 0.25
	// cpuTolerance is how far above all processors the processor time may seem to rise before it is nonsense and not just jitter.
	cpuTolerance = 2
)

// countersOf gathers the counters of a sample. Network counters are zero if there is no network.
func countersOf(s *Sample) counters {
	c := counters{
		cpuUsage: s.CPU.Usage, cpuUser: s.CPU.User, cpuSystem: s.CPU.System,
		cpuPeriods: s.CPU.Periods, cpuThrottledPeriods: s.CPU.ThrottledPeriods, cpuThrottledTime: s.CPU.ThrottledTime,
		ioReadBytes: s.IO.ReadBytes, ioWriteBytes: s.IO.WriteBytes, ioReadOps: s.IO.ReadOps, ioWriteOps: s.IO.WriteOps,
		oomKills: s.Memory.OOMKills,
	}
	if s.Network != nil {
		c.setTraffic(s.Network.Total)
	}
	return c
}

func (c *counters) setTraffic(t Traffic) {
	c[rxBytes], c[rxPackets], c[rxErrors], c[rxDropped] = t.RxBytes, t.RxPackets, t.RxErrors, t.RxDropped
	c[txBytes], c[txPackets], c[txErrors], c[txDropped] = t.TxBytes, t.TxPackets, t.TxErrors, t.TxDropped
}

func (c *counters) traffic() Traffic {
	return Traffic{
		RxBytes: c[rxBytes], RxPackets: c[rxPackets], RxErrors: c[rxErrors], RxDropped: c[rxDropped],
		TxBytes: c[txBytes], TxPackets: c[txPackets], TxErrors: c[txErrors], TxDropped: c[txDropped],
	}
}

// apply writes the counters back into a sample. If they differ from what the sample's network says, the network is replaced, since
// the old one is shared. A single interface follows the total; which of several a carried counter belongs to is not known.
func (c *counters) apply(s *Sample) {
	s.CPU.Usage, s.CPU.User, s.CPU.System = c[cpuUsage], c[cpuUser], c[cpuSystem]
	s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.ThrottledTime = c[cpuPeriods], c[cpuThrottledPeriods], c[cpuThrottledTime]
	s.IO = BlockIO{
		ReadBytes: c[ioReadBytes], WriteBytes: c[ioWriteBytes], ReadOps: c[ioReadOps], WriteOps: c[ioWriteOps],
	}
	s.Memory.OOMKills = c[oomKills]
	if s.Network == nil || s.Network.Total == c.traffic() {
		return
	}
	n := &Network{ID: s.Network.ID, Total: c.traffic(), Interfaces: s.Network.Interfaces}
	if len(n.Interfaces) == 1 {
		n.Interfaces = []Interface{{Name: n.Interfaces[0].Name, Traffic: n.Total}}
	}
	s.Network = n
}

// plus adds o, modulo 2^64: an offset may stand for a negative number.
func (c *counters) plus(o *counters) counters {
	sum := *c
	for i := range sum {
		sum[i] += o[i]
	}
	return sum
}

// maxRate is how fast a counter may rise in one second on a host of cpus processors, or zero if it is not checked: user and system
// time are estimates that the kernel corrects, and the throttling and kill counters are not sent to ECS.
func maxRate(i, cpus int) float64 {
	switch i {
	case cpuUsage:
		return cpuTolerance * float64(cpus) * nanosPerSecond
	case ioReadBytes, ioWriteBytes, rxBytes, txBytes:
		return maxBytesPerSecond
	case ioReadOps, ioWriteOps, rxPackets, txPackets, rxErrors, txErrors, rxDropped, txDropped:
		return maxEventsPerSecond
	default:
		return 0
	}
}

// Base is what a container's counters had reached before its cgroup or its network namespace was made anew. It is added to all
// later readings, so that the series never falls back when a container is started again by its restart policy. Peak and FailCount
// are kept as maximum. Whoever wants the series to survive the agent stores the Base and hands it to the new Series. Additions are
// modulo 2^64.
type Base struct {
	CPU       CPU
	IO        BlockIO
	Network   Traffic
	OOMKills  uint64
	Peak      uint64
	FailCount uint64
}

func (b *Base) counters() counters {
	s := Sample{CPU: b.CPU, IO: b.IO, Network: &Network{Total: b.Network}}
	s.Memory.OOMKills = b.OOMKills
	return countersOf(&s)
}

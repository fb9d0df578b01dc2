package ctrd

import "github.com/berthd/berth/runtime/container"

// sensible refuses limits that contradict themselves or the kernel, in Docker's
// words: the user who sees them can look them up.
func sensible(in specInput) error {
	l := in.Limits
	switch {
	case l.Memory == 0 && l.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case l.Memory > 0 && l.MemorySwap > 0 && l.MemorySwap < max(l.Memory, minMemory):
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case l.Memory > 0 && l.MemoryReservation > max(l.Memory, minMemory):
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	case l.Swappiness != nil && *l.Swappiness > 100:
		return invalid("Invalid value: %d, valid memory swappiness range is 0-100", *l.Swappiness)
	case l.OOMScoreAdj != nil && (*l.OOMScoreAdj < -1000 || *l.OOMScoreAdj > 1000):
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", *l.OOMScoreAdj)
	case l.CPUPeriod != 0 && (l.CPUPeriod < 1000 || l.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case l.CPUQuota > 0 && l.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case l.ShmSize < 0:
		return invalid("SHM size can not be less than 0")
	}
	return modes(in.Rights)
}

// modes refuses words that name no mode.
func modes(r container.Rights) error {
	switch r.Cgroupns {
	case "", "host", "private":
	default:
		return invalid("invalid cgroup namespace mode: %v", r.Cgroupns)
	}
	switch r.Userns {
	case "", "host":
		return nil
	}
	return invalid("invalid userns mode: %v", r.Userns)
}

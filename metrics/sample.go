package metrics

import (
	"errors"
	"math"
	"time"
)

// ErrGone means that what was measured no longer exists: the cgroup was removed or the network namespace went away. It is an
// everyday end of a container, not a fault.
var ErrGone = errors.New("measured object is gone")

// NoLimit is the value of a limit that is not set.
const NoLimit uint64 = math.MaxUint64

// Version is a cgroup version. The zero value means unknown.
type Version uint8

// The cgroup versions.
const (
	V1 Version = 1
	V2 Version = 2
)

// Links says which links of a network namespace count as a container's traffic. Loopback never does.
type Links string

// The choices of links.
const (
	// EthernetLinks are all Ethernet-like links, the container's end of a veth pair among them: bridge mode. Tunnels are left out,
	// since what they carry is counted again on the link beneath.
	EthernetLinks Links = "ethernet"
	// DeviceLinks are real devices and VLANs only, and whatever is eth0: awsvpc mode, where the veth pair to the agent must not count
	// (task-engine §13.5).
	DeviceLinks Links = "device"
)

// Sample is one reading of one container (or of a whole task, whose cgroup has the same files). Counters count since the cgroup or
// the network namespace was made. A figure that the kernel does not offer is zero.
type Sample struct {
	// Time is when the reading began.
	Time time.Time
	// Version is the cgroup version the reading came from.
	Version Version
	// CgroupID tells one cgroup from the next one of the same name: its inode. Zero if unknown.
	CgroupID uint64

	CPU      CPU
	Memory   Memory
	IO       BlockIO
	PIDs     PIDs
	Pressure Pressure

	// Network is nil when the container has no counters of its own: network modes host and none. It is shared by all containers of
	// a namespace and must not be changed.
	Network *Network
}

// CPU is processor time. All times are nanoseconds.
type CPU struct {
	// Usage is the time used in all, User and System its two parts.
	Usage, User, System uint64
	// Periods is the number of CFS enforcement periods that passed, ThrottledPeriods in how many of them the quota ran out, and
	// ThrottledTime how long runnable threads were kept waiting.
	Periods, ThrottledPeriods, ThrottledTime uint64
	// HostUsage is the time that all processors of the host have spent in all states, idle too. Zero if not read.
	HostUsage uint64
}

// Memory is memory in bytes, except where counts are named.
type Memory struct {
	// Usage is everything charged to the cgroup, page cache and kernel memory included. Limit is NoLimit if there is none.
	Usage, Limit uint64
	// Peak is the highest Usage seen by the kernel; zero where the kernel does not tell (cgroup v2 before Linux 5.19).
	Peak uint64
	// Cache is the v1 key "cache". It exists for the ECS formula alone; File is the comparable figure. Zero on v2.
	Cache uint64
	// Anon is anonymous memory, File the page cache (tmpfs included), InactiveFile and ActiveFile its two lists, Shmem tmpfs and
	// shared memory.
	Anon, File, InactiveFile, ActiveFile, Shmem uint64
	// Slab is kernel slab memory and Sock network buffers (v2 only). Kernel is all kernel memory.
	Slab, Sock, Kernel uint64
	// Swap is swap in use.
	Swap uint64
	// PageFaults and MajorFaults are counts.
	PageFaults, MajorFaults uint64
	// FailCount counts how often Usage ran into Limit: v1 memory.failcnt, v2 the key max of memory.events.
	FailCount uint64
	// OOMKills counts processes killed by the kernel for want of memory in this cgroup or below it.
	OOMKills uint64
}

// BlockIO is block device traffic summed over devices.
type BlockIO struct {
	ReadBytes, WriteBytes uint64
	ReadOps, WriteOps     uint64
}

// PIDs counts processes and threads. Limit is NoLimit if there is none.
type PIDs struct {
	Current, Limit uint64
}

// Pressure is pressure stall information. It exists on cgroup v2 with PSI compiled in and switched on; Known says so.
type Pressure struct {
	Known           bool
	CPU, Memory, IO Stall
}

// Stall is the time lost for want of one resource.
type Stall struct {
	// Some is the time during which at least one task waited, Full during which all did.
	Some, Full time.Duration
	// SomeAvg10 and FullAvg10 are the share of the last ten seconds, in percent.
	SomeAvg10, FullAvg10 float64
}

// Network is the traffic of one network namespace.
type Network struct {
	// ID tells one namespace from another: its inode. Zero if unknown. Inodes are used again after a namespace is gone.
	ID uint64
	// Total is the sum over Interfaces.
	Total Traffic
	// Interfaces are the links that count, in the order of their index.
	Interfaces []Interface
}

// Interface is one link's traffic under the name it has inside its namespace.
type Interface struct {
	Name    string
	Traffic Traffic
}

// Traffic is a set of link counters as seen from inside the namespace.
type Traffic struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Add adds o to t.
func (t *Traffic) Add(o Traffic) {
	t.RxBytes += o.RxBytes
	t.RxPackets += o.RxPackets
	t.RxErrors += o.RxErrors
	t.RxDropped += o.RxDropped
	t.TxBytes += o.TxBytes
	t.TxPackets += o.TxPackets
	t.TxErrors += o.TxErrors
	t.TxDropped += o.TxDropped
}

// Detail is what is only read when somebody asks: the raw material of the Docker-shaped statistics of the metadata endpoint
// (host §1.13).
type Detail struct {
	// MemoryStat is memory.stat, key by key.
	MemoryStat map[string]uint64
	// Devices is block traffic per device.
	Devices []DeviceIO
	// PerCPU is processor time per logical processor in nanoseconds; empty on cgroup v2.
	PerCPU []uint64
}

// DeviceIO is the block traffic of one device.
type DeviceIO struct {
	Major, Minor uint64
	BlockIO
}

const mebibyte = 1 << 20

// ECSMemory is the memory in use as Amazon ECS defines it, in bytes: on cgroup v2 usage less inactive_file, on v1 usage less
// cache, each only if that is smaller than the usage (task-engine §13.3).
func (s *Sample) ECSMemory() uint64 {
	less := s.Memory.Cache
	if s.Version == V2 && s.Memory.InactiveFile > 0 {
		less = s.Memory.InactiveFile
	}
	if less < s.Memory.Usage {
		return s.Memory.Usage - less
	}
	return s.Memory.Usage
}

// ECSMemoryMiB is ECSMemory in whole MiB, rounded down, which is how ECS is told.
func (s *Sample) ECSMemoryMiB() uint64 { return s.ECSMemory() / mebibyte }

// WorkingSet is the memory that cannot be had back cheaply, in bytes: usage less inactive page cache, as Kubernetes counts it.
func (s *Sample) WorkingSet() uint64 {
	if s.Memory.InactiveFile >= s.Memory.Usage {
		return 0
	}
	return s.Memory.Usage - s.Memory.InactiveFile
}

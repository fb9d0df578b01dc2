package taskmeta

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/berthd/berth/metrics"
)

// Stats are the newest readings of containers, by their ids in the runtime.
type Stats interface {
	// Latest is the newest reading; false for a container that is not measured.
	// Its Sample.Time is zero if there is none yet.
	Latest(id string) (metrics.Reading, bool)
	// Detail reads what is rarely wanted, now.
	Detail(id string) (metrics.Detail, error)
}

var errNoStats = errors.New("container is not measured")

// statsShape is Docker's StatsJSON as the ECS agent passes it on,
// spec/host.md §1.13.
type statsShape struct {
	Read        time.Time              `json:"read"`
	PreRead     time.Time              `json:"preread"`
	PIDs        pidsShape              `json:"pids_stats"`
	BlockIO     blockShape             `json:"blkio_stats"`
	NumProcs    uint32                 `json:"num_procs"`
	Storage     struct{}               `json:"storage_stats"`
	CPU         cpuShape               `json:"cpu_stats"`
	PreCPU      cpuShape               `json:"precpu_stats"`
	Memory      memoryShape            `json:"memory_stats"`
	Name        string                 `json:"name"`
	ID          string                 `json:"id"`
	Networks    map[string]trafficJSON `json:"networks,omitempty"`
	NetworkRate *rateShape             `json:"network_rate_stats,omitempty"`
}

type pidsShape struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// blockShape has a null for what the kernel does not tell.
type blockShape struct {
	Bytes   []blockEntry `json:"io_service_bytes_recursive"`
	Serves  []blockEntry `json:"io_serviced_recursive"`
	Queue   []blockEntry `json:"io_queue_recursive"`
	Time    []blockEntry `json:"io_service_time_recursive"`
	Wait    []blockEntry `json:"io_wait_time_recursive"`
	Merged  []blockEntry `json:"io_merged_recursive"`
	IOTime  []blockEntry `json:"io_time_recursive"`
	Sectors []blockEntry `json:"sectors_recursive"`
}

type blockEntry struct {
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	Op    string `json:"op"`
	Value uint64 `json:"value"`
}

type cpuShape struct {
	Usage      cpuUsage   `json:"cpu_usage"`
	System     uint64     `json:"system_cpu_usage,omitempty"`
	Online     int        `json:"online_cpus,omitempty"`
	Throttling throttling `json:"throttling_data"`
}

type cpuUsage struct {
	Total  uint64   `json:"total_usage"`
	PerCPU []uint64 `json:"percpu_usage,omitempty"`
	Kernel uint64   `json:"usage_in_kernelmode"`
	User   uint64   `json:"usage_in_usermode"`
}

type throttling struct {
	Periods          uint64 `json:"periods"`
	ThrottledPeriods uint64 `json:"throttled_periods"`
	ThrottledTime    uint64 `json:"throttled_time"`
}

type memoryShape struct {
	Usage    uint64            `json:"usage,omitempty"`
	MaxUsage uint64            `json:"max_usage,omitempty"`
	Stats    map[string]uint64 `json:"stats,omitempty"`
	FailCnt  uint64            `json:"failcnt,omitempty"`
	Limit    uint64            `json:"limit,omitempty"`
}

type trafficJSON struct {
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
}

type rateShape struct {
	Rx float64 `json:"rx_bytes_per_sec"`
	Tx float64 `json:"tx_bytes_per_sec"`
}

// containerStats are the newest statistics of a container. They are nil, without
// an error, while there is no reading yet.
func (s *Server) containerStats(id, name string, v version) (*statsShape, error) {
	if s.cfg.Stats == nil || id == "" {
		return nil, errNoStats
	}
	r, ok := s.cfg.Stats.Latest(id)
	if !ok {
		return nil, errNoStats
	}
	if r.Sample.Time.IsZero() {
		return nil, nil //nolint:nilnil // No reading yet is an answer, and no error.
	}
	d, err := s.cfg.Stats.Detail(id)
	if err != nil {
		d = metrics.Detail{} // It has just ended; the reading stands.
	}
	return dockerStats(&r, &d, statsFrame{id: id, name: name, hostMemory: s.cfg.HostMemory, version: v}), nil
}

// statsFrame is what statistics need besides the reading.
type statsFrame struct {
	id, name   string
	hostMemory uint64
	version    version
}

// dockerStats puts a reading into Docker's shape.
func dockerStats(r *metrics.Reading, d *metrics.Detail, f statsFrame) *statsShape {
	n := &r.Sample
	out := &statsShape{
		Read: n.Time.UTC(), PreRead: r.Previous.Time.UTC(), Name: "/" + f.name, ID: f.id,
		PIDs: pidsShape{n.PIDs.Current, n.PIDs.Limit}, BlockIO: blockIO(n.Version, d),
		CPU: cpu(n, r.CPUs), PreCPU: cpu(&r.Previous, r.CPUs), Memory: memory(n, d, f.hostMemory),
	}
	out.CPU.Usage.PerCPU = d.PerCPU
	if n.Network == nil {
		return out
	}
	out.Networks = make(map[string]trafficJSON, len(n.Network.Interfaces))
	for _, i := range n.Network.Interfaces {
		out.Networks[i.Name] = trafficJSON(i.Traffic)
	}
	if r.Rates.Known && f.version == v4 {
		out.NetworkRate = &rateShape{r.Rates.RxBytesPerSecond, r.Rates.TxBytesPerSecond}
	}
	return out
}

func cpu(s *metrics.Sample, cpus int) cpuShape {
	c := s.CPU
	out := cpuShape{
		Usage:  cpuUsage{Total: c.Usage, Kernel: c.System, User: c.User},
		System: c.HostUsage, Throttling: throttling{c.Periods, c.ThrottledPeriods, c.ThrottledTime},
	}
	if !s.Time.IsZero() {
		out.Online = cpus
	}
	return out
}

// memory is the kernel's own memory.stat with, beside its keys, the count of
// processes that the kernel killed for want of memory, which Docker has no
// place for. What readers subtract from the usage is of the same moment as the
// usage: of now it could be more than that.
func memory(s *metrics.Sample, d *metrics.Detail, host uint64) memoryShape {
	out := memoryShape{Usage: s.Memory.Usage, Stats: maps.Clone(d.MemoryStat), FailCnt: s.Memory.FailCount, Limit: s.Memory.Limit}
	if host != 0 {
		out.Limit = min(out.Limit, host)
	}
	if s.Version == metrics.V1 {
		out.MaxUsage = s.Memory.Peak
	}
	if out.Stats == nil {
		return out
	}
	then := map[string]uint64{"inactive_file": s.Memory.InactiveFile, "file": s.Memory.File}
	if s.Version == metrics.V1 {
		then = map[string]uint64{
			"inactive_file": s.Memory.InactiveFile, "total_inactive_file": s.Memory.InactiveFile,
			"cache": s.Memory.Cache, "total_cache": s.Memory.File,
		}
	}
	for key, value := range then {
		if _, there := out.Stats[key]; there {
			out.Stats[key] = value
		}
	}
	out.Stats["oom_kill"] = s.Memory.OOMKills
	return out
}

// blockIO is the traffic by device. Version 2 of cgroups tells bytes alone, as
// Docker has it.
func blockIO(v metrics.Version, d *metrics.Detail) blockShape {
	var out blockShape
	devices := slices.Clone(d.Devices)
	slices.SortFunc(devices, func(a, b metrics.DeviceIO) int {
		if a.Major != b.Major {
			return int(a.Major) - int(b.Major)
		}
		return int(a.Minor) - int(b.Minor)
	})
	for _, dev := range devices {
		entry := func(op string, n uint64) blockEntry { return blockEntry{dev.Major, dev.Minor, op, n} }
		if v == metrics.V2 {
			out.Bytes = append(out.Bytes, entry("read", dev.ReadBytes), entry("write", dev.WriteBytes))
			continue
		}
		out.Bytes = append(out.Bytes, entry("Read", dev.ReadBytes), entry("Write", dev.WriteBytes), entry("Total", dev.ReadBytes+dev.WriteBytes))
		out.Serves = append(out.Serves, entry("Read", dev.ReadOps), entry("Write", dev.WriteOps), entry("Total", dev.ReadOps+dev.WriteOps))
	}
	return out
}

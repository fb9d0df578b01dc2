package prom

import (
	dto "github.com/prometheus/client_model/go"

	"github.com/berthd/berth/metrics"
)

const (
	counter = dto.MetricType_COUNTER
	gauge   = dto.MetricType_GAUGE
)

// family is one metric of containers and tasks. value reports false where the figure does not exist.
type family struct {
	name  string // after berth_container_ or berth_task_
	help  string
	kind  dto.MetricType
	value func(r *metrics.Reading) (float64, bool)
}

// families are all of them, in the order they are printed.
func families() []family {
	var all []family
	all = append(all, cpuFamilies()...)
	all = append(all, memoryFamilies()...)
	all = append(all, ioFamilies()...)
	all = append(all, networkFamilies()...)
	all = append(all, pressureFamilies()...)
	return append(all, otherFamilies()...)
}

func cpuFamilies() []family {
	return []family{
		{
			"cpu_usage_seconds_total", "Processor time used.", counter,
			seconds(func(s *metrics.Sample) uint64 { return s.CPU.Usage }),
		},
		{
			"cpu_user_seconds_total", "Processor time used in user mode.", counter,
			seconds(func(s *metrics.Sample) uint64 { return s.CPU.User }),
		},
		{
			"cpu_system_seconds_total", "Processor time used in kernel mode.", counter,
			seconds(func(s *metrics.Sample) uint64 { return s.CPU.System }),
		},
		{
			"cpu_ecs_percent", "Processor time used, as sent to ECS: percent of the whole host over the last second.", gauge,
			func(r *metrics.Reading) (float64, bool) { return r.Rates.CPUPercent, r.Rates.Known },
		},
		{
			"cpu_periods_total", "Enforcement periods of the CPU quota.", counter,
			number(func(s *metrics.Sample) uint64 { return s.CPU.Periods }),
		},
		{
			"cpu_throttled_periods_total", "Enforcement periods in which the CPU quota ran out.", counter,
			number(func(s *metrics.Sample) uint64 { return s.CPU.ThrottledPeriods }),
		},
		{
			"cpu_throttled_seconds_total", "Time that runnable threads waited for CPU quota.", counter,
			seconds(func(s *metrics.Sample) uint64 { return s.CPU.ThrottledTime }),
		},
	}
}

func memoryFamilies() []family {
	return []family{
		{
			"memory_usage_bytes", "All memory charged, page cache included.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.Usage }),
		},
		{
			"memory_ecs_bytes", "Memory in use as ECS defines it: usage less inactive file cache on cgroup v2, usage less cache on v1.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.ECSMemory() }),
		},
		{
			"memory_working_set_bytes", "Memory that cannot be reclaimed easily: usage less inactive file cache.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.WorkingSet() }),
		},
		{
			"memory_anon_bytes", "Anonymous memory.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.Anon }),
		},
		{
			"memory_file_bytes", "Page cache, tmpfs included.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.File }),
		},
		{
			"memory_inactive_file_bytes", "Page cache on the inactive list.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.InactiveFile }),
		},
		{
			"memory_slab_bytes", "Kernel slab memory; cgroup v2 only.", gauge,
			onV2(func(s *metrics.Sample) uint64 { return s.Memory.Slab }),
		},
		{
			"memory_kernel_bytes", "Kernel memory.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.Kernel }),
		},
		{
			"memory_swap_bytes", "Swap in use.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.Memory.Swap }),
		},
		{
			"memory_peak_bytes", "Highest memory charged so far; absent where the kernel does not tell.", gauge,
			nonzero(func(s *metrics.Sample) uint64 { return s.Memory.Peak }),
		},
		{
			"memory_limit_bytes", "Memory limit; absent if there is none.", gauge,
			limit(func(s *metrics.Sample) uint64 { return s.Memory.Limit }),
		},
		{
			"memory_limit_hits_total", "Times that the memory limit was run into.", counter,
			number(func(s *metrics.Sample) uint64 { return s.Memory.FailCount }),
		},
		{
			"memory_major_faults_total", "Page faults that needed a disk.", counter,
			number(func(s *metrics.Sample) uint64 { return s.Memory.MajorFaults }),
		},
		{
			"oom_kills_total", "Processes killed for want of memory.", counter,
			number(func(s *metrics.Sample) uint64 { return s.Memory.OOMKills }),
		},
	}
}

func ioFamilies() []family {
	return []family{
		{
			"block_read_bytes_total", "Bytes read from block devices.", counter,
			number(func(s *metrics.Sample) uint64 { return s.IO.ReadBytes }),
		},
		{
			"block_write_bytes_total", "Bytes written to block devices.", counter,
			number(func(s *metrics.Sample) uint64 { return s.IO.WriteBytes }),
		},
		{
			"block_reads_total", "Read operations on block devices.", counter,
			number(func(s *metrics.Sample) uint64 { return s.IO.ReadOps }),
		},
		{
			"block_writes_total", "Write operations on block devices.", counter,
			number(func(s *metrics.Sample) uint64 { return s.IO.WriteOps }),
		},
	}
}

func networkFamilies() []family {
	return []family{
		{
			"network_receive_bytes_total", "Bytes received.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.RxBytes }),
		},
		{
			"network_receive_packets_total", "Packets received.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.RxPackets }),
		},
		{
			"network_receive_errors_total", "Packets received in error.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.RxErrors }),
		},
		{
			"network_receive_dropped_total", "Packets received and dropped.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.RxDropped }),
		},
		{
			"network_transmit_bytes_total", "Bytes sent.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.TxBytes }),
		},
		{
			"network_transmit_packets_total", "Packets sent.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.TxPackets }),
		},
		{
			"network_transmit_errors_total", "Packets that could not be sent.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.TxErrors }),
		},
		{
			"network_transmit_dropped_total", "Packets dropped before they were sent.", counter,
			traffic(func(t *metrics.Traffic) uint64 { return t.TxDropped }),
		},
	}
}

func pressureFamilies() []family {
	some := func(of func(p *metrics.Pressure) *metrics.Stall) func(r *metrics.Reading) (float64, bool) {
		return func(r *metrics.Reading) (float64, bool) {
			return of(&r.Sample.Pressure).Some.Seconds(), r.Sample.Pressure.Known
		}
	}
	full := func(of func(p *metrics.Pressure) *metrics.Stall) func(r *metrics.Reading) (float64, bool) {
		return func(r *metrics.Reading) (float64, bool) {
			return of(&r.Sample.Pressure).Full.Seconds(), r.Sample.Pressure.Known
		}
	}
	cpu := func(p *metrics.Pressure) *metrics.Stall { return &p.CPU }
	memory := func(p *metrics.Pressure) *metrics.Stall { return &p.Memory }
	io := func(p *metrics.Pressure) *metrics.Stall { return &p.IO }
	return []family{
		{
			"pressure_cpu_waiting_seconds_total", "Time in which some thread waited for a processor.", counter,
			some(cpu),
		},
		{
			"pressure_cpu_stalled_seconds_total", "Time in which all threads waited for a processor.", counter,
			full(cpu),
		},
		{
			"pressure_memory_waiting_seconds_total", "Time in which some thread waited for memory.", counter,
			some(memory),
		},
		{
			"pressure_memory_stalled_seconds_total", "Time in which all threads waited for memory.", counter,
			full(memory),
		},
		{
			"pressure_io_waiting_seconds_total", "Time in which some thread waited for input or output.", counter,
			some(io),
		},
		{
			"pressure_io_stalled_seconds_total", "Time in which all threads waited for input or output.", counter,
			full(io),
		},
	}
}

func otherFamilies() []family {
	return []family{
		{
			"pids", "Processes and threads.", gauge,
			number(func(s *metrics.Sample) uint64 { return s.PIDs.Current }),
		},
		{
			"pids_limit", "Limit of processes and threads; absent if there is none.", gauge,
			limit(func(s *metrics.Sample) uint64 { return s.PIDs.Limit }),
		},
		{
			"restarts_total", "Restarts by the container's restart policy; absent without one.", counter,
			func(r *metrics.Reading) (float64, bool) { return float64(r.Restarts), r.RestartPolicy },
		},
		{
			"samples_dropped_total", "Readings that could not be believed and were left out.", counter,
			func(r *metrics.Reading) (float64, bool) { return float64(r.Dropped), true },
		},
	}
}

type reader = func(r *metrics.Reading) (float64, bool)

func number(of func(s *metrics.Sample) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) { return float64(of(&r.Sample)), true }
}

func seconds(of func(s *metrics.Sample) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) { return float64(of(&r.Sample)) / 1e9, true }
}

func nonzero(of func(s *metrics.Sample) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) { v := of(&r.Sample); return float64(v), v != 0 }
}

// limit leaves out limits that are not set, and those that were never read.
func limit(of func(s *metrics.Sample) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) {
		v := of(&r.Sample)
		return float64(v), v != 0 && v != metrics.NoLimit
	}
}

func onV2(of func(s *metrics.Sample) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) {
		return float64(of(&r.Sample)), r.Sample.Version == metrics.V2
	}
}

func traffic(of func(t *metrics.Traffic) uint64) reader {
	return func(r *metrics.Reading) (float64, bool) {
		if r.Sample.Network == nil {
			return 0, false
		}
		return float64(of(&r.Sample.Network.Total)), true
	}
}

package cgroup

import (
	"errors"
	"time"

	"github.com/berthd/berth/metrics"
)

const (
	// nanosPerTick is the unit of cpuacct.stat: USER_HZ is 100 on every Linux that a container sees.
	nanosPerTick = uint64(10 * time.Millisecond)
	// noLimit1 is where version 1 limits begin to mean none: the kernel writes the greatest page-aligned int64.
	noLimit1 = 1 << 62
)

var (
	_ controller = (*cpuAcct1)(nil)
	_ controller = (*cpu1)(nil)
	_ controller = (*memory1)(nil)
	_ controller = (*io1)(nil)
)

// cpuAcct1 is the version 1 cpuacct controller.
type cpuAcct1 struct {
	usage, stat, perCPU file
}

func newCPUAcct1(dir string) controller {
	return &cpuAcct1{
		usage: newFile(dir, "cpuacct.usage"), stat: newFile(dir, "cpuacct.stat"), perCPU: newFile(dir, "cpuacct.usage_percpu"),
	}
}

func (c *cpuAcct1) fast(s *metrics.Sample, buf *[]byte) error {
	b, err := c.usage.read(buf)
	if err != nil {
		return err
	}
	s.CPU.Usage = single(b)
	return readKeyed(&c.stat, buf, func(key []byte, n uint64) {
		switch string(key) {
		case "user":
			s.CPU.User = n * nanosPerTick
		case "system":
			s.CPU.System = n * nanosPerTick
		}
	})
}

func (c *cpuAcct1) slow(*metrics.Sample, *[]byte) error { return openAll(&c.usage, &c.stat) }

func (c *cpuAcct1) detail(d *metrics.Detail, buf *[]byte) error {
	b, err := c.perCPU.readOnce(buf)
	line, _ := nextLine(b)
	for word := range words(line) {
		if n, ok := number(word); ok {
			d.PerCPU = append(d.PerCPU, n)
		}
	}
	return err
}

func (c *cpuAcct1) close() { closeAll(&c.usage, &c.stat) }

// cpu1 is the version 1 cpu controller: throttling only.
type cpu1 struct {
	stat file
}

func newCPU1(dir string) controller { return &cpu1{stat: newFile(dir, "cpu.stat")} }

func (c *cpu1) fast(s *metrics.Sample, buf *[]byte) error {
	return readKeyed(&c.stat, buf, func(key []byte, n uint64) {
		switch string(key) {
		case "nr_periods":
			s.CPU.Periods = n
		case "nr_throttled":
			s.CPU.ThrottledPeriods = n
		case "throttled_time":
			s.CPU.ThrottledTime = n
		}
	})
}

func (c *cpu1) slow(*metrics.Sample, *[]byte) error { return openAll(&c.stat) }

func (*cpu1) detail(*metrics.Detail, *[]byte) error { return nil }

func (c *cpu1) close() { c.stat.close() }

// memory1 is the version 1 memory controller.
type memory1 struct {
	usage, stat, oom          file
	limit, peak, failed, kmem file
}

func newMemory1(dir string) controller {
	return &memory1{
		usage: newFile(dir, "memory.usage_in_bytes"), stat: newFile(dir, "memory.stat"), oom: newFile(dir, "memory.oom_control"),
		limit: newFile(dir, "memory.limit_in_bytes"), peak: newFile(dir, "memory.max_usage_in_bytes"),
		failed: newFile(dir, "memory.failcnt"), kmem: newFile(dir, "memory.kmem.usage_in_bytes"),
	}
}

func (c *memory1) fast(s *metrics.Sample, buf *[]byte) error {
	m := &s.Memory
	if err := readUsage(&c.usage, m, buf); err != nil {
		return err
	}
	if err := readKeyed(&c.stat, buf, func(key []byte, n uint64) { memoryStat1(m, key, n) }); err != nil {
		return err
	}
	return readKeyed(&c.oom, buf, func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			m.OOMKills = n
		}
	})
}

// memoryStat1 takes what is wanted from a version 1 memory.stat. The total_ keys include child cgroups, as the usage does; cache
// without the prefix is what the ECS formula subtracts.
func memoryStat1(m *metrics.Memory, key []byte, n uint64) {
	switch string(key) {
	case "cache":
		m.Cache = n
	case "total_cache":
		m.File = n
	case "total_rss":
		m.Anon = n
	case "total_shmem":
		m.Shmem = n
	case "total_swap":
		m.Swap = n
	case "total_inactive_file":
		m.InactiveFile = n
	case "total_active_file":
		m.ActiveFile = n
	case "total_pgfault":
		m.PageFaults = n
	case "total_pgmajfault":
		m.MajorFaults = n
	}
}

func (c *memory1) slow(s *metrics.Sample, buf *[]byte) error {
	err := errors.Join(
		openAll(&c.usage, &c.stat, &c.oom),
		readLimit(&c.limit, &s.Memory.Limit, buf),
		readSingle(&c.peak, &s.Memory.Peak, buf),
		readSingle(&c.failed, &s.Memory.FailCount, buf),
		readSingle(&c.kmem, &s.Memory.Kernel, buf),
	)
	if s.Memory.Limit >= noLimit1 {
		s.Memory.Limit = metrics.NoLimit
	}
	return err
}

func (c *memory1) detail(d *metrics.Detail, buf *[]byte) error {
	return readMemoryStat(&c.stat, d, buf)
}

func (c *memory1) close() { closeAll(&c.usage, &c.stat, &c.oom) }

// io1 is the version 1 blkio controller: a line per device and operation, "8:0 Read 4096". The throttling files come first, since
// they count for every I/O scheduler; those of BFQ and CFQ count only the devices which have that scheduler.
type io1 struct {
	bytes, ops []file // in order of preference; the first that exists is held open
}

func newIO1(dir string) controller {
	return &io1{
		bytes: []file{
			newFile(dir, "blkio.throttle.io_service_bytes_recursive"),
			newFile(dir, "blkio.throttle.io_service_bytes"),
			newFile(dir, "blkio.bfq.io_service_bytes_recursive"),
			newFile(dir, "blkio.io_service_bytes_recursive"),
		},
		ops: []file{
			newFile(dir, "blkio.throttle.io_serviced_recursive"),
			newFile(dir, "blkio.throttle.io_serviced"),
			newFile(dir, "blkio.bfq.io_serviced_recursive"),
			newFile(dir, "blkio.io_serviced_recursive"),
		},
	}
}

func (c *io1) fast(s *metrics.Sample, buf *[]byte) error {
	failed := operations1(c.bytes, buf, func(_ metrics.DeviceIO, read, written uint64) {
		s.IO.ReadBytes += read
		s.IO.WriteBytes += written
	})
	return both(failed, operations1(c.ops, buf, func(_ metrics.DeviceIO, read, written uint64) {
		s.IO.ReadOps += read
		s.IO.WriteOps += written
	}))
}

func (c *io1) slow(*metrics.Sample, *[]byte) error {
	return errors.Join(openFirst(c.bytes), openFirst(c.ops))
}

func (c *io1) detail(d *metrics.Detail, buf *[]byte) error {
	failed := operations1(c.bytes, buf, func(which metrics.DeviceIO, read, written uint64) {
		entry := entryOf(d, which)
		entry.ReadBytes += read
		entry.WriteBytes += written
	})
	return both(failed, operations1(c.ops, buf, func(which metrics.DeviceIO, read, written uint64) {
		entry := entryOf(d, which)
		entry.ReadOps += read
		entry.WriteOps += written
	}))
}

func (c *io1) close() {
	for i := range c.bytes {
		c.bytes[i].close()
	}
	for i := range c.ops {
		c.ops[i].close()
	}
}

// entryOf finds the device in the detail, or adds it.
func entryOf(d *metrics.Detail, which metrics.DeviceIO) *metrics.DeviceIO {
	for i := range d.Devices {
		if d.Devices[i].Major == which.Major && d.Devices[i].Minor == which.Minor {
			return &d.Devices[i]
		}
	}
	d.Devices = append(d.Devices, which)
	return &d.Devices[len(d.Devices)-1]
}

// operations1 reads the open one of the files and calls add for each line about reading or writing. The other operations are sums
// of these or discards.
func operations1(files []file, buf *[]byte, add func(which metrics.DeviceIO, read, written uint64)) error {
	f := opened(files)
	if f == nil {
		return nil
	}
	b, err := f.read(buf)
	for line := range lines(b) {
		deviceLine1(line, add)
	}
	return err
}

// deviceLine1 reads one line, "8:0 Read 4096".
func deviceLine1(line []byte, add func(which metrics.DeviceIO, read, written uint64)) {
	word, rest := nextWord(line)
	major, minor, ok := device(word)
	if !ok {
		return
	}
	operation, rest := nextWord(rest)
	value, _ := nextWord(rest)
	n, _ := number(value)
	which := metrics.DeviceIO{Major: major, Minor: minor}
	switch string(operation) {
	case "Read", "read":
		add(which, n, 0)
	case "Write", "write":
		add(which, 0, n)
	}
}

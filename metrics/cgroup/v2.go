package cgroup

import (
	"errors"
	"time"

	"github.com/berthd/berth/metrics"
)

const nanosPerMicro = uint64(time.Microsecond)

var (
	_ controller = (*cpu2)(nil)
	_ controller = (*memory2)(nil)
	_ controller = (*io2)(nil)
)

// cpu2 is the version 2 cpu controller. The cgroup core gives cpu.stat its times even where the controller is not enabled.
type cpu2 struct {
	stat, pressure file
}

func newCPU2(dir string) controller {
	return &cpu2{stat: newFile(dir, "cpu.stat"), pressure: newFile(dir, "cpu.pressure")}
}

func (c *cpu2) fast(s *metrics.Sample, buf *[]byte) error {
	return readKeyed(&c.stat, buf, func(key []byte, n uint64) {
		switch string(key) {
		case "usage_usec":
			s.CPU.Usage = n * nanosPerMicro
		case "user_usec":
			s.CPU.User = n * nanosPerMicro
		case "system_usec":
			s.CPU.System = n * nanosPerMicro
		case "nr_periods":
			s.CPU.Periods = n
		case "nr_throttled":
			s.CPU.ThrottledPeriods = n
		case "throttled_usec":
			s.CPU.ThrottledTime = n * nanosPerMicro
		}
	})
}

func (c *cpu2) slow(s *metrics.Sample, buf *[]byte) error {
	return errors.Join(openAll(&c.stat), readPressure(&c.pressure, &s.Pressure, &s.Pressure.CPU, buf))
}

func (*cpu2) detail(*metrics.Detail, *[]byte) error { return nil }

func (c *cpu2) close() { c.stat.close() }

// memory2 is the version 2 memory controller.
type memory2 struct {
	current, stat, events     file
	max, peak, swap, pressure file
}

func newMemory2(dir string) controller {
	return &memory2{
		current: newFile(dir, "memory.current"), stat: newFile(dir, "memory.stat"), events: newFile(dir, "memory.events"),
		max: newFile(dir, "memory.max"), peak: newFile(dir, "memory.peak"), swap: newFile(dir, "memory.swap.current"),
		pressure: newFile(dir, "memory.pressure"),
	}
}

func (c *memory2) fast(s *metrics.Sample, buf *[]byte) error {
	m := &s.Memory
	if err := readUsage(&c.current, m, buf); err != nil {
		return err
	}
	if err := readKeyed(&c.stat, buf, func(key []byte, n uint64) { memoryStat2(m, key, n) }); err != nil {
		return err
	}
	return readKeyed(&c.events, buf, func(key []byte, n uint64) {
		switch string(key) {
		case "max":
			m.FailCount = n
		case "oom_kill":
			m.OOMKills = n
		}
	})
}

// memoryStat2 takes what is wanted from a version 2 memory.stat.
func memoryStat2(m *metrics.Memory, key []byte, n uint64) {
	switch string(key) {
	case "anon":
		m.Anon = n
	case "file":
		m.File = n
	case "inactive_file":
		m.InactiveFile = n
	case "active_file":
		m.ActiveFile = n
	case "shmem":
		m.Shmem = n
	case "slab":
		m.Slab = n
	case "sock":
		m.Sock = n
	case "kernel":
		m.Kernel = n
	case "pgfault":
		m.PageFaults = n
	case "pgmajfault":
		m.MajorFaults = n
	}
}

func (c *memory2) slow(s *metrics.Sample, buf *[]byte) error {
	return errors.Join(
		openAll(&c.current, &c.stat, &c.events),
		readLimit(&c.max, &s.Memory.Limit, buf),
		readSingle(&c.peak, &s.Memory.Peak, buf),
		readSingle(&c.swap, &s.Memory.Swap, buf),
		readPressure(&c.pressure, &s.Pressure, &s.Pressure.Memory, buf),
	)
}

func (c *memory2) detail(d *metrics.Detail, buf *[]byte) error {
	return readMemoryStat(&c.stat, d, buf)
}

func (c *memory2) close() { closeAll(&c.current, &c.stat, &c.events) }

// io2 is the version 2 io controller: a line per device, "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
type io2 struct {
	stat, pressure file
}

func newIO2(dir string) controller {
	return &io2{stat: newFile(dir, "io.stat"), pressure: newFile(dir, "io.pressure")}
}

func (c *io2) fast(s *metrics.Sample, buf *[]byte) error {
	b, err := c.stat.read(buf)
	for line := range lines(b) {
		if d, ok := deviceLine2(line); ok {
			addIO(&s.IO, d.BlockIO)
		}
	}
	return err
}

func (c *io2) slow(s *metrics.Sample, buf *[]byte) error {
	return errors.Join(openAll(&c.stat), readPressure(&c.pressure, &s.Pressure, &s.Pressure.IO, buf))
}

func (c *io2) detail(d *metrics.Detail, buf *[]byte) error {
	b, err := c.stat.read(buf)
	for line := range lines(b) {
		if device, ok := deviceLine2(line); ok {
			d.Devices = append(d.Devices, device)
		}
	}
	return err
}

func (c *io2) close() { c.stat.close() }

func deviceLine2(line []byte) (d metrics.DeviceIO, ok bool) {
	word, rest := nextWord(line)
	d.Major, d.Minor, ok = device(word)
	if !ok {
		return d, false
	}
	for word := range words(rest) {
		key, value := keyValue(word)
		switch string(key) {
		case "rbytes":
			d.ReadBytes = value
		case "wbytes":
			d.WriteBytes = value
		case "rios":
			d.ReadOps = value
		case "wios":
			d.WriteOps = value
		}
	}
	return d, true
}

package cgroup

import (
	"bytes"
	"fmt"

	"github.com/berthd/berth/metrics"
)

// Host reads the processor time of the whole host from the stat file of a proc file system.
type Host struct {
	stat file
	buf  []byte
}

// OpenHost opens the stat file under proc, such as /proc. The caller closes the Host.
func OpenHost(proc string) (*Host, error) {
	h := &Host{stat: newFile(proc, "stat"), buf: make([]byte, bufferSize)}
	ok, err := h.stat.open()
	if err != nil {
		return nil, fmt.Errorf("cannot read host processor time: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("cannot read host processor time: %s: %w", h.stat.path, metrics.ErrGone)
	}
	return h, nil
}

// CPUUsage is the time all processors together have spent since the host started, idle or not, in nanoseconds: user, nice, system,
// idle, iowait, irq and softirq, as in Docker's system_cpu_usage.
func (h *Host) CPUUsage() (uint64, error) {
	// The first line is enough, and the rest of the file is long: a buffer that is too small is what is wanted here.
	b, err := h.stat.readPart(h.buf)
	if err != nil {
		return 0, fmt.Errorf("cannot read host processor time: %w", err)
	}
	line, _ := nextLine(b)
	word, rest := nextWord(line)
	if !bytes.Equal(word, []byte("cpu")) {
		return 0, fmt.Errorf("cannot read host processor time: %s has no line cpu", h.stat.path)
	}
	var ticks uint64
	for range 7 {
		word, rest = nextWord(rest)
		n, _ := number(word)
		ticks += n
	}
	return ticks * nanosPerTick, nil
}

// Close closes the file.
func (h *Host) Close() error {
	h.stat.close()
	return nil
}

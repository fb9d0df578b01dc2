package cgroup

import (
	"bytes"

	"github.com/berthd/berth/metrics"
)

// openAll opens the files that are not open yet; absent ones stay closed.
func openAll(files ...*file) error {
	for _, f := range files {
		if _, err := f.open(); err != nil {
			return err
		}
	}
	return nil
}

// closeAll closes the files that are open.
func closeAll(files ...*file) {
	for _, f := range files {
		f.close()
	}
}

// openFirst opens the first file that exists.
func openFirst(files []file) error {
	for i := range files {
		if ok, err := files[i].open(); ok || err != nil {
			return err
		}
	}
	return nil
}

// opened is the first open file, or nil.
func opened(files []file) *file {
	for i := range files {
		if files[i].fd >= 0 {
			return &files[i]
		}
	}
	return nil
}

// readSingle reads a one-value file into n, zero if it is absent.
func readSingle(f *file, n *uint64, buf *[]byte) error {
	b, err := f.readOnce(buf)
	*n = single(b)
	return err
}

// readLimit reads a one-value file that holds a limit: no file, no limit.
func readLimit(f *file, n *uint64, buf *[]byte) error {
	b, err := f.readOnce(buf)
	*n = metrics.NoLimit
	if len(b) > 0 {
		*n = single(b)
	}
	return err
}

// readKeyed reads an open file of "key value" lines and calls set for each.
func readKeyed(f *file, buf *[]byte, set func(key []byte, n uint64)) error {
	b, err := f.read(buf)
	keyed(b, set)
	return err
}

// readUsage reads the memory in use from an open one-value file. A peak read some seconds ago may have been passed since.
func readUsage(f *file, m *metrics.Memory, buf *[]byte) error {
	b, err := f.read(buf)
	if err != nil {
		return err
	}
	m.Usage = single(b)
	if m.Peak > 0 {
		m.Peak = max(m.Peak, m.Usage)
	}
	return nil
}

// readPressure reads a pressure file, if there is one.
func readPressure(f *file, all *metrics.Pressure, one *metrics.Stall, buf *[]byte) error {
	b, err := f.readOnce(buf)
	if len(b) > 0 {
		all.Known = true
		*one = stall(b)
	}
	return err
}

// readMemoryStat reads every key of memory.stat.
func readMemoryStat(f *file, d *metrics.Detail, buf *[]byte) error {
	b, err := f.read(buf)
	if len(b) == 0 {
		return err
	}
	d.MemoryStat = make(map[string]uint64, bytes.Count(b, []byte{'\n'}))
	keyed(b, func(key []byte, n uint64) { d.MemoryStat[string(key)] = n })
	return err
}

// keyValue splits "key=number".
func keyValue(word []byte) (key []byte, value uint64) {
	key, text, _ := bytes.Cut(word, []byte{'='})
	value, _ = number(text)
	return key, value
}

func addIO(sum *metrics.BlockIO, o metrics.BlockIO) {
	sum.ReadBytes += o.ReadBytes
	sum.WriteBytes += o.WriteBytes
	sum.ReadOps += o.ReadOps
	sum.WriteOps += o.WriteOps
}

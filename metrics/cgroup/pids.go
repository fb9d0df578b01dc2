package cgroup

import (
	"errors"

	"github.com/berthd/berth/metrics"
)

var _ controller = (*pids)(nil)

// pids is the pids controller, the same in both versions.
type pids struct {
	current, limit file
}

func newPIDs(dir string) controller {
	return &pids{current: newFile(dir, "pids.current"), limit: newFile(dir, "pids.max")}
}

func (c *pids) fast(s *metrics.Sample, buf *[]byte) error {
	b, err := c.current.read(buf)
	s.PIDs.Current = single(b)
	return err
}

func (c *pids) slow(s *metrics.Sample, buf *[]byte) error {
	return errors.Join(openAll(&c.current), readLimit(&c.limit, &s.PIDs.Limit, buf))
}

func (*pids) detail(*metrics.Detail, *[]byte) error { return nil }

func (c *pids) close() { c.current.close() }

package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
)

// slowEvery is how many readings share one reading of the files that hardly change.
const slowEvery = 10

// controller is what a Reader consists of: the files of one controller. None of its methods keeps buf.
type controller interface {
	// fast reads what changes every second.
	fast(s *metrics.Sample, buf *[]byte) error
	// slow reads what hardly changes, and looks again for files that were not there.
	slow(s *metrics.Sample, buf *[]byte) error
	// detail reads what is only read when asked for.
	detail(d *metrics.Detail, buf *[]byte) error
	close()
}

// Reader reads one cgroup. It is not safe for concurrent use.
type Reader struct {
	version     metrics.Version
	id          uint64
	controllers []controller
	reads       int
	kept        metrics.Sample // what the slow files said
	buf         []byte
}

// Open opens the cgroup at path, which is relative to the hierarchies: on version 2 as in
// ecstasks.slice/ecstasks-<taskid>.slice/<container>, on version 1 as in /ecs/<taskid>/<containerid> below each controller. The same
// serves for the cgroup of a whole task. It answers metrics.ErrGone if no hierarchy has the path. The caller closes the Reader.
func Open(l Layout, path string) (*Reader, error) {
	r := &Reader{version: l.Version, buf: make([]byte, bufferSize)}
	var dirs []string
	add := func(root string, makers ...func(dir string) controller) {
		if root == "" {
			return
		}
		dir := filepath.Join(root, path)
		dirs = append(dirs, dir)
		for _, maker := range makers {
			r.controllers = append(r.controllers, maker(dir))
		}
	}
	if l.Version == metrics.V2 {
		add(l.Unified, newCPU2, newMemory2, newIO2, newPIDs)
	} else {
		// The memory controller comes first: its directory gives the identity.
		add(l.Controllers["memory"], newMemory1)
		add(l.Controllers["cpuacct"], newCPUAcct1)
		add(l.Controllers["cpu"], newCPU1)
		add(l.Controllers["blkio"], newIO1)
		add(l.Controllers["pids"], newPIDs)
	}
	id, err := identity(dirs)
	if err != nil {
		return nil, fmt.Errorf("cannot open cgroup %s: %w", path, err)
	}
	r.id = id
	return r, nil
}

// Read reads the cgroup into s. It sets everything but Time, Network and CPU.HostUsage. It answers metrics.ErrGone when the cgroup
// was removed; a controller that fails otherwise keeps no other from being read, and the failures are returned together.
func (r *Reader) Read(s *metrics.Sample) error {
	var failed error
	if r.reads%slowEvery == 0 {
		for _, c := range r.controllers {
			failed = both(failed, c.slow(&r.kept, &r.buf))
		}
	}
	r.reads++
	at, network, host := s.Time, s.Network, s.CPU.HostUsage
	*s = r.kept
	s.Time, s.Network, s.CPU.HostUsage = at, network, host
	s.Version, s.CgroupID = r.version, r.id
	for _, c := range r.controllers {
		failed = both(failed, c.fast(s, &r.buf))
	}
	return failed
}

// Detail reads what only the metadata endpoint shows. Before the first Read there is little of it.
func (r *Reader) Detail() (metrics.Detail, error) {
	var d metrics.Detail
	var failed error
	for _, c := range r.controllers {
		failed = both(failed, c.detail(&d, &r.buf))
	}
	return d, failed
}

// Close closes all files. The Reader is of no use afterwards.
func (r *Reader) Close() error {
	for _, c := range r.controllers {
		c.close()
	}
	return nil
}

// identity is the inode of the first directory that exists. The kernel numbers cgroups without using a number twice.
func identity(dirs []string) (uint64, error) {
	for _, dir := range dirs {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		switch {
		case err == nil:
			return st.Ino, nil
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return 0, err
		}
	}
	return 0, metrics.ErrGone
}

// both joins two errors without touching the heap when there are none.
func both(a, b error) error {
	switch {
	case b == nil:
		return a
	case a == nil:
		return b
	default:
		return errors.Join(a, b)
	}
}

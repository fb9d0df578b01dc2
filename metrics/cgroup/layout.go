package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/metrics"
)

// ErrNoCgroups means that no usable cgroup hierarchy is mounted.
var ErrNoCgroups = errors.New("no cgroup hierarchy is mounted")

const mountinfo = "/proc/self/mountinfo"

// Layout says where the cgroup hierarchies are mounted. It is immutable once made.
type Layout struct {
	// Version is V1 if the resource controllers are in version 1 hierarchies, V2 if in the unified one.
	Version metrics.Version
	// Unified is the mount point of the version 2 tree. On a hybrid host it is the tree without controllers; empty if there is none.
	Unified string
	// Controllers are the mount points of the version 1 controllers by name: cpu, cpuacct, memory, blkio, pids.
	Controllers map[string]string
}

// v1Controllers are the controllers that are read from on version 1.
func v1Controllers() []string { return []string{"cpu", "cpuacct", "memory", "blkio", "pids"} }

// Under is the customary layout below a root such as /sys/fs/cgroup: on version 2 the root is the tree, on version 1 it has a
// directory for each controller. Nothing is looked at; a directory that is not there has no figures.
func Under(root string, version metrics.Version) Layout {
	if version == metrics.V2 {
		return Layout{Version: version, Unified: root}
	}
	l := Layout{Version: version, Controllers: make(map[string]string)}
	for _, c := range v1Controllers() {
		l.Controllers[c] = filepath.Join(root, c)
	}
	return l
}

// Detect finds the hierarchies of this host.
func Detect() (Layout, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return Layout{}, fmt.Errorf("cannot find cgroup mounts: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing can be lost
	return parseMountinfo(f)
}

// parseMountinfo reads the table of proc(5): the fields before " - " describe the mount, those after it the file system. Of several
// mounts of one hierarchy the first counts.
func parseMountinfo(r io.Reader) (Layout, error) {
	l := Layout{Controllers: make(map[string]string)}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		mount, filesystem, ok := strings.Cut(lines.Text(), " - ")
		if !ok {
			continue
		}
		before, after := strings.Fields(mount), strings.Fields(filesystem)
		if len(before) < 5 || len(after) < 3 {
			continue
		}
		l.add(unescape(before[4]), after[0], after[2])
	}
	if err := lines.Err(); err != nil {
		return Layout{}, fmt.Errorf("cannot read the mount table: %w", err)
	}
	switch {
	case len(l.Controllers) > 0:
		l.Version = metrics.V1
	case l.Unified != "":
		l.Version = metrics.V2
	default:
		return Layout{}, ErrNoCgroups
	}
	return l, nil
}

func (l *Layout) add(dir, filesystem, options string) {
	switch filesystem {
	case "cgroup2":
		if l.Unified == "" {
			l.Unified = dir
		}
	case "cgroup":
		for option := range strings.SplitSeq(options, ",") {
			if slices.Contains(v1Controllers(), option) && l.Controllers[option] == "" {
				l.Controllers[option] = dir
			}
		}
	}
}

// unescape undoes the octal escapes of the mount table: space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

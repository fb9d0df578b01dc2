package ctrd

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
)

// defaultContentDir is where containerd keeps everything unless told otherwise.
const defaultContentDir = "/var/lib/containerd"

// disks are where containerd keeps layers and root file systems. It says so
// itself, once it is asked: hosts put them on disks of their own.
type disks struct {
	mu   sync.Mutex // guards dirs
	dirs []string
}

// Space is how many bytes are free of how many where images are kept; where
// layers and root file systems are on two disks, on the one that has less.
func (r *Runtime) Space(ctx context.Context) (free, total uint64, err error) {
	for i, dir := range r.contentDirs(ctx) {
		f, t, err := r.cfg.Space(dir)
		if err != nil {
			return 0, 0, container.Errorf(container.KindInspect, "%w", err)
		}
		if i == 0 || f < free {
			free, total = f, t
		}
	}
	return free, total, nil
}

// contentDirs are the directories whose disks images fill.
func (r *Runtime) contentDirs(ctx context.Context) []string {
	if r.cfg.ContentDir != "" {
		return []string{r.cfg.ContentDir}
	}
	r.disks.mu.Lock()
	defer r.disks.mu.Unlock()
	if r.disks.dirs != nil {
		return r.disks.dirs
	}
	plugins, err := r.client.IntrospectionService().Plugins(r.ns(ctx),
		"type==io.containerd.content.v1", "type==io.containerd.snapshotter.v1,id=="+r.cfg.Snapshotter)
	if err != nil {
		return []string{defaultContentDir} // until it answers
	}
	var dirs []string
	for _, p := range plugins.GetPlugins() {
		if root := p.GetExports()["root"]; root != "" {
			dirs = append(dirs, root)
		}
	}
	if dirs == nil {
		dirs = []string{defaultContentDir}
	}
	slices.Sort(dirs)
	r.disks.dirs = dirs
	return dirs
}

// fullness says how full the disk of the images is.
func (r *Runtime) fullness(ctx context.Context) string {
	free, total, err := r.Space(ctx)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (%d of %d MiB free where containerd keeps images)", free>>20, total>>20)
}

// diskSpace is what an unprivileged writer may still use of the file system of
// path, and its size, in bytes.
func diskSpace(path string) (free, total uint64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, fmt.Errorf("cannot ask for the free space of %s: %w", path, err)
	}
	size := uint64(fs.Bsize) // never negative
	return fs.Bavail * size, fs.Blocks * size, nil
}

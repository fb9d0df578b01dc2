package ctrd

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/continuity/fs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
)

// A new volume gets what the image has at its place, as with Docker, and only
// once. Others may use the volume meanwhile, and the agent may be killed at any
// point, so nothing is copied in place:
//
//	copied to  ._data.filling  ─▶ renamed to ._data.filled ─▶ each entry moved into the volume
//	what is found is deleted       what is found is moved on       the directory is deleted
//	and copied again
//
// Both directories are beside the volume, or, where the volume is a mounted file
// system, inside it, for only there an entry can be moved at once. What somebody
// else has made in the volume in the meantime stays.
const (
	filling = ".filling"
	filled  = ".filled"
)

// copyUp fills an empty volume with what the image has at its place: entries with
// owners, modes, times, links and extended attributes, and the same of the
// directory itself.
func (r *Runtime) copyUp(ctx context.Context, root []mount.Mount, m container.Mount) error {
	unlock, err := r.ids.lock(ctx, "volume "+m.Source)
	if err != nil {
		return err
	}
	defer unlock()
	half, whole, err := stagesOf(m.Source)
	if err != nil {
		return fmt.Errorf("cannot fill volume at %s from the image: %w", m.Destination, err)
	}
	if exists(whole) {
		if err := unstage(whole, m.Source); err != nil {
			return fmt.Errorf("cannot fill volume %s: %w", m.Source, err)
		}
		return nil
	}
	if !exists(half) {
		empty, err := isEmpty(m.Source)
		if err != nil {
			return fmt.Errorf("cannot read volume %s: %w", m.Source, err)
		}
		if !empty {
			return nil
		}
	}
	err = r.withImage(ctx, root, func(dir string) error {
		from, err := inside(dir, m.Destination)
		if err != nil {
			return err
		}
		st, err := os.Lstat(from)
		if errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		if err != nil || !st.IsDir() {
			return err
		}
		if err := stage(half, whole, from); err != nil {
			return err
		}
		return unstage(whole, m.Source)
	})
	if err != nil {
		return fmt.Errorf("cannot fill volume at %s from the image: %w", m.Destination, roomLeft(err, m.Source))
	}
	return nil
}

// stagesOf are the two directories that a volume is filled from.
func stagesOf(source string) (half, whole string, err error) {
	above := filepath.Dir(source)
	var volume, parent unix.Stat_t
	if err := unix.Stat(source, &volume); err != nil {
		return "", "", err
	}
	if err := unix.Stat(above, &parent); err != nil {
		return "", "", err
	}
	if volume.Dev != parent.Dev {
		above = source
	}
	name := filepath.Join(above, "."+filepath.Base(source))
	return name + filling, name + filled, nil
}

// isEmpty says whether a directory has no entry.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	return len(entries) == 0, err
}

// stage copies the image's directory to one that nobody uses, and says when it is
// complete.
func stage(half, whole, from string) error {
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	// A file system that keeps no attributes of a kind is filled without.
	ignore := fs.WithXAttrErrorHandler(func(_, _, _ string, err error) error {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	})
	if err := fs.CopyDir(half, from, ignore); err != nil {
		return errors.Join(err, os.RemoveAll(half))
	}
	empty, err := isEmpty(half)
	if err == nil && !empty {
		// A host that loses its power must not keep names without content.
		err = syncFS(half)
	}
	if err == nil {
		err = os.Rename(half, whole)
	}
	return err
}

// unstage moves what was copied into the volume, and gives the volume the owner,
// mode and attributes of the image's directory.
func unstage(whole, volume string) error {
	entries, err := os.ReadDir(whole)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(whole, e.Name()), filepath.Join(volume, e.Name())
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) && !exists(to) { // a file server that does not know the flag
			err = os.Rename(from, to)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot move %s: %w", e.Name(), err)
		}
	}
	if err := liken(volume, whole); err != nil {
		return err
	}
	return os.RemoveAll(whole)
}

// liken gives a directory the owner, mode, attributes and times of another.
func liken(dir, as string) error {
	var st unix.Stat_t
	if err := unix.Stat(as, &st); err != nil {
		return err
	}
	if err := os.Lchown(dir, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(dir, st.Mode&0o7777); err != nil {
		return err
	}
	size, err := unix.Listxattr(as, nil)
	if err != nil || size == 0 {
		return nil // A file system without attributes has none to give.
	}
	names := make([]byte, size)
	if size, err = unix.Listxattr(as, names); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:size]), "\x00"), "\x00") {
		value := make([]byte, 64<<10) // the kernel's limit
		n, err := unix.Getxattr(as, name, value)
		if err == nil {
			err = unix.Setxattr(dir, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("cannot copy attribute %s: %w", name, err)
		}
	}
	return nil
}

// roomLeft adds figures to an error of a full disk.
func roomLeft(err error, path string) error {
	var st unix.Statfs_t
	if (!errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT)) || unix.Statfs(path, &st) != nil {
		return err
	}
	block := uint64(st.Bsize)
	return fmt.Errorf("%w: %d MiB and %d files are left of %d MiB and %d files",
		err, st.Bavail*block>>20, st.Ffree, st.Blocks*block>>20, st.Files)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncFS writes out what a file system holds in memory.
func syncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// rootsDir is where root file systems are mounted to be read.
func (r *Runtime) rootsDir() string { return filepath.Join(r.cfg.StateDir, "roots") }

// withImage mounts a root file system, read-only, for as long as f runs. Where it
// is mounted is ours, so that Sweep finds what an agent that was killed has left.
func (r *Runtime) withImage(ctx context.Context, root []mount.Mount, f func(dir string) error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := os.MkdirAll(r.rootsDir(), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.rootsDir(), "")
	if err != nil {
		return err
	}
	// Never RemoveAll: what could not be unmounted would be emptied.
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	root = readonly(root)
	defer func() { err = errors.Join(err, mount.UnmountMounts(root, dir, 0)) }()
	if err := mount.All(root, dir); err != nil {
		return fmt.Errorf("cannot mount root file system: %w", err)
	}
	return f(dir)
}

// readonly are the mounts of a root file system without the right to write.
func readonly(root []mount.Mount) []mount.Mount {
	out := slices.Clone(root)
	for i, m := range root {
		out[i].Options = []string{"ro"}
		upper := ""
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok && m.Type == "overlay" {
				upper = dir
			}
		}
		for _, o := range m.Options {
			name, value, _ := strings.Cut(o, "=")
			switch name {
			case "rw", "ro", "upperdir", "workdir", "volatile", "uidmap", "gidmap":
				continue
			case "lowerdir":
				if upper != "" {
					o = "lowerdir=" + upper + ":" + value
				}
			}
			out[i].Options = append(out[i].Options, o)
		}
	}
	return out
}

// sweepRoots unmounts what an agent that was killed while it read a root file
// system has left.
func (r *Runtime) sweepRoots() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.rootsDir()))
	if err != nil {
		return fmt.Errorf("cannot list mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", m.Mountpoint, err)
		}
	}
	entries, err := os.ReadDir(r.rootsDir())
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(r.rootsDir(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

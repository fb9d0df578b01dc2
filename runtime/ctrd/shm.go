package ctrd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
)

// A /dev/shm that other containers may join is mounted on the host, below
// StateDir, and bound into each: a mount inside one container cannot be bound
// into another.

// shmPath is where the shared memory of a container is mounted.
func (r *Runtime) shmPath(id string) string { return filepath.Join(r.cfg.StateDir, "shm", id) }

// mountShm mounts the shared memory of a shareable container unless it is.
func (r *Runtime) mountShm(id string, size int64) error {
	path := r.shmPath(id)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("cannot make directory for shared memory: %w", err)
	}
	mounted, err := mountinfo.Mounted(path)
	if err != nil || mounted {
		return err
	}
	if size == 0 {
		size = defaultShmSize
	}
	err = unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "mode=1777,size="+strconv.FormatInt(size, 10))
	if err != nil {
		return fmt.Errorf("cannot mount shared memory at %s: %w", path, err)
	}
	return nil
}

// unmountShm takes the shared memory of a container away, if it has any.
func (r *Runtime) unmountShm(id string) error {
	path := r.shmPath(id)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return container.Errorf(container.KindRemove, "cannot unmount shared memory at %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return container.Errorf(container.KindRemove, "cannot remove directory of shared memory: %w", err)
	}
	return nil
}

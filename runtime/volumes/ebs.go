package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/volume"
)

var (
	validVolumeID  = regexp.MustCompile(`^vol-?[0-9a-zA-Z]+$`)
	validDirectory = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)
)

// EBSPath is where the volume is mounted.
func (v *Volumes) EBSPath(e volume.EBS) string { return filepath.Join(v.cfg.EBSDir, e.Directory) }

// FindEBS is the path of the volume's device; volume.ErrNotAttached if there is none yet.
func (v *Volumes) FindEBS(e volume.EBS) (device string, err error) {
	if !validVolumeID.MatchString(e.VolumeID) {
		return "", fmt.Errorf("cannot find EBS volume: %q is not the id of a volume", e.VolumeID)
	}
	block := filepath.Join(v.cfg.SysDir, "block")
	entries, err := os.ReadDir(block)
	if err != nil {
		return "", fmt.Errorf("cannot list block devices: %w", err)
	}
	want := strings.ReplaceAll(e.VolumeID, "-", "")
	byName := ""
	for _, entry := range entries {
		name := entry.Name()
		serial := serial(filepath.Join(block, name))
		if serial == want {
			return filepath.Join(v.cfg.DevDir, name), nil
		}
		// Xen gives no serial number, and its own name to the device.
		if serial == "" && sameDevice(name, e.DeviceName) && hasMedium(filepath.Join(block, name)) {
			byName = filepath.Join(v.cfg.DevDir, name)
		}
	}
	if byName != "" {
		return byName, nil
	}
	return "", fmt.Errorf("cannot find EBS volume %s (%s): %w", e.VolumeID, e.DeviceName, volume.ErrNotAttached)
}

// attachPause is between two looks for a device (spec/task-engine.md §5.6).
const attachPause = 500 * time.Millisecond

// AwaitEBS returns once the volume's device is on the host, or with the error of
// the last look when ctx ends.
func (v *Volumes) AwaitEBS(ctx context.Context, e volume.EBS) error {
	timer := time.NewTimer(attachPause)
	defer timer.Stop()
	for {
		_, err := v.FindEBS(e)
		if !errors.Is(err, volume.ErrNotAttached) {
			return err
		}
		select {
		case <-timer.C:
			timer.Reset(attachPause)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// serial is the serial number of a block device without dashes: of the NVMe
// controller behind it, or its own.
func serial(dir string) string {
	for _, file := range []string{"device/serial", "serial"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if s := strings.ReplaceAll(strings.TrimSpace(string(data)), "-", ""); err == nil && s != "" {
			return s
		}
	}
	return ""
}

// hasMedium says whether there is anything in a drive: a loop device without a file
// is there, and has no size.
func hasMedium(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "size"))
	return err == nil && strings.TrimSpace(string(data)) != "0"
}

// sameDevice says whether the kernel's name is EC2's: /dev/sdb is xvdb to Xen.
func sameDevice(kernel, ec2 string) bool {
	ec2 = strings.TrimPrefix(ec2, "/dev/")
	if ec2 == "" {
		return false
	}
	letters, isSD := strings.CutPrefix(ec2, "sd")
	if !isSD {
		letters, isSD = strings.CutPrefix(ec2, "xvd")
	}
	return kernel == ec2 || isSD && (kernel == "xvd"+letters || kernel == "sd"+letters)
}

// StageEBS formats the volume if it is blank, mounts it for a user and gives it to
// its group. It may be called again; where the device is not there, it is
// volume.ErrNotAttached.
func (v *Volumes) StageEBS(ctx context.Context, user string, e volume.EBS) error {
	return v.cfg.OnHost(func() error { return v.stageEBS(ctx, user, e) })
}

func (v *Volumes) stageEBS(ctx context.Context, user string, e volume.EBS) error {
	if !validDirectory.MatchString(e.Directory) {
		return fmt.Errorf("cannot mount EBS volume %s: %q is not the name of a directory", e.VolumeID, e.Directory)
	}
	unlock, err := v.names.lock(ctx, "ebs "+e.Directory)
	if err != nil {
		return err
	}
	defer unlock()
	target, err := v.ebsTarget(e)
	if err != nil {
		return err
	}
	mounted, err := mountsAt(target)
	if err != nil {
		return err
	}
	if err := v.noteStaged(user, e); err != nil {
		return err
	}
	if mounted == 0 {
		if err := v.mountEBS(ctx, e, target); err != nil {
			return err
		}
	}
	if err := own(target, e.GID()); err != nil {
		return fmt.Errorf("cannot give EBS volume %s to its group: %w", e.VolumeID, explain(err, target))
	}
	return nil
}

// ebsTarget makes the mount point, and is its path as the kernel lists it.
func (v *Volumes) ebsTarget(e volume.EBS) (string, error) {
	target := v.EBSPath(e)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("cannot make mount point of EBS volume %s: %w", e.VolumeID, err)
	}
	dir, err := filepath.EvalSymlinks(v.cfg.EBSDir)
	if err != nil {
		return "", fmt.Errorf("cannot find mount point of EBS volume %s: %w", e.VolumeID, err)
	}
	return filepath.Join(dir, e.Directory), nil
}

func (v *Volumes) mountEBS(ctx context.Context, e volume.EBS, target string) error {
	device, err := v.FindEBS(e)
	if err != nil {
		return err
	}
	fresh, err := v.format(ctx, e, device)
	if err != nil {
		return err
	}
	fstype := fileSystem(e)
	r := &request{what: "EBS volume " + e.VolumeID, fstype: fstype, source: device}
	if fstype == "xfs" {
		// A volume made from a snapshot has the id of its file system: another one
		// with the same may be mounted.
		r.options = []string{"nouuid"}
	}
	err = v.mount(ctx, target, r)
	if err != nil && !fresh && v.wasFormatting(e) {
		// What looks like a file system is half of one.
		if err := v.makeFileSystem(ctx, e, device); err != nil {
			return err
		}
		fresh, err = true, v.mount(ctx, target, r)
	}
	if err != nil {
		return err
	}
	if !fresh {
		v.grow(ctx, e, device, target)
	}
	return v.forgetFormat(e)
}

// grow makes the file system as large as the volume, which may be larger than the
// snapshot it comes from. A file system that stays small is still one.
func (v *Volumes) grow(ctx context.Context, e volume.EBS, device, target string) {
	name, args := "resize2fs", []string{device}
	if fileSystem(e) == "xfs" {
		name, args = "xfs_growfs", []string{"-d", target}
	}
	program, err := find(name)
	if err == nil {
		err = v.run(ctx, program, args...)
	}
	if err != nil {
		v.log.Warn("cannot grow the file system of an EBS volume to the volume's size", zap.String("volume", e.VolumeID), zap.Error(err))
	}
}

// unmountTries is how often an EBS volume in use is tried to unmount.
const unmountTries = 5

// UnstageEBS unmounts the volume, with five tries. After the last one it is
// detached from the host's tree all the same: what still uses it is not a task.
func (v *Volumes) UnstageEBS(ctx context.Context, e volume.EBS) error {
	return v.cfg.OnHost(func() error { return v.unstageEBS(ctx, e) })
}

func (v *Volumes) unstageEBS(ctx context.Context, e volume.EBS) error {
	if !validDirectory.MatchString(e.Directory) {
		return nil
	}
	unlock, err := v.names.lock(ctx, "ebs "+e.Directory)
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := filepath.EvalSymlinks(v.cfg.EBSDir)
	if errors.Is(err, fs.ErrNotExist) {
		return v.forgetStaged(e)
	}
	if err != nil {
		return fmt.Errorf("cannot find mount point of EBS volume %s: %w", e.VolumeID, err)
	}
	target := filepath.Join(dir, e.Directory)
	if err := v.unmountEBS(ctx, e, target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove mount point of EBS volume %s: %w", e.VolumeID, err)
	}
	return errors.Join(v.forgetFormat(e), v.forgetStaged(e))
}

func (v *Volumes) unmountEBS(ctx context.Context, e volume.EBS, target string) error {
	umount, err := find("umount")
	if err != nil {
		return err
	}
	for try := 1; ; {
		mounted, err := mountsAt(target)
		if err != nil || mounted == 0 {
			return err
		}
		// Not lazily: the volume is detached from the host next, and everything that
		// was written has to be on it.
		err = v.run(ctx, umount, "-i", target)
		if err == nil {
			continue // it may be mounted twice
		}
		if try == unmountTries {
			v.log.Warn("an EBS volume is in use on this host: it is unmounted lazily", zap.String("volume", e.VolumeID), zap.Error(err))
			return errors.Join(syncFS(target), v.unmount(ctx, target))
		}
		try++
		timer := time.NewTimer(v.cfg.UnmountPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// Usage are the used and total bytes of a mounted EBS volume.
func (v *Volumes) Usage(e volume.EBS) (used, total uint64, err error) {
	err = v.cfg.OnHost(func() (err error) {
		used, total, err = v.usage(e)
		return err
	})
	return used, total, err
}

func (v *Volumes) usage(e volume.EBS) (used, total uint64, err error) {
	dir, err := filepath.EvalSymlinks(v.cfg.EBSDir)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot measure EBS volume: %w", err)
	}
	target := filepath.Join(dir, e.Directory)
	mounted, err := mountsAt(target)
	if err == nil && mounted == 0 {
		err = fmt.Errorf("cannot measure EBS volume: nothing is mounted at %s", target)
	}
	if err != nil {
		return 0, 0, err
	}
	return usage(target)
}

// own gives everything below dir to the group, which may write it, and makes new
// entries belong to it. The directory itself is last: where it has its group the
// walk was complete.
func own(dir string, gid int) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if owner(st) == gid && st.Mode()&fs.ModeSetgid != 0 && st.Mode().Perm()&0o070 == 0o070 {
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return ownEntry(path, info, gid)
	})
	if err != nil {
		return err
	}
	return ownEntry(dir, st, gid)
}

func ownEntry(path string, st fs.FileInfo, gid int) error {
	if err := os.Lchown(path, -1, gid); err != nil {
		return err
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return os.Chmod(path, mode|0o070|fs.ModeSetgid)
	case mode.IsRegular():
		return os.Chmod(path, mode|0o060)
	}
	return nil // links and devices have no content here
}

// fileSystem is the one that the volume has or gets.
func fileSystem(e volume.EBS) string {
	if e.FileSystem == "" {
		return "xfs"
	}
	return e.FileSystem
}

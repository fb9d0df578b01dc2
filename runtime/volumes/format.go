package volumes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/durable"
	"github.com/berthd/berth/runtime/volume"
)

// blkid's exit code for a device on which it knows nothing.
const blkidNothing = 2

// probed is how much of a device's beginning has to be zero before it is formatted.
const probed = 4 << 20

// format makes a file system on a blank device, and answers whether it did. What
// has anything on it is never formatted: neither what blkid knows, nor what begins
// with anything but zeros. A device whose formatting was cut off is known by a
// marker that is on our disk before the first byte is written.
func (v *Volumes) format(ctx context.Context, e volume.EBS, device string) (fresh bool, err error) {
	fstype := fileSystem(e)
	if !slices.Contains([]string{"xfs", "ext4", "ext3", "ext2"}, fstype) {
		return false, fmt.Errorf("cannot mount EBS volume %s: file system %s is not for Linux", e.VolumeID, fstype)
	}
	has, err := v.probe(ctx, device)
	switch {
	case err != nil:
		return false, fmt.Errorf("cannot see what is on EBS volume %s: %w", e.VolumeID, err)
	case has == fstype:
		return false, nil
	case has != "" && !v.wasFormatting(e):
		return false, fmt.Errorf("cannot mount EBS volume %s as %s: it holds %s, and is not formatted", e.VolumeID, fstype, has)
	}
	return true, v.makeFileSystem(ctx, e, device)
}

// makeFileSystem overwrites what is on the device.
func (v *Volumes) makeFileSystem(ctx context.Context, e volume.EBS, device string) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot format EBS volume %s: %w", e.VolumeID, err)
	}
	program, err := find("mkfs." + fileSystem(e))
	if err != nil {
		return fail(err)
	}
	if err := v.markFormat(v.formatMarker(e)); err != nil {
		return fail(err)
	}
	args := []string{"-F", "-q", "-m", "0", device}
	if fileSystem(e) == "xfs" {
		args = []string{"-f", "-q", device}
	}
	if err := v.run(ctx, program, args...); err != nil {
		return fail(err)
	}
	return v.forgetFormat(e)
}

// wasFormatting says whether a formatting of the volume on this host has not ended.
func (v *Volumes) wasFormatting(e volume.EBS) bool {
	_, err := os.Lstat(v.formatMarker(e))
	return err == nil
}

// probe says what is on a device: a file system's name, "data" for what is not
// known, "" for nothing.
func (v *Volumes) probe(ctx context.Context, device string) (string, error) {
	blkid, err := find("blkid")
	if err != nil {
		return "", err
	}
	out, err := v.output(ctx, blkid, "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", device)
	if err == nil && out != "" {
		return string(bytes.Join(bytes.Fields([]byte(out)), []byte("+"))), nil
	}
	if err != nil && exitCode(err) != blkidNothing {
		return "", err
	}
	blank, err := beginsBlank(device)
	if err != nil || blank {
		return "", err
	}
	return "data", nil
}

// beginsBlank says whether a device begins with nothing but zeros.
func beginsBlank(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	zero, buffer := make([]byte, 64<<10), make([]byte, 64<<10)
	for range probed / len(buffer) {
		n, err := io.ReadFull(f, buffer)
		if !bytes.Equal(buffer[:n], zero[:n]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// formatMarker is the file that says that a volume is being formatted. Its name
// is none of a volume's directory.
func (v *Volumes) formatMarker(e volume.EBS) string {
	return filepath.Join(v.cfg.Dir, ".format-"+e.VolumeID)
}

func (v *Volumes) markFormat(marker string) error {
	if err := writeSynced(marker, nil); err != nil {
		return explain(err, v.cfg.Dir)
	}
	return durable.SyncDir(v.cfg.Dir)
}

func (v *Volumes) forgetFormat(e volume.EBS) error {
	if !validVolumeID.MatchString(e.VolumeID) {
		return nil
	}
	if err := os.Remove(v.formatMarker(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget that EBS volume %s was being formatted: %w", e.VolumeID, err)
	}
	return nil
}

// syncFS writes out what a file system holds in memory.
func syncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// usage are the used and total bytes of a file system.
func usage(path string) (used, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("cannot measure %s: %w", path, err)
	}
	block := uint64(st.Bsize)
	return (st.Blocks - st.Bfree) * block, st.Blocks * block, nil
}

// owner is the group of a file.
func owner(st fs.FileInfo) int {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid)
	}
	return -1
}

// CanFormat says whether the host has what EBS volumes need: programs that look
// at a device, and make the file system that they get by default.
func CanFormat() bool {
	for _, name := range []string{"blkid", "mkfs.xfs"} {
		if _, err := find(name); err != nil {
			return false
		}
	}
	return true
}

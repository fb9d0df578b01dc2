package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// gzSuffix marks a compressed file.
const gzSuffix = ".gz"

// rotate makes the current file logName.1, shifts the older ones and begins a
// new one. Killed in between it is carried on with by the next rotation: a gap
// in the numbers does no harm, and a missing current file is made by open.
func (d *jsonFile) rotate() error {
	d.compress.Wait()
	// It is not there if we came this far before, and could not make a new one.
	if exists(d.path) {
		if err := d.shift(); err != nil {
			return err
		}
	}
	old := d.file
	if err := d.open(); err != nil {
		return err
	}
	// Followers read the old file to its end by their own open handle.
	if err := old.Close(); err != nil {
		return fmt.Errorf("cannot close old log: %w", err)
	}
	if d.rules.compress {
		path := d.path + ".1"
		d.busy.Store(true)
		d.compress.Go(func() {
			defer d.busy.Store(false)
			if err := compressFile(path); err != nil {
				d.log.Warn("old log stays uncompressed", zap.Error(err))
			}
		})
	}
	return nil
}

// shift renames every file one number up; the last falls off.
func (d *jsonFile) shift() error {
	files := d.rules.maxFiles
	if d.keep != nil {
		files = d.keep()
	}
	if files == 1 {
		// A new file takes the place of the old.
		return removeAll(d.path)
	}
	for i := files - 1; i >= 1; i-- {
		to := d.path + "." + strconv.Itoa(i)
		from := d.path + "." + strconv.Itoa(i-1)
		if i == 1 {
			from = d.path
		}
		for _, suffix := range []string{"", gzSuffix} {
			err := os.Rename(from+suffix, to+suffix)
			if errors.Is(err, fs.ErrNotExist) {
				// Nothing to shift: what is older must not look like it.
				err = removeAll(to + suffix)
			}
			if err != nil {
				return fmt.Errorf("cannot rotate log: %w", err)
			}
		}
	}
	return nil
}

// compressFile replaces path by path.gz. The comment in its header is the inode
// that path had, by which a driver knows its place (see rewind).
func compressFile(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	tmp := path + gzSuffix + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	zw := gzip.NewWriter(out)
	zw.Comment = strconv.FormatUint(inodeOf(info), 10)
	zw.ModTime = time.Time{}
	_, err = io.Copy(zw, in)
	if err = errors.Join(err, zw.Close(), out.Sync(), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot compress log: %w", err), removeAll(tmp))
	}
	if err := os.Rename(tmp, path+gzSuffix); err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	return nil
}

// compressedInode is the inode that a compressed file had before.
func compressedInode(path string) (inode uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read compressed log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return 0, fmt.Errorf("cannot read compressed log: %w", err)
	}
	inode, err = strconv.ParseUint(zr.Comment, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read compressed log %s: no inode in its header: %w", path, err)
	}
	return inode, nil
}

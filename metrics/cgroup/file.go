package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
)

// bufferSize is enough for every file of a container but the per-device ones of a host with very many disks, where it grows.
const bufferSize = 4096

// file is one cgroup file. It is a bare descriptor, not an os.File: cgroup files can be polled, so that an os.File would register
// with the runtime's poller and wake it at every event of the cgroup.
type file struct {
	path string
	fd   int // -1 while not open
}

func newFile(dir, name string) file { return file{path: dir + "/" + name, fd: -1} }

// open opens the file unless it is open. An absent file is not an error; the answer is whether it is open.
func (f *file) open() (bool, error) {
	if f.fd >= 0 {
		return true, nil
	}
	if f.path == "" {
		return false, nil
	}
	for {
		fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			f.fd = fd
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENODEV):
			return false, nil
		default:
			return false, fmt.Errorf("cannot open %s: %w", f.path, err)
		}
	}
}

// close closes the file if it is open.
func (f *file) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd) // read only: nothing can be lost
		f.fd = -1
	}
}

// read reads the whole file from its start into *buf, which grows if the file does not fit, and returns the part that was filled.
// The kernel makes the content anew for a read at offset zero, so one read is one consistent picture. An answer of nil means that
// the file is not open or that the kernel has no figure for it just now; metrics.ErrGone that the cgroup was removed.
func (f *file) read(buf *[]byte) ([]byte, error) {
	if f.fd < 0 {
		return nil, nil
	}
	for {
		b, err := f.readPart(*buf)
		if err != nil || len(b) < len(*buf) {
			return b, err
		}
		*buf = make([]byte, 2*len(*buf))
	}
}

// readPart reads as much of an open file as fits into buf.
func (f *file) readPart(buf []byte) ([]byte, error) {
	for {
		n, err := unix.Pread(f.fd, buf, 0)
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENODEV):
			return nil, metrics.ErrGone
		case errors.Is(err, unix.EOPNOTSUPP):
			return nil, nil // *.pressure with PSI switched off for the cgroup
		default:
			return nil, fmt.Errorf("cannot read %s: %w", f.path, err)
		}
	}
}

// readOnce opens, reads and closes a file that is not worth a descriptor.
func (f *file) readOnce(buf *[]byte) ([]byte, error) {
	if ok, err := f.open(); !ok {
		return nil, err
	}
	defer f.close()
	return f.read(buf)
}

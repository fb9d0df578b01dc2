package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSize is what is asked for each pipe, in bytes: the most that Linux gives
// without a changed setting. It costs memory only while it is full.
const pipeSize = 1 << 20

// stream reads one FIFO into its worker's spool.
type stream struct {
	w      *worker
	i      int
	stream Stream
	file   *os.File
	raw    syscall.RawConn
	ending atomic.Bool
}

// openStream opens the i-th FIFO of a worker's container.
func openStream(w *worker, i int, name string) (*stream, error) {
	file, err := openFIFO(filepath.Join(w.dir, name))
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use pipe %s: %w", name, err), file.Close())
	}
	// A pipe of the usual size does as well where more is not allowed.
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	return &stream{w: w, i: i, stream: Stream(name), file: file, raw: raw}, nil
}

// run reads until the stream's end, or until ctx ends and what is in the pipe
// then has been read.
func (s *stream) run(ctx context.Context) error {
	// Waking: a deadline in the past ends the wait for a byte.
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.w.took(ctx, s.i, 0, false); err != nil {
		return err // what was left of the last process waits on
	}
	for ctx.Err() == nil {
		n, err := s.read(true)
		switch {
		case err == nil && n > 0:
			if err := s.w.took(ctx, s.i, n, false); err != nil {
				return err
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil && s.ending.Load() {
				return s.drain(ctx)
			}
		case err != nil:
			return fmt.Errorf("cannot read %s: %w", s.stream, err)
		}
	}
	return s.last(context.WithoutCancel(ctx))
}

// end makes run read to the end of the stream and return.
func (s *stream) end() {
	if s.ending.CompareAndSwap(false, true) {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// drain reads until no process has the pipe open for writing, or until
// closeGrace is over and nothing is in it.
func (s *stream) drain(ctx context.Context) error {
	if err := s.file.SetReadDeadline(time.Now().Add(closeGrace)); err != nil {
		return fmt.Errorf("cannot wait for the end of %s: %w", s.stream, err)
	}
	for ctx.Err() == nil {
		n, err := s.read(true)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if late && ctx.Err() == nil {
			n, err = s.read(false)
		}
		if err != nil && !late {
			return fmt.Errorf("cannot read %s: %w", s.stream, err)
		}
		if n == 0 && ctx.Err() == nil {
			return s.w.took(ctx, s.i, 0, true)
		}
		if err := s.w.took(ctx, s.i, n, false); err != nil {
			return err
		}
	}
	return s.last(context.WithoutCancel(ctx))
}

// last empties the pipe of a stopping process, as far as stopGrace allows: a
// writer in full flow need not be followed for ever. It answers errStopped, for
// the stream has not come to its end.
func (s *stream) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopGrace, errStopped)
	defer cancel()
	for ctx.Err() == nil {
		n, err := s.read(false)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := s.w.took(ctx, s.i, n, false); err != nil {
			return err
		}
	}
	return errStopped
}

// read reads into the spool. With wait set it waits for bytes, or, when the
// stream is ending, for the last writer to leave (n is 0 then). Without, n is 0
// when there is nothing.
func (s *stream) read(wait bool) (n int, err error) {
	s.w.mu.Lock()
	room := s.w.spool.room(s.i)
	s.w.mu.Unlock()
	once := func(fd uintptr) bool {
		for {
			if n, err = unix.Read(int(fd), room); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			n, err = 0, nil
			return !wait
		}
		// Zero bytes: nobody has the pipe open for writing, now.
		return n > 0 || err != nil || !wait || s.ending.Load()
	}
	if !wait {
		if ctlErr := s.raw.Control(func(fd uintptr) { once(fd) }); ctlErr != nil {
			return 0, ctlErr
		}
		return max(n, 0), err
	}
	if waitErr := s.raw.Read(once); waitErr != nil {
		return 0, waitErr
	}
	return max(n, 0), err
}

// waiting is how many bytes are in the pipe.
func (s *stream) waiting() int64 {
	n := 0
	_ = s.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return int64(n)
}

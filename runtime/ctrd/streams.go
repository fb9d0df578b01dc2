package ctrd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/fifo"

	"github.com/berthd/berth/runtime/container"
)

// streams are the pipes of a process run by Exec: FIFOs in a directory of their
// own, because the shim opens them by path.
type streams struct {
	dir   string
	paths container.IO

	req container.ExecRequest
	// unfinished keeps the directory, for sweepExecs to end the process.
	unfinished bool

	in       io.WriteCloser
	out, err io.ReadCloser
	cancel   context.CancelFunc
	copying  sync.WaitGroup // of the outputs
}

// execOwner is the link beside the pipes that says whose they are: unlike a file,
// it is there whole or not at all.
const execOwner = "container"

// openStreams makes the FIFOs of a container's process and opens our ends. close
// must be called.
func openStreams(stateDir, id, owner string, req container.ExecRequest) (_ *streams, err error) {
	s := &streams{dir: filepath.Join(execDir(stateDir), id), req: req}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make directory for pipes: %w", err)
	}
	if err := os.Symlink(owner, filepath.Join(s.dir, execOwner)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot note whose pipes they are: %w", err), os.RemoveAll(s.dir))
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // FIFOs are opened for the life of the process
	s.cancel = cancel
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("cannot open pipes: %w", err)
		}
	}()
	open := func(name string, flags int) (string, io.ReadWriteCloser, error) {
		path := filepath.Join(s.dir, name)
		f, err := fifo.OpenFifo(ctx, path, flags|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
		return path, f, err
	}
	if req.Stdin != nil {
		if s.paths.Stdin, s.in, err = open("stdin", syscall.O_WRONLY); err != nil {
			return nil, err
		}
	}
	if req.Stdout != nil || req.Terminal {
		if s.paths.Stdout, s.out, err = open("stdout", syscall.O_RDONLY); err != nil {
			return nil, err
		}
	}
	if req.Stderr != nil && !req.Terminal {
		if s.paths.Stderr, s.err, err = open("stderr", syscall.O_RDONLY); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// copy begins to copy. closeStdin tells the shim that no more input comes.
func (s *streams) copy(closeStdin func() error) {
	drainTo := func(w io.Writer, r io.ReadCloser) {
		if w == nil {
			w = io.Discard
		}
		s.copying.Go(func() { _, _ = io.Copy(w, r) }) // ends at the latest when close closes r
	}
	if s.out != nil {
		drainTo(s.req.Stdout, s.out)
	}
	if s.err != nil {
		drainTo(s.req.Stderr, s.err)
	}
	if s.in != nil {
		// Not waited for: the Read of a caller's reader cannot be interrupted.
		go func() {
			_, err := io.Copy(s.in, s.req.Stdin)
			if s.req.Terminal {
				return // the shim would hang the terminal up
			}
			if cerr := s.in.Close(); cerr == nil && !errors.Is(err, io.ErrClosedPipe) {
				_ = closeStdin() // fails only when the process has gone
			}
		}()
	}
}

// wait waits until all output was copied, at most for so long.
func (s *streams) wait(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		s.copying.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// close closes our ends, waits for the copying to end, and takes the FIFOs
// away.
func (s *streams) close() {
	s.cancel()
	for _, c := range []io.Closer{s.in, s.out, s.err} {
		if c != nil {
			_ = c.Close()
		}
	}
	s.copying.Wait()
	if !s.unfinished {
		_ = os.RemoveAll(s.dir)
	}
}

// execDir has a directory for each process that Exec runs.
func execDir(stateDir string) string { return filepath.Join(stateDir, "exec") }

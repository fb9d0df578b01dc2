package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner starts log processes that have nothing to do with their parent: their
// own session, no stream of the parent's, the root directory. A kill of the
// parent, its process group or its terminal does not reach them. (Of the
// parent's cgroup it does: under systemd the log process is a unit of its own.)
//
// Start may be called from many goroutines.
type Spawner struct {
	// Command is the program, by absolute path, and its arguments.
	Command []string
	// Env is the whole environment, entries K=V.
	Env []string
	// Output is the file that stdout and stderr are appended to; "" is
	// /dev/null.
	Output string

	mu      sync.Mutex // guards started
	started []*os.Process
}

// Start starts a process. It does nothing while one that it started runs.
func (s *Spawner) Start() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reap()
	if len(s.started) > 0 {
		return nil
	}
	if len(s.Command) == 0 || !filepath.IsAbs(s.Command[0]) {
		return errors.New("cannot start log process: no absolute path to it")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot start log process: %w", err)
	}
	defer func() { err = errors.Join(err, null.Close()) }()
	out := null
	if s.Output != "" {
		if out, err = os.OpenFile(s.Output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640); err != nil {
			return fmt.Errorf("cannot start log process: %w", err)
		}
		defer func() { err = errors.Join(err, out.Close()) }()
	}
	env := s.Env
	if env == nil {
		env = []string{}
	}
	process, err := os.StartProcess(s.Command[0], s.Command, &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, out, out}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("cannot start log process: %w", err)
	}
	s.started = append(s.started, process)
	return nil
}

// reap forgets processes that have ended. There is no goroutine that waits for
// them: they outlive us, and one that does not is of interest only when the
// next is to be started.
func (s *Spawner) reap() {
	running := s.started[:0]
	for _, p := range s.started {
		var status unix.WaitStatus
		pid, err := unix.Wait4(p.Pid, &status, unix.WNOHANG, nil)
		if pid == 0 && err == nil {
			running = append(running, p)
			continue
		}
		_ = p.Release() // its handle only; it has ended
	}
	s.started = running
}

package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long a child that was killed may take to die. One that the kernel
// holds longer is left to it.
const grace = 3 * time.Second

// maxSaid bounds what is kept of a child's words.
const maxSaid = 4 << 10

// exitError is a child that ended badly, with what it said.
type exitError struct {
	program string
	code    int
	said    string
}

func (e *exitError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s failed with exit code %d", e.program, e.code)
	}
	return fmt.Sprintf("%s: %s", e.program, e.said)
}

// exitCode is the code of the child that err speaks of; -1 for anything else.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return -1
}

// find looks for a program in the search path and where system programs are.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is not on this host: %w", name, err)
}

// run runs a program, bounded by Config.MountTimeout.
func (v *Volumes) run(ctx context.Context, program string, args ...string) error {
	_, err := v.output(ctx, program, args...)
	return err
}

// output runs a program and answers with the beginning of what it said. It returns
// in bounded time whatever the program and the kernel do. The program and its
// children die with it, but for those that made a session of their own, as the
// proxies of mount.efs do; it dies with the agent too.
func (v *Volumes) output(ctx context.Context, program string, args ...string) (string, error) {
	name := filepath.Base(program)
	ctx, cancel := context.WithTimeoutCause(ctx, v.cfg.MountTimeout, fmt.Errorf("%s did not end within %s", name, v.cfg.MountTimeout))
	defer cancel()
	// A file and no pipe: a proxy that lives on keeps what it inherited, and must
	// neither be waited for nor be killed by writing to it.
	fd, err := unix.MemfdCreate("berth-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("cannot run %s: %w", name, err)
	}
	said := os.NewFile(uintptr(fd), name)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	type result struct {
		said string
		err  error
	}
	// One place, so that the goroutine ends with the child though nobody may be
	// there to hear of it any more.
	done := make(chan result, 1)
	go func() {
		// The death signal comes when the parent's thread ends, not its process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := v.cfg.OnHost(cmd.Run)
		done <- result{heard(said), err}
		_ = said.Close() // memory only
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case r = <-done:
		case <-timer.C:
			return "", context.Cause(ctx)
		}
	}
	return r.said, childError(ctx, name, r.said, r.err)
}

// childError is why a child failed, nil if it did not.
func childError(ctx context.Context, name, said string, err error) error {
	words := strings.Join(strings.Fields(said), " ")
	words = strings.TrimSuffix(words, " dmesg(1) may have more information after failed mount system call.")
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && words != "":
		return fmt.Errorf("%w; it said: %s", context.Cause(ctx), words)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case exited:
		return &exitError{program: name, code: exit.ExitCode(), said: strings.TrimPrefix(words, name+": ")}
	}
	return fmt.Errorf("cannot run %s: %w", name, err)
}

// heard is the beginning of what was written to a file.
func heard(f *os.File) string {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxSaid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

package netns

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics"
)

// inside runs f on a thread that is in the namespace at path meanwhile, and waits for it. It answers metrics.ErrGone if there is no
// such namespace.
func inside(path string, f func() error) error {
	done := make(chan error) // the caller waits for the one answer
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self is the main thread: whoever looks there must not find it away from home. While this goroutine
			// holds it, another one gets another thread.
			defer runtime.UnlockOSThread()
			done <- inside(path, f)
			return
		}
		home, err := visit(path, f)
		if home {
			runtime.UnlockOSThread()
		} // else the thread stays locked, and the runtime ends it with this goroutine
		done <- err
	}()
	return <-done
}

// visit enters the namespace, runs f and comes back. It reports whether the thread is where it started.
func visit(path string, f func() error) (home bool, err error) {
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("cannot open own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(own) }()
	other, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return true, metrics.ErrGone
	}
	if err != nil {
		return true, err
	}
	defer func() { _ = unix.Close(other) }()
	err = unix.Setns(other, unix.CLONE_NEWNET)
	if errors.Is(err, unix.EINVAL) {
		return true, metrics.ErrGone // the path is there, but no longer, or not yet, a namespace
	}
	if err != nil {
		return true, fmt.Errorf("cannot enter: %w", err)
	}
	err = f()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		return false, errors.Join(err, fmt.Errorf("cannot return to own network namespace: %w", back))
	}
	return true, err
}

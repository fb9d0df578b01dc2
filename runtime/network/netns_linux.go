package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// onHost calls a function where the host's mounts are, in the network namespace of the calling thread: Config.OnHost.
type onHost func(fn func() error) error

// within runs fn on a thread of its own in a network namespace. What fn opens stays in that namespace; /proc/sys/net
// and /proc/thread-self/net are that namespace's while it runs.
func within(ns netns.NsHandle, fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("cannot enter network namespace: %w", err)
		}
		return fn()
	})
}

// onThread runs fn, which may change the thread's network namespace, on a locked thread, and waits for it. The thread is
// put back where it was, or thrown away if that fails.
func onThread(fn func() error) error {
	done := make(chan error, 1) // one result, so that the goroutine can end before it is read
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self is the main thread: whoever looks there for the host's namespace must not find it away from home.
			// While this goroutine holds it, another one gets another thread.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		back, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("cannot open network namespace of the thread: %w", err)
			return // still locked: the thread ends with the goroutine
		}
		err = fn()
		if netns.Set(back) == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, back.Close())
	}()
	return <-done
}

// isNetNS reports whether a namespace is bound at the path.
func isNetNS(path string) (bool, error) {
	var st unix.Statfs_t
	switch err := unix.Statfs(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// openNetNS opens the namespace bound at a path, and makes it first if need be, with kernel settings as key=value. The caller closes the handle.
func openNetNS(on onHost, path string, sysctls []string) (netns.NsHandle, error) {
	bound, err := isNetNS(path)
	if err != nil {
		return netns.None(), fmt.Errorf("cannot look at network namespace: %w", err)
	}
	if !bound {
		if err := makeNetNS(on, path, sysctls); err != nil {
			return netns.None(), err
		}
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netns.None(), fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	return ns, nil
}

// makeNetNS makes a namespace and binds it at a path, so that it lives without a process in it.
func makeNetNS(on onHost, path string, sysctls []string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot make directory of network namespaces: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("cannot make mount point of network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot make mount point of network namespace: %w", err)
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make network namespace: %w", err)
		}
		return on(func() error {
			for _, s := range sysctls {
				key, value, _ := strings.Cut(s, "=")
				if err := writeSysctl(key, value); err != nil {
					return err
				}
			}
			if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("cannot bind network namespace at %s: %w", path, err)
			}
			return nil
		})
	})
}

// removeNetNS unbinds a namespace and removes its mount point. What is not there is no error.
func removeNetNS(on onHost, path string) error {
	err := on(func() error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: nothing is mounted there
		return fmt.Errorf("cannot unbind network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove mount point of network namespace: %w", err)
	}
	return nil
}

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + key)
	if err != nil {
		return "", fmt.Errorf("cannot read kernel setting: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// writeSysctl sets a kernel setting of the thread's namespace unless it has the value already. A setting that this
// kernel does not have (it was built without IPv6, say) is passed over. It runs where the host's mounts are: those of a
// process that is shut in cannot be written.
func writeSysctl(key, value string) error {
	switch was, err := readSysctl(key); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case was == value:
		return nil
	}
	f, err := os.OpenFile("/proc/sys/"+key, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot open kernel setting: %w", err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot set kernel setting %s to %s: %w", key, value, err)
	}
	return nil
}

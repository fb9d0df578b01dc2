// Package hostns does things in the mount namespace of the host for a process that has one of its own.
//
// A service that systemd shuts in (ProtectSystem=, PrivateDevices= and their like) sees the host's mounts and shows it
// none: a network namespace or a volume that it mounts is not there for containerd, /proc/sys and the control groups
// cannot be written, and the disks are not in /dev. What has to be done on the host is done on a thread of its own that
// has gone there, and that ends with it. Everything else of the process stays shut in.
//
//	process, shut in ── Do(fn) ──▶ new thread ── setns ──▶ fn on the host ──▶ the thread ends
//	       │                                                  │
//	       └── waits, and goes on with what fn returned       └── programs that fn starts are on the host too
//
// Whoever starts the process hands the host's namespace to it as its standard input. So nobody has to guess: a process
// that was handed none (berth run, tests, another init) is where it belongs, and Do is a plain call.
//
// It needs CAP_SYS_ADMIN and CAP_SYS_CHROOT. It is no protection against a process that wants to get out: one that may
// mount can. It is one against mistakes: only what says so touches the host.
package hostns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a mount namespace that is not the process's own. A nil one is. It may be used by many goroutines at once.
type Namespace struct {
	file *os.File
	id   id
}

// id is what the kernel tells namespaces apart by.
type id struct{ dev, ino uint64 }

// ofThread is the mount namespace of the calling thread.
const ofThread = "/proc/thread-self/ns/mnt"

// Handed looks whether a file that the process was started with is a mount namespace. It answers nil where it is none,
// or is the one that the process is in anyway. The namespace keeps the file open.
func Handed(file *os.File) (*Namespace, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		return nil, nil //nolint:nilerr,nilnil // Closed, or a file of another kind: there is none.
	}
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return nil, fmt.Errorf("cannot tell the kind of namespace of %s: %w", file.Name(), err)
	}
	if kind != unix.CLONE_NEWNS {
		return nil, nil //nolint:nilnil // Of another kind.
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, fmt.Errorf("cannot look at the mount namespace of %s: %w", file.Name(), err)
	}
	n := &Namespace{file: file, id: idOf(&st)}
	here, err := n.here()
	if err != nil || here {
		return nil, err
	}
	return n, nil
}

func idOf(st *unix.Stat_t) id { return id{st.Dev, st.Ino} }

// here says whether the calling thread is in the namespace.
func (n *Namespace) here() (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(ofThread, &st); err != nil {
		return false, fmt.Errorf("cannot look at the mount namespace of the thread: %w", err)
	}
	return idOf(&st) == n.id, nil
}

// Do calls fn in the namespace and answers with its error. The network namespace is the calling thread's. What fn opens
// stays open; goroutines that it starts are back in the process's own namespace. A Do in a Do is a plain call.
func (n *Namespace) Do(fn func() error) error {
	if n == nil {
		return fn()
	}
	runtime.LockOSThread() // The thread's network namespace is this one's for as long as we look.
	defer runtime.UnlockOSThread()
	if here, err := n.here(); err != nil {
		return err
	} else if here {
		return fn()
	}
	net, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open the network namespace of the thread: %w", err)
	}
	done := make(chan error, 1) // one result, so that the goroutine can end before it is read
	go n.visit(net, fn, done)
	return errors.Join(<-done, unix.Close(net))
}

// visit calls fn on a thread that has gone to the namespace, and that ends with the goroutine, which stays locked to it.
func (n *Namespace) visit(net int, fn func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread would not end, and /proc/self is what is seen of it: it must not be found away from home. While
		// this goroutine holds it, another one gets another thread.
		defer runtime.UnlockOSThread()
		other := make(chan error, 1)
		go n.visit(net, fn, other)
		done <- <-other
		return
	}
	if err := n.enter(net); err != nil {
		done <- err
		return
	}
	done <- fn()
}

// enter moves the calling thread. Root and working directory become those of the namespace, for this thread alone.
func (n *Namespace) enter(net int) error {
	if err := unix.Setns(net, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot stay in the network namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("cannot give the thread a root directory of its own: %w", err)
	}
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot enter the host's mount namespace: %w", err)
	}
	return nil
}

// Writable makes directories writable in the process's own namespace that are on the host: those that were configured,
// which whoever shut the process in could not know. One that does not exist yet is made.
func (n *Namespace) Writable(dirs ...string) error {
	if n == nil {
		return nil
	}
	for _, dir := range dirs {
		if err := n.writable(dir); err != nil {
			return fmt.Errorf("cannot make %s writable for a service that is shut in (systemctl edit berth, ReadWritePaths=%s): %w", dir, dir, err)
		}
	}
	return nil
}

func (n *Namespace) writable(dir string) error {
	if err := n.Do(func() error { return os.MkdirAll(dir, 0o755) }); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	// All flags are set anew: those that are not about writing stay as they were.
	keep := uintptr(fs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|keep, ""); err != nil {
		return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

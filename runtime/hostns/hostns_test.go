package hostns_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/hostns"
)

// other is a mount namespace in which a directory is another one than here: with a file "there" in it.
func other(t *testing.T, dir string) *hostns.Namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a mount namespace")
	}
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, err := func() (*os.File, error) {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return nil, err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return nil, err
			}
			if err := unix.Mount("there", dir, "tmpfs", 0, "size=1m"); err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
				return nil, err
			}
			return os.Open("/proc/thread-self/ns/mnt")
		}()
		made <- result{file, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.file.Close() })
	n, err := hostns.Handed(r.file)
	if err != nil || n == nil {
		t.Fatalf("a mount namespace is not taken for one: %v, %v", n, err)
	}
	return n
}

func TestDoIsThereAndNowhereElse(t *testing.T) {
	dir := t.TempDir()
	n := other(t, dir)
	file := filepath.Join(dir, "there")
	seen := func() error { _, err := os.Lstat(file); return err }
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if err := n.Do(seen); err != nil {
				t.Errorf("in the namespace: %v", err)
			}
			if err := seen(); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("in our own: %v", err)
			}
		})
	}
	wait.Wait()
	// Programs that are started there are there.
	err := n.Do(func() error { return exec.CommandContext(t.Context(), "test", "-e", file).Run() })
	if err != nil {
		t.Errorf("a program: %v", err)
	}
	want := errors.New("mine")
	if err := n.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("the error is %v", err)
	}
	if err := seen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("afterwards in our own: %v", err)
	}
}

// One inside another is on the same thread, so that whatever was done to that thread counts.
func TestDoInDoIsAPlainCall(t *testing.T) {
	n := other(t, t.TempDir())
	err := n.Do(func() error {
		thread := unix.Gettid()
		return n.Do(func() error {
			if unix.Gettid() != thread {
				return errors.New("it is another thread")
			}
			if thread == unix.Getpid() {
				return errors.New("it is the main thread")
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDoKeepsTheNetwork(t *testing.T) {
	n := other(t, t.TempDir())
	network := func() string {
		name, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return name
	}
	here, there := make(chan string, 1), make(chan string, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		here <- network()
		if err := n.Do(func() error { there <- network(); return nil }); err != nil {
			t.Error(err)
			there <- ""
		}
	}()
	if a, b := <-here, <-there; a != b || a == network() {
		t.Errorf("the network namespace is %s and was %s; the process's is %s", b, a, network())
	}
}

// A directory that is read-only here, and may be there, becomes writable here.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	n := other(t, t.TempDir())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
				return err
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
				return err
			}
			state := filepath.Join(dir, "state")
			if err := n.Writable(state); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(state, "file"), nil, 0o600); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				return errors.New("the directory above became writable too")
			}
			mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(mounts)) {
				if f := strings.Fields(line); len(f) > 5 && f[4] == state && !strings.Contains(f[5], "nosuid") {
					return errors.New("other flags of the mount are lost: " + line)
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNoneIsAPlainCall(t *testing.T) {
	own, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	network, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Close() }()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{file, closed} {
		_ = f.Close()
	}
	for _, f := range []*os.File{own, network, closed} {
		n, err := hostns.Handed(f)
		if n != nil || err != nil {
			t.Errorf("%s is taken for another mount namespace (%v)", f.Name(), err)
		}
		called := false
		if err := n.Do(func() error { called = true; return nil }); err != nil || !called {
			t.Errorf("fn was called: %v (%v)", called, err)
		}
		if err := n.Writable("/no/such/directory"); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	made := make(chan *os.File, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			b.Error(err)
		}
		file, err := os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			b.Error(err)
		}
		made <- file
	}()
	n, err := hostns.Handed(<-made)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := n.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

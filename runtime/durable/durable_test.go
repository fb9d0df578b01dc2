package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/durable"
)

type write func(path string, data []byte, mode fs.FileMode) error

// replacing are the functions after which the new content is there.
func replacing() map[string]write {
	return map[string]write{
		"Replace": durable.Replace, "ReplaceWhole": durable.ReplaceWhole, "ReplaceUnsynced": durable.ReplaceUnsynced,
	}
}

func every() map[string]write {
	all := replacing()
	all["Add"] = durable.Add
	return all
}

// want looks at a file, and that it is alone in its directory.
func want(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, content)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
		t.Errorf("%s is %v (%v), want mode %v", path, info, err, mode)
	}
	alone(t, path)
}

// alone says that nothing but path is in its directory.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("%s lies beside", e.Name())
		}
	}
}

func TestContentAndMode(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for name, write := range every() {
		for _, mode := range []fs.FileMode{0o600, 0o644, 0o400, 0o755} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "file")
				if err := write(path, []byte("new"), mode); err != nil {
					t.Fatal(err)
				}
				want(t, path, "new", mode)
			})
		}
	}
}

func TestReplacesWhatIsThere(t *testing.T) {
	for name, write := range replacing() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("a longer text"), 0o600); err != nil {
				t.Fatal(err)
			}
			// Who has the old one open, or mounted, keeps it.
			reader, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = reader.Close() }()
			if err := write(path, []byte("new"), 0o644); err != nil {
				t.Fatal(err)
			}
			want(t, path, "new", 0o644)
			var was bytes.Buffer
			if _, err := was.ReadFrom(reader); err != nil || was.String() != "a longer text" {
				t.Errorf("the old file holds %q (%v) to who has it open", was.String(), err)
			}
			if err := write(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			want(t, path, "", 0o644)
		})
	}
}

// A link at the path is replaced itself: nobody can make us write elsewhere.
func TestReplacesALinkNotItsTarget(t *testing.T) {
	for name, write := range replacing() {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			if err := os.WriteFile(target, []byte("elsewhere"), 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "file")
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			want(t, path, "new", 0o600)
			want(t, target, "elsewhere", 0o600)
		})
	}
}

func TestAddLeavesWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Add(path, []byte("second"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, path, "first", 0o600)
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is another file now: who mounted the first does not see it (%v)", err)
	}
}

func TestErrors(t *testing.T) {
	for name, write := range every() {
		t.Run(name+" without a directory", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "none", "file")
			err := write(path, []byte("new"), 0o600)
			if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "cannot write "+path+": ") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	for name, write := range replacing() {
		t.Run(name+" over a directory", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("the error is %v", err)
			}
			alone(t, path)
		})
	}
}

func TestSyncDir(t *testing.T) {
	if err := durable.SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	old := now.Add(-2 * time.Hour)
	for name, at := range map[string]time.Time{durable.Leftover + "1~": old, durable.Leftover + "2~": now, "file": old} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, durable.Leftover+"volume"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Sweep(dir, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), ".new-2~ .new-volume file"; got != want {
		t.Errorf("%s is left, want %s", got, want)
	}
	if err := durable.Sweep(filepath.Join(dir, "none"), now); err != nil {
		t.Errorf("where nothing ever was: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	big := make([]byte, 1<<20)
	for name, write := range every() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "file")
			if name == "Add" { // It would leave what is there.
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			} else if err := write(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := write(path, big, 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the error is %v", err)
			}
			if name == "Add" {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is a file (%v)", err)
				}
				alone(t, path)
				return
			}
			want(t, path, "old", 0o644)
		})
	}
}

// Readers see one writer's content whole, at every moment.
func TestConcurrentWriters(t *testing.T) {
	const writers, rounds = 4, 50
	for name, write := range every() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			done := make(chan struct{})
			var reading, writing sync.WaitGroup
			reading.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					data, err := os.ReadFile(path)
					if errors.Is(err, fs.ErrNotExist) {
						continue // no writer has come so far
					}
					if err != nil || !whole(data) {
						t.Errorf("a reader saw %d bytes: %.20q (%v)", len(data), data, err)
						return
					}
				}
			})
			for i := range writers {
				writing.Go(func() {
					for range rounds {
						if err := write(path, bytes.Repeat([]byte{'a' + byte(i)}, 10_000*(i+1)), 0o644); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writing.Wait()
			close(done)
			reading.Wait()
			data, err := os.ReadFile(path)
			if err != nil || !whole(data) {
				t.Errorf("the file holds %d bytes: %.20q (%v)", len(data), data, err)
			}
			alone(t, path)
		})
	}
}

// whole says whether data is what one writer wrote.
func whole(data []byte) bool {
	if len(data) == 0 {
		return false
	}
	i := int(data[0] - 'a')
	return len(data) == 10_000*(i+1) && bytes.Count(data, data[:1]) == len(data)
}

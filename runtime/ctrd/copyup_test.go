package ctrd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
)

// filler is a volume that is to be filled from a root file system.
type filler struct {
	r      *Runtime
	root   []mount.Mount
	image  string // the image's directory
	volume string
}

func newFiller(t *testing.T) *filler {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	f := &filler{
		r:      &Runtime{cfg: Config{StateDir: filepath.Join(dir, "state")}, ids: newKeyed()},
		root:   []mount.Mount{{Type: "bind", Source: filepath.Join(dir, "root"), Options: []string{"rbind", "rw"}}},
		image:  filepath.Join(dir, "root/srv"),
		volume: filepath.Join(dir, "vol/_data"),
	}
	for _, d := range []string{f.image, f.volume} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *filler) fill(t *testing.T) {
	t.Helper()
	err := f.r.copyUp(t.Context(), f.root, container.Mount{Source: f.volume, Destination: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	f.clean(t)
}

// clean demands that nothing is left beside the volume, nor mounted.
func (f *filler) clean(t *testing.T) {
	t.Helper()
	for _, dir := range []string{filepath.Dir(f.volume), f.volume} {
		names, err := filepath.Glob(filepath.Join(dir, "._data.*"))
		if err != nil || len(names) > 0 {
			t.Errorf("left: %v, %v", names, err)
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(f.r.cfg.StateDir))
	if err != nil || len(mounts) > 0 {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree prints a directory: type, mode, owner, links, content and attributes of all
// that is in it.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %v %d:%d", name, st.Mode(), sys.Uid, sys.Gid)
		switch {
		case st.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " links=%d %q", sys.Nlink, text)
		case st.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %s", to)
		}
		value := make([]byte, 64)
		if n, err := unix.Lgetxattr(path, "user.berth", value); err == nil {
			fmt.Fprintf(&out, " user.berth=%s", value[:n])
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCopyUp(t *testing.T) {
	f := newFiller(t)
	put(t, filepath.Join(f.image, "a"), "one")
	put(t, filepath.Join(f.image, "deep/er/b"), "two")
	for _, err := range []error{
		os.Link(filepath.Join(f.image, "a"), filepath.Join(f.image, "hard")),
		os.Symlink("../a", filepath.Join(f.image, "deep/link")),
		os.Lchown(filepath.Join(f.image, "deep/link"), 7, 8),
		os.Chown(filepath.Join(f.image, "a"), 1000, 1001),
		os.Chmod(filepath.Join(f.image, "a"), 0o4711|fs.ModeSetuid),
		syscall.Mkfifo(filepath.Join(f.image, "fifo"), 0o600),
		unix.Setxattr(filepath.Join(f.image, "a"), "user.berth", []byte("yes"), 0),
		unix.Setxattr(f.image, "user.berth", []byte("dir"), 0),
		os.Chown(f.image, 33, 34),
		os.Chmod(f.image, 0o770|fs.ModeSetgid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.fill(t)
	if got, want := tree(t, f.volume), tree(t, f.image); got != want {
		t.Errorf("volume:\n%simage:\n%s", got, want)
	}

	// What is there is left alone, also when the image changes.
	put(t, filepath.Join(f.image, "later"), "x")
	if err := os.Remove(filepath.Join(f.volume, "fifo")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, f.volume)
	f.fill(t)
	if got := tree(t, f.volume); got != before {
		t.Errorf("filled again:\n%sbefore:\n%s", got, before)
	}
}

func TestCopyUpOfEmptyDirectory(t *testing.T) {
	f := newFiller(t)
	if err := errors.Join(os.Chown(f.image, 33, 34), os.Chmod(f.image, 0o700)); err != nil {
		t.Fatal(err)
	}
	f.fill(t)
	if got, want := tree(t, f.volume), tree(t, f.image); got != want {
		t.Errorf("volume:\n%simage:\n%s", got, want)
	}
}

func TestCopyUpWithoutDirectory(t *testing.T) {
	f := newFiller(t)
	if err := os.Remove(f.image); err != nil {
		t.Fatal(err)
	}
	before := tree(t, f.volume)
	f.fill(t)
	if got := tree(t, f.volume); got != before {
		t.Errorf("volume:\n%s", got)
	}
}

// An agent that was killed at any point leaves a volume that the next one fills,
// and what others have put into it stays.
func TestCopyUpCutOff(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, f *filler, above string){
		"copying": func(t *testing.T, _ *filler, above string) {
			t.Helper()
			put(t, filepath.Join(above, "._data.filling/a"), "hal")
		},
		"copying, and somebody writes": func(t *testing.T, f *filler, above string) {
			t.Helper()
			put(t, filepath.Join(above, "._data.filling/a"), "hal")
			put(t, filepath.Join(f.volume, "theirs"), "kept")
		},
		"copied": func(t *testing.T, _ *filler, above string) {
			t.Helper()
			put(t, filepath.Join(above, "._data.filled/a"), "one")
			put(t, filepath.Join(above, "._data.filled/b"), "two")
		},
		"moving": func(t *testing.T, f *filler, above string) {
			t.Helper()
			put(t, filepath.Join(f.volume, "a"), "one")
			put(t, filepath.Join(above, "._data.filled/b"), "two")
		},
		"moving, and somebody has the name": func(t *testing.T, f *filler, above string) {
			t.Helper()
			put(t, filepath.Join(f.volume, "a"), "theirs")
			put(t, filepath.Join(above, "._data.filled/a"), "one")
			put(t, filepath.Join(above, "._data.filled/b"), "two")
		},
	} {
		for _, mounted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, mounted %v", name, mounted), func(t *testing.T) {
				f := newFiller(t)
				put(t, filepath.Join(f.image, "a"), "one")
				put(t, filepath.Join(f.image, "b"), "two")
				above := filepath.Dir(f.volume)
				if mounted {
					above = f.volume
					mountTmpfs(t, f.volume)
				}
				leave(t, f, above)
				f.fill(t)
				want := map[string]string{"a": "one", "b": "two"}
				switch {
				case strings.Contains(name, "writes"):
					want["theirs"] = "kept"
				case strings.Contains(name, "has the name"):
					want["a"] = "theirs"
				}
				for file, text := range want {
					if got, err := os.ReadFile(filepath.Join(f.volume, file)); string(got) != text {
						t.Errorf("%s is %q, %v; want %q", file, got, err, text)
					}
				}
			})
		}
	}
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestCopyUpIntoFullFileSystem(t *testing.T) {
	f := newFiller(t)
	put(t, filepath.Join(f.image, "big"), strings.Repeat("x", 2<<20))
	mountTmpfs(t, f.volume)
	err := f.r.copyUp(t.Context(), f.root, container.Mount{Source: f.volume, Destination: "/srv"})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "of 1 MiB") {
		t.Errorf("copyUp: %v", err)
	}
	f.clean(t)
	if empty, err := isEmpty(f.volume); !empty {
		t.Errorf("the volume is not empty: %v", err)
	}
}

// Containers of one task are created at the same time.
func TestCopyUpAtOnce(t *testing.T) {
	f := newFiller(t)
	for i := range 50 {
		put(t, filepath.Join(f.image, fmt.Sprint(i)), fmt.Sprint(i))
	}
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			return f.r.copyUp(t.Context(), f.root, container.Mount{Source: f.volume, Destination: "/srv"})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f.clean(t)
	if got, want := tree(t, f.volume), tree(t, f.image); got != want {
		t.Errorf("volume:\n%simage:\n%s", got, want)
	}
}

func TestSweepRoots(t *testing.T) {
	f := newFiller(t)
	put(t, filepath.Join(f.image, "a"), "one")
	left := filepath.Join(f.r.rootsDir(), "1234")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mount.All(f.root, left); err != nil {
		t.Fatal(err)
	}
	if err := f.r.sweepRoots(); err != nil {
		t.Fatal(err)
	}
	f.clean(t)
	if exists(left) {
		t.Error("the directory is still there")
	}
	if !exists(filepath.Join(f.image, "a")) {
		t.Error("the image was emptied")
	}
}

func TestReadonly(t *testing.T) {
	got := readonly([]mount.Mount{
		{Type: "overlay", Options: []string{"index=off", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "volatile"}},
		{Type: "bind", Options: []string{"rbind", "rw"}},
	})
	for i, want := range [][]string{{"ro", "index=off", "lowerdir=/u:/a:/b"}, {"ro", "rbind"}} {
		if !slices.Equal(got[i].Options, want) {
			t.Errorf("options %v, want %v", got[i].Options, want)
		}
	}
}

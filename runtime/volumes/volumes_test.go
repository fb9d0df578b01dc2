package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/volume"
)

// newVolumes makes Volumes in a directory of the test's.
func newVolumes(t *testing.T, c Config) *Volumes {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("volumes need root")
	}
	dir := t.TempDir()
	if c.Dir == "" {
		c.Dir = filepath.Join(dir, "volumes")
	}
	if c.EBSDir == "" {
		c.EBSDir = filepath.Join(dir, "ebs")
	}
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(v.unmountBelow(ctx, v.cfg.Dir), v.unmountBelow(ctx, v.cfg.EBSDir)); err != nil {
			t.Error(err)
		}
	})
	return v
}

func acquire(t *testing.T, v *Volumes, user string, w volume.Volume) string {
	t.Helper()
	place, err := v.Acquire(t.Context(), user, w)
	if err != nil {
		t.Fatal(err)
	}
	return place.Path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestTaskVolume(t *testing.T) {
	v := newVolumes(t, Config{})
	w := volume.Volume{Name: "ecs-app-1-scratch-00"}
	path := acquire(t, v, "t1", w)
	if again := acquire(t, v, "t1", w); again != path || path != v.Path(w) {
		t.Errorf("paths %s, %s, %s", path, again, v.Path(w))
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode() != fs.ModeDir|0o755 {
		t.Errorf("mode %v", st.Mode())
	}
	put(t, filepath.Join(path, "a"), "b")

	// A stopped task's directory stays until it is cleaned up.
	must(t, v.Release(t.Context(), "t1"))
	if !there(filepath.Join(path, "a")) {
		t.Error("released: the content is gone")
	}
	for range 2 {
		must(t, v.Remove(t.Context(), "t1"))
	}
	entries, err := os.ReadDir(v.cfg.Dir)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestSharedVolume(t *testing.T) {
	for _, tc := range []struct {
		name string
		full bool
		have *volume.Volume // made before
		want volume.Volume
		err  string
	}{
		{
			name: "missing", want: volume.Volume{},
			err: "initialize volume: volume detection failed, volume 'data' does not exist and autoprovision is set to false: get data: no such volume",
		},
		{name: "provisioned", want: volume.Volume{Autoprovision: true}},
		{name: "found", have: &volume.Volume{}, want: volume.Volume{}},
		{name: "found by name", have: &volume.Volume{Labels: map[string]string{"a": "b"}}, want: volume.Volume{Autoprovision: true}},
		{name: "other labels, not ours to make", full: true, have: &volume.Volume{Labels: map[string]string{"a": "b"}}, want: volume.Volume{}},
		{
			name: "other labels", full: true,
			have: &volume.Volume{Labels: map[string]string{"a": "b", "c": "d"}},
			want: volume.Volume{Autoprovision: true, Labels: map[string]string{"a": "x"}},
			err:  "intialize volume: non-autoprovisioned volume does not match existing volume labels: existing: map[a:b c:d], expected: map[a:x]", //nolint:misspell // ECS writes it so
		},
		{
			name: "other options", full: true, have: &volume.Volume{},
			want: volume.Volume{Autoprovision: true, Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}},
			err:  "initialize volume: non-autoprovisioned volume does not match existing volume options: existing: map[], expected: map[device:tmpfs type:tmpfs]",
		},
		{
			name: "the same", full: true, have: &volume.Volume{Labels: map[string]string{"a": "b"}},
			want: volume.Volume{Autoprovision: true, Labels: map[string]string{"a": "b"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newVolumes(t, Config{MatchFull: tc.full})
			if tc.have != nil {
				have := *tc.have
				have.Name, have.Shared, have.Autoprovision = "data", true, true
				put(t, filepath.Join(acquire(t, v, "before", have), "kept"), "")
				must(t, v.Remove(t.Context(), "before"))
			}
			tc.want.Name, tc.want.Shared = "data", true
			place, err := v.Acquire(t.Context(), "t1", tc.want)
			if err != nil || tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("Acquire: %v\nwant: %s", err, tc.err)
				}
				return
			}
			if tc.have != nil && !there(filepath.Join(place.Path, "kept")) {
				t.Error("the content is gone")
			}
			// It outlives its tasks.
			must(t, v.Release(t.Context(), "t1"))
			must(t, v.Remove(t.Context(), "t1"))
			if !there(place.Path) {
				t.Error("the volume is gone")
			}
		})
	}
}

// A person makes a shared volume with mkdir.
func TestVolumeMadeByHand(t *testing.T) {
	v := newVolumes(t, Config{})
	must(t, os.MkdirAll(filepath.Join(v.cfg.Dir, "data/_data"), 0o700))
	path := acquire(t, v, "t1", volume.Volume{Name: "data", Shared: true})
	must(t, v.Remove(t.Context(), "t1"))
	must(t, v.Sweep(t.Context(), func(string) bool { return false }))
	if !there(path) {
		t.Error("the volume is gone")
	}
}

func TestMountedVolume(t *testing.T) {
	v := newVolumes(t, Config{})
	options := map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=750"}
	w := volume.Volume{Name: "ram", Shared: true, Autoprovision: true, Options: options}
	path := acquire(t, v, "t1", w)
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode() != fs.ModeDir|0o750 {
		t.Errorf("mode %v", st.Mode())
	}
	put(t, filepath.Join(path, "a"), "b")

	// Another task, and the agent of a later life, share it.
	later, err := New(v.cfg)
	must(t, err)
	acquire(t, later, "t2", volume.Volume{Name: "ram", Shared: true})
	acquire(t, later, "t2", volume.Volume{Name: "ram", Shared: true})
	if n, err := mountsAt(path); n != 1 {
		t.Fatalf("mounted %d times, %v", n, err)
	}
	must(t, v.Release(t.Context(), "t1"))
	if !there(filepath.Join(path, "a")) {
		t.Fatal("one of two has left, and the content is gone")
	}
	must(t, later.Release(t.Context(), "t2"))
	if n, err := mountsAt(path); n != 0 {
		t.Fatalf("mounted %d times, %v", n, err)
	}
	if !there(path) {
		t.Error("the volume is gone")
	}
	// A host that was restarted has it no more, and mounts it again for the next.
	acquire(t, v, "t3", volume.Volume{Name: "ram", Shared: true})
	if n, err := mountsAt(path); n != 1 {
		t.Errorf("mounted %d times, %v", n, err)
	}
	must(t, v.Remove(t.Context(), "t3"))
}

func TestBindVolume(t *testing.T) {
	v := newVolumes(t, Config{})
	outside := t.TempDir()
	put(t, filepath.Join(outside, "precious"), "")
	w := volume.Volume{Name: "bound", Options: map[string]string{"type": "none", "o": "bind", "device": outside}}
	path := acquire(t, v, "t1", w)
	if !there(filepath.Join(path, "precious")) {
		t.Error("it is not mounted")
	}
	must(t, v.Remove(t.Context(), "t1"))
	if there(filepath.Dir(path)) || !there(filepath.Join(outside, "precious")) {
		t.Error("the volume is there, or what was bound is gone")
	}
}

func TestVolumeErrors(t *testing.T) {
	v := newVolumes(t, Config{})
	for _, tc := range []struct {
		w    volume.Volume
		want string
	}{
		{volume.Volume{Name: "../x"}, `create ../x: "../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed`},
		{volume.Volume{Name: "a", Driver: "rexray"}, `create a: error looking up volume plugin rexray: plugin "rexray" not found`},
		{volume.Volume{Name: "a", Options: map[string]string{"size": "1"}}, `create a: invalid option: "size"`},
		{volume.Volume{Name: "a", Options: map[string]string{"type": "tmpfs"}}, `create a: missing required option: "device"`},
		{volume.Volume{Name: "a", Options: map[string]string{"device": "x", "o": "bind"}}, `create a: missing required option: "type"`},
		{volume.Volume{Name: "a", Options: map[string]string{"device": "-x", "type": "tmpfs"}}, `create a: device or type begins with -`},
		{
			volume.Volume{Name: "a", Options: map[string]string{"device": "/nowhere", "type": "none", "o": "bind"}},
			"cannot mount volume a (none /nowhere): mount: " + v.data("a") + ": special device /nowhere does not exist.",
		},
		{volume.Volume{Name: "a", Driver: volume.DriverECS, Options: map[string]string{"type": "s3files"}}, `create a: volume type "s3files" of driver amazon-ecs-volume-plugin is not supported by this version of Berth`},
	} {
		_, err := v.Acquire(t.Context(), "t1", tc.w)
		if err == nil || err.Error() != tc.want {
			t.Errorf("Acquire: %v\nwant: %s", err, tc.want)
		}
	}
	if _, err := v.Acquire(t.Context(), "../t1", volume.Volume{Name: "a"}); err == nil {
		t.Error("a user outside its directory was taken")
	}
	entries, err := os.ReadDir(v.cfg.Dir)
	if len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Whatever an agent that was killed has left, the next one ends it.
func TestSweep(t *testing.T) {
	v := newVolumes(t, Config{})
	ram := map[string]string{"type": "tmpfs", "device": "tmpfs"}
	kept := acquire(t, v, "alive", volume.Volume{Name: "of-alive"})
	gone := acquire(t, v, "dead", volume.Volume{Name: "of-dead"})
	both := acquire(t, v, "dead", volume.Volume{Name: "of-both", Options: ram})
	acquire(t, v, "alive", volume.Volume{Name: "of-both", Options: ram})
	shared := acquire(t, v, "dead", volume.Volume{Name: "shared", Shared: true, Autoprovision: true, Options: ram})
	unused := acquire(t, v, "dead", volume.Volume{Name: "unused", Options: ram})
	must(t, v.unuse("unused", "dead"))
	// Cut off while making and while deleting one, which was mounted.
	must(t, os.MkdirAll(filepath.Join(v.cfg.Dir, ".new-x/_data"), 0o700))
	half := filepath.Join(v.cfg.Dir, ".gone-y-1/_data")
	must(t, os.MkdirAll(half, 0o700))
	must(t, unix.Mount("tmpfs", half, "tmpfs", 0, ""))
	put(t, filepath.Join(half, "a"), "")

	known := func(user string) bool { return user == "alive" }
	must(t, v.Sweep(t.Context(), known))
	for path, want := range map[string]bool{
		kept: true, gone: false, both: true, shared: true, unused: false, half: false,
		filepath.Join(v.cfg.Dir, ".new-x"): false,
	} {
		if there(path) != want {
			t.Errorf("%s: %v, want %v", path, there(path), want)
		}
	}
	for path, want := range map[string]int{both: 1, shared: 0} {
		if n, err := mountsAt(path); n != want {
			t.Errorf("%s is mounted %d times, %v; want %d", path, n, err, want)
		}
	}
	users, err := v.users("of-both")
	if !slices.Equal(users, []string{"alive"}) {
		t.Errorf("users %v, %v", users, err)
	}
}

// Nothing that is mounted below a volume is deleted with it.
func TestRemoveWithMountInside(t *testing.T) {
	v := newVolumes(t, Config{})
	path := acquire(t, v, "t1", volume.Volume{Name: "a"})
	inside, outside := filepath.Join(path, "sub"), t.TempDir()
	must(t, os.Mkdir(inside, 0o700))
	put(t, filepath.Join(outside, "precious"), "")
	must(t, unix.Mount(outside, inside, "", unix.MS_BIND, ""))
	must(t, v.Remove(t.Context(), "t1"))
	if there(path) || !there(filepath.Join(outside, "precious")) {
		t.Error("the volume is there, or what was mounted is gone")
	}
}

func TestAtOnce(t *testing.T) {
	v := newVolumes(t, Config{})
	w := volume.Volume{Name: "ram", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			user := fmt.Sprintf("t%d", i)
			place, err := v.Acquire(t.Context(), user, w)
			if err != nil {
				return err
			}
			if n, err := mountsAt(place.Path); n != 1 {
				return fmt.Errorf("mounted %d times: %w", n, err)
			}
			return v.Remove(t.Context(), user)
		})
	}
	must(t, g.Wait())
	entries, err := os.ReadDir(v.cfg.Dir)
	if len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A full disk is a message with figures.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=3"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	v := newVolumes(t, Config{Dir: filepath.Join(dir, "v")})
	_, err := v.Acquire(t.Context(), "t1", volume.Volume{Name: "a"})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "has 1 MiB and 0 files left of 1 MiB and 3 files") {
		t.Errorf("Acquire: %v", err)
	}
	if there(filepath.Join(v.cfg.Dir, ".new-a")) {
		t.Error("half a volume is left")
	}
}

// A helper that hangs, and one whose child holds its output, are not waited for.
func TestHangingChild(t *testing.T) {
	v := newVolumes(t, Config{MountTimeout: 200 * time.Millisecond})
	sh, err := find("sh")
	must(t, err)
	started := time.Now()
	err = v.run(t.Context(), sh, "-c", "echo trying; sleep 60")
	if err == nil || err.Error() != "sh did not end within 200ms; it said: trying" {
		t.Errorf("run: %v", err)
	}
	must(t, v.run(t.Context(), sh, "-c", "setsid sleep 1 & exit 0"))
	err = v.run(t.Context(), sh, "-c", "echo 'sh: no such server' >&2; exit 32")
	if exitCode(err) != 32 || err.Error() != "sh: no such server" {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(started); took > 50*time.Second {
		t.Errorf("it took %v", took)
	}
}

package volumes

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/volume"
)

func TestFindEBS(t *testing.T) {
	sys := t.TempDir()
	for file, text := range map[string]string{
		"nvme0n1/device/serial": "vol0aaaaaaaaaaaaaaaa  \n",
		"nvme1n1/device/serial": "vol0123456789abcdef0  \n",
		"vdb/serial":            "vol-0bbb",
		"xvdba/size":            "1",
		"sdc/size":              "1",
		"sde/size":              "0",
		"sdd/serial":            "vol0ddd",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(sys, "block", file)), 0o755))
		put(t, filepath.Join(sys, "block", file), text)
	}
	v := newVolumes(t, Config{SysDir: sys})
	for _, tc := range []struct {
		e    volume.EBS
		want string
	}{
		{volume.EBS{VolumeID: "vol-0123456789abcdef0", DeviceName: "/dev/xvdba"}, "/dev/nvme1n1"},
		{volume.EBS{VolumeID: "vol-0bbb"}, "/dev/vdb"},
		{volume.EBS{VolumeID: "vol-0ccc", DeviceName: "/dev/sdba"}, "/dev/xvdba"},
		{volume.EBS{VolumeID: "vol-0ccc", DeviceName: "xvdc"}, "/dev/sdc"},
		{volume.EBS{VolumeID: "vol-0ccc", DeviceName: "/dev/sdd"}, ""}, // another volume has that name
		{volume.EBS{VolumeID: "vol-0ccc", DeviceName: "/dev/sde"}, ""}, // and this one is empty
		{volume.EBS{VolumeID: "vol-0ccc"}, ""},
	} {
		device, err := v.FindEBS(tc.e)
		if device != tc.want || errors.Is(err, volume.ErrNotAttached) != (tc.want == "") {
			t.Errorf("%+v: %s, %v; want %s", tc.e, device, err, tc.want)
		}
	}
	if _, err := v.FindEBS(volume.EBS{VolumeID: ""}); err == nil || errors.Is(err, volume.ErrNotAttached) {
		t.Errorf("no volume id: %v", err)
	}
}

// loop attaches a file as a block device, and answers with its path.
func loop(t *testing.T, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	file := filepath.Join(t.TempDir(), "disk")
	put(t, file, "")
	must(t, os.Truncate(file, size))
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("this host has no free loop device: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}

func on(device, fstype string) volume.EBS {
	return volume.EBS{VolumeID: "vol-0abc", DeviceName: device, FileSystem: fstype, Directory: "task_vol-0abc"}
}

// An EBS volume is let go of when nothing is known of its task, however far the
// agent before came with it; that of a known one stays.
func TestSweepEBS(t *testing.T) {
	if _, err := find("mkfs.ext4"); err != nil {
		t.Skip(err)
	}
	v := newVolumes(t, Config{})
	e := on(loop(t, 64<<20), "ext4")
	path := v.EBSPath(e)
	must(t, v.StageEBS(t.Context(), "task", e))
	for user, want := range map[string]int{"task": 1, "another": 0} {
		must(t, v.StageEBS(t.Context(), "task", e))
		must(t, v.Sweep(t.Context(), func(u string) bool { return u == user }))
		if n, err := mountsAt(path); n != want || err != nil {
			t.Errorf("known is %s: mounted %d times, %v", user, n, err)
		}
	}
	must(t, v.UnstageEBS(t.Context(), e))
	// Noted, and then killed.
	must(t, v.noteStaged("task", e))
	put(t, filepath.Join(v.cfg.Dir, newPrefix+stagedPrefix+"half"), "{")
	must(t, v.Sweep(t.Context(), func(string) bool { return false }))
	if left, err := os.ReadDir(v.cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestStageEBS(t *testing.T) {
	for fstype, size := range map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20} {
		t.Run(fstype, func(t *testing.T) {
			if _, err := find("mkfs." + fstype); err != nil {
				t.Skip(err)
			}
			device := loop(t, size)
			v := newVolumes(t, Config{})
			e := on(device, fstype)
			path := v.EBSPath(e)
			for range 2 {
				must(t, v.StageEBS(t.Context(), "task", e))
			}
			if n, err := mountsAt(path); n != 1 {
				t.Fatalf("mounted %d times, %v", n, err)
			}
			st, err := os.Stat(path)
			must(t, err)
			if st.Mode() != fs.ModeDir|fs.ModeSetgid|0o775 || owner(st) != e.GID() {
				t.Errorf("mode %v, group %d", st.Mode(), owner(st))
			}
			put(t, filepath.Join(path, "a"), "kept")
			if used, total, err := v.Usage(e); err != nil || used == 0 || total < uint64(size)/2 || total > uint64(size) {
				t.Errorf("usage %d of %d, %v", used, total, err)
			}
			for range 2 {
				must(t, v.UnstageEBS(t.Context(), e))
			}
			if there(path) {
				t.Error("the mount point is still there")
			}
			if _, _, err := v.Usage(e); err == nil {
				t.Error("a volume that is not mounted was measured")
			}

			// A volume that has a file system keeps it, and one that is too small for
			// the volume grows.
			must(t, exec.CommandContext(t.Context(), "truncate", "-s", "400M", backing(t, device)).Run())
			must(t, exec.CommandContext(t.Context(), "losetup", "-c", device).Run())
			must(t, v.StageEBS(t.Context(), "task", e))
			if text, err := os.ReadFile(filepath.Join(path, "a")); string(text) != "kept" {
				t.Errorf("a is %q, %v", text, err)
			}
			if _, total, err := v.Usage(e); err != nil || total < 320<<20 && (fstype == "xfs" || mayResize(t)) {
				t.Errorf("it has %d MiB, %v", total>>20, err)
			}
			must(t, v.UnstageEBS(t.Context(), e))

			other := on(device, map[string]string{"ext4": "xfs", "xfs": "ext4"}[fstype])
			err = v.StageEBS(t.Context(), "task", other)
			want := "cannot mount EBS volume vol-0abc as " + other.FileSystem + ": it holds " + fstype + ", and is not formatted"
			if err == nil || err.Error() != want {
				t.Errorf("Stage: %v\nwant: %s", err, want)
			}
		})
	}
}

// mayResize says whether this process has CAP_SYS_RESOURCE, without which the
// kernel refuses to grow a mounted ext4.
func mayResize(t *testing.T) bool {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(status), "CapEff:")
	caps, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	must(t, err)
	may := caps>>unix.CAP_SYS_RESOURCE&1 == 1
	if !may {
		t.Log("growing ext4 is not tested: CAP_SYS_RESOURCE is missing")
	}
	return may
}

// backing is the file behind a loop device.
func backing(t *testing.T, device string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	must(t, err)
	return strings.TrimSpace(string(text))
}

// What is on a device is never overwritten, even if nobody knows what it is.
func TestNeverFormatted(t *testing.T) {
	device := loop(t, 64<<20)
	v := newVolumes(t, Config{})
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("a database without a file system"), 3<<20)
	must(t, errors.Join(err, f.Sync(), f.Close()))
	err = v.StageEBS(t.Context(), "task", on(device, "ext4"))
	want := "cannot mount EBS volume vol-0abc as ext4: it holds data, and is not formatted"
	if err == nil || err.Error() != want {
		t.Errorf("Stage: %v\nwant: %s", err, want)
	}
	data, err := os.ReadFile(device)
	if err != nil || string(data[3<<20:3<<20+10]) != "a database" {
		t.Errorf("the content is gone: %v", err)
	}
	for _, e := range []volume.EBS{on(device, "ntfs"), {VolumeID: "vol-1", DeviceName: device, Directory: "../x"}} {
		if err := v.StageEBS(t.Context(), "task", e); err == nil {
			t.Errorf("%+v was mounted", e)
		}
	}
}

// A device whose formatting an agent has begun is formatted by the next one.
func TestFormatCutOff(t *testing.T) {
	for name, half := range map[string]func(t *testing.T, device string){
		"data": func(t *testing.T, device string) {
			t.Helper()
			f, err := os.OpenFile(device, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte{1}, 1<<20)
			must(t, errors.Join(err, f.Sync(), f.Close()))
		},
		"half a file system": func(t *testing.T, device string) {
			t.Helper()
			must(t, exec.CommandContext(t.Context(), "mkfs.ext4", "-q", device).Run())
			f, err := os.OpenFile(device, os.O_WRONLY, 0)
			must(t, err)
			// The group descriptors are not there yet.
			_, err = f.WriteAt(make([]byte, 64<<10), 2048)
			must(t, errors.Join(err, f.Sync(), f.Close()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			device := loop(t, 64<<20)
			v := newVolumes(t, Config{MountTimeout: time.Minute})
			e := on(device, "ext4")
			half(t, device)
			if err := v.StageEBS(t.Context(), "task", e); err == nil {
				t.Fatal("it was mounted without a marker")
			}
			must(t, v.markFormat(v.formatMarker(e)))
			must(t, v.StageEBS(t.Context(), "task", e))
			if v.wasFormatting(e) {
				t.Error("the marker is still there")
			}
			must(t, v.UnstageEBS(t.Context(), e))
		})
	}
}

// Content of a snapshot becomes the group's, links are not followed.
func TestOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing owners needs root")
	}
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	put(t, filepath.Join(dir, "d/f"), "")
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, own(dir, 912345))
	for path, want := range map[string]fs.FileMode{
		dir: 0o775 | fs.ModeSetgid | fs.ModeDir, filepath.Join(dir, "d"): 0o770 | fs.ModeSetgid | fs.ModeDir, filepath.Join(dir, "d/f"): 0o660,
	} {
		st, err := os.Lstat(path)
		must(t, err)
		if st.Mode() != want || owner(st) != 912345 {
			t.Errorf("%s: %v, group %d; want %v", path, st.Mode(), owner(st), want)
		}
	}
	st, err := os.Stat(outside)
	must(t, err)
	if owner(st) == 912345 {
		t.Error("a link was followed")
	}
}

// A volume that something on the host holds is unmounted all the same, after five
// tries.
func TestUnstageInUse(t *testing.T) {
	device := loop(t, 64<<20)
	v := newVolumes(t, Config{UnmountPause: time.Millisecond})
	e := on(device, "ext4")
	must(t, v.StageEBS(t.Context(), "task", e))
	held, err := os.Create(filepath.Join(v.EBSPath(e), "open"))
	must(t, err)
	must(t, v.UnstageEBS(t.Context(), e))
	if n, err := mountsAt(v.EBSPath(e)); n != 0 {
		t.Errorf("mounted %d times, %v", n, err)
	}
	must(t, held.Close())
}

func TestGID(t *testing.T) {
	e := volume.EBS{Directory: "9ab0_vol-0123"}
	if gid := e.GID(); gid != 927005 { // worked out with another program
		t.Errorf("gid %d", gid)
	}
}

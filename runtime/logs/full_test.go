package logs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/await"
)

// A rotation that cannot make the new file is tried again and drops nothing.
func TestRotationThatFailsIsTriedAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a tmpfs without room for another file")
	}
	mount := t.TempDir()
	// The root, c and json.log are three inodes.
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m,nr_inodes=3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "c")
	d := newJSONFile(t, dir, map[string]string{"max-size": "300", "max-file": "3"}, Mark{})
	put(t, d, 1, 5)
	entries := []Entry{{Stream: Stdout, Line: []byte("line 6\n")}}
	for range 5 {
		if n, err := d.Write(t.Context(), entries); n != 0 || err == nil {
			t.Fatalf("written without room: %d, %v", n, err)
		}
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT, "size=1m,nr_inodes=9"); err != nil {
		t.Fatal(err)
	}
	put(t, d, 6, 7)
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, dir, ReadRequest{}); !slices.Equal(got, numbered(1, 7)) {
		t.Errorf("%v", got)
	}
}

// A container ended on a full disk is finished once there is room, and can be
// removed while there is none.
func TestEndOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs")
	}
	h := newHost(t, "0")
	data := filepath.Join(h.root, "data")
	if err := os.MkdirAll(data, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.signal(unix.SIGTERM)
		if err := unix.Unmount(data, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	out1, err1 := h.open(Container{ID: "c1"})
	out2, err2 := h.open(Container{ID: "c2"})
	ballast := filepath.Join(data, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	out1.write(t, "one\n")
	out2.write(t, "two\n")
	await.That(t, "both to be stuck", func() bool {
		list, err := h.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Failures > 0 && list[1].Failures > 0
	})
	for _, s := range []*shim{out1, err1, out2, err2} {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	if err := h.client.Remove(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	ended := make(chan error)
	go func() { ended <- h.client.Close(t.Context(), "c2") }()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := texts(h.read(ReadRequest{ID: "c2"})); !slices.Equal(got, []string{"two\n"}) {
		t.Errorf("%q", got)
	}
}

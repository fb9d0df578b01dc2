package store

import (
	"os"
	"syscall"
	"testing"
)

// mountSmall mounts a file system of 512 KiB on dir, and unmounts it with the
// test.
func mountSmall(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	if err := syscall.Mount("berth-test", dir, "tmpfs", 0, "size=512k,mode=0700"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	})
}

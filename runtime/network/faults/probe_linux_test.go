package faults

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// TestSupportedStaysAtHome: the thread that goes away to ask the kernel is never the main one, of which /proc/self
// tells, and where whoever opens the host's namespace looks for it.
func TestSupportedStaysAtHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 64 { // Some of them begin on the main thread.
		wait.Go(func() {
			if err := New(Config{}).Supported(); err != nil && !errors.Is(err, ErrNoNetem) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != home {
		t.Errorf("the main thread is in %s (%v), not in %s", now, err, home)
	}
}

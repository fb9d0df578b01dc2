package daemon

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
)

// TestKnock: a containerd that takes connections and never answers is one that is
// not there yet, and not one to wait for inside a single call.
func TestKnock(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "containerd.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	runtime, err := ctrd.New(ctrd.Config{Address: socket, Namespace: "knock", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = runtime.Close() }()
	start := time.Now()
	err = (&host{runtime: runtime}).knock(t.Context(), 200*time.Millisecond)
	if !errors.Is(err, container.ErrUnavailable) || time.Since(start) > 30*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

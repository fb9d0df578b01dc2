package ctrd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestConformance runs the suite on the containerd that is installed.
func TestConformance(t *testing.T) { conformance(t, "containerd") }

// TestConformance2 runs it on another containerd as well: the one that
// BERTH_TEST_CONTAINERD2 names, a path to a containerd 2.x.
func TestConformance2(t *testing.T) {
	binary := os.Getenv("BERTH_TEST_CONTAINERD2")
	if binary == "" {
		t.Skip("needs a second containerd: BERTH_TEST_CONTAINERD2 names no binary")
	}
	conformance(t, binary)
}

func conformance(t *testing.T, binary string) {
	t.Helper()
	daemon := runtimetest.NewContainerd(t, binary)
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	runtimetest.Run(t, runtimetest.Harness{
		New:      s.fresh,
		Reopen:   s.reopen,
		Image:    registry.Busybox,
		Missing:  registry.Host + "/missing:1",
		Kernel:   true,
		Registry: registry,
	})
}

// suite gives every test a namespace of its own in one containerd.
type suite struct {
	address, state string
	count          atomic.Int64
}

func (s *suite) config(t testing.TB, namespace string) ctrd.Config {
	t.Helper()
	return ctrd.Config{
		Address: s.address, Namespace: namespace,
		StateDir: filepath.Join(s.state, namespace), ContentDir: filepath.Dir(s.address),
		Log: zaptest.NewLogger(t),
	}
}

func (s *suite) fresh(t *testing.T) container.Runtime {
	t.Helper()
	return open(t, s.config(t, fmt.Sprintf("berth-%d", s.count.Add(1))))
}

func (s *suite) reopen(t *testing.T, rt container.Runtime) container.Runtime {
	t.Helper()
	return open(t, rt.(*ctrd.Runtime).Config())
}

func open(t testing.TB, cfg ctrd.Config) *ctrd.Runtime {
	t.Helper()
	rt, err := ctrd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return rt
}

// stateDir is short: paths of sockets and pipes have a limit.
func stateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "berth-test-")
	if err != nil {
		t.Skipf("needs a writable /run: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

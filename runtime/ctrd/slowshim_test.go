package ctrd_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestSlowShim: a shim that answers later than containerd waits for it has a container
// that runs, whatever is asked meanwhile.
func TestSlowShim(t *testing.T) {
	binaries := []string{"containerd"}
	if newer := os.Getenv("BERTH_TEST_CONTAINERD2"); newer != "" {
		binaries = append(binaries, newer)
	}
	for _, binary := range binaries {
		t.Run(binary, func(t *testing.T) {
			daemon := runtimetest.NewContainerd(t, binary)
			registry := runtimetest.Images(t)
			s := suite{address: daemon.Address, state: stateDir(t)}
			rt := open(t, s.config(t, "slow"))
			run(t, rt, registry, "web", `trap 'exit 7' TERM; sleep 3600 & wait`)
			running := func(st container.Status) bool { return st.Phase == container.Running }
			become(t, rt, "web", running)
			daemon.SignalShims(syscall.SIGSTOP)
			t.Cleanup(func() { daemon.SignalShims(syscall.SIGCONT) })
			code := make(chan error, 1) // One answer.
			go func() {
				_, err := rt.Exec(t.Context(), "web", container.ExecRequest{Args: []string{"true"}})
				code <- err
			}()
			timer := time.NewTimer(3 * time.Second) // More than the two that containerd waits.
			defer timer.Stop()
			select {
			case err := <-code:
				t.Fatalf("Exec while the shim stands still: %v", err)
			case <-timer.C:
			}
			daemon.SignalShims(syscall.SIGCONT)
			if err := <-code; err != nil {
				t.Errorf("Exec: %v", err)
			}
			if all, err := rt.List(t.Context(), "web"); err != nil || len(all) != 1 || !running(all[0]) {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}

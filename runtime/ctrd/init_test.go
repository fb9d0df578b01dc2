package ctrd_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestInit: with Process.Init, PID 1 is an init that forwards signals, reaps
// orphans, and exits as the command does.
func TestInit(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "init")
	cfg.Init = []string{buildInit(t)}
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, rt, "inited") })
	spec := container.Spec{ID: "inited", Image: registry.Busybox}
	spec.Process.Init = true
	spec.Process.Command = []string{"sh", "-c", `trap 'exit 9' TERM; (sh -c 'sleep 0.1 & exit 0'); sleep 3600 & wait`}
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	script := `until pidof sleep >/dev/null && ! ps -o args | grep -qx 'sleep 0.1'; do usleep 5000; done
		tr '\0' ' ' </proc/1/cmdline; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l`
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("the children did not settle"))
	defer cancel()
	code, err := rt.Exec(ctx, spec.ID, container.ExecRequest{Args: []string{"sh", "-c", script}, Stdout: &out})
	if err != nil || code != 0 {
		t.Fatalf("Exec = %d, %v", code, err)
	}
	if got := out.String(); !strings.HasPrefix(got, "/sbin/berth-init -- sh -c ") || !strings.HasSuffix(got, " 0\n") {
		t.Errorf("PID 1 and the number of zombies: %q", got)
	}
	if err := rt.Signal(t.Context(), spec.ID, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := awaitStopped(t, rt, spec.ID); st.Exit.Code != 9 {
		t.Errorf("exit %+v, want 9", st.Exit)
	}
}

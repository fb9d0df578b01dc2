package ctrd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestHelperLost: runc, which loses its helper now and then, is asked once more,
// and not for ever.
func TestHelperLost(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "helper")
	cfg.RuntimeBinary = filepath.Join(s.state, "losing-runc")
	const words = "can't get final child's PID from pipe: EOF"
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in *" create "*)
	echo once >> %[1]s/made
	if [ "$(wc -l < %[1]s/made)" -le "$(cat %[1]s/losses)" ]; then
		until [ "$1" = --log ]; do shift; done
		echo '{"level":"error","msg":"runc create failed: unable to start container process: '"%[2]s"'"}' > "$2"
		exit 1
	fi
esac
exec runc "$@"
`, s.state, words)
	if err := os.WriteFile(cfg.RuntimeBinary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	for losses, fails := range map[int]bool{1: false, 2: true} {
		made := filepath.Join(s.state, "made")
		if err := os.WriteFile(made, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.state, "losses"), fmt.Append(nil, losses), 0o600); err != nil {
			t.Fatal(err)
		}
		spec := container.Spec{ID: fmt.Sprint("lost", losses), Image: registry.Busybox}
		spec.Process.Command = []string{"sleep", "3600"}
		if err := rt.Create(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, rt, spec.ID) })
		st, err := rt.Start(t.Context(), spec.ID)
		if fails && (err == nil || !strings.Contains(err.Error(), words) || container.KindOf(err, "") != container.KindStart) {
			t.Errorf("lost %d times: Start = %v", losses, err)
		}
		if !fails && (err != nil || st.Phase != container.Running) {
			t.Errorf("lost %d times: %+v, %v", losses, st, err)
		}
		if calls, err := os.ReadFile(made); err != nil || strings.Count(string(calls), "once") != 2 {
			t.Errorf("lost %d times: runc was called %q, %v", losses, calls, err)
		}
	}
}

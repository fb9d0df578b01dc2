package ctrd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestContainerdStopsDuringStart: containerd is stopped, or killed, in the middle
// of a Start; whatever that leaves behind, the next Start gets the container to
// run.
func TestContainerdStopsDuringStart(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "cut"))
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		for end, down := range map[string]func(){"stop": daemon.Stop, "kill": daemon.Kill} {
			id := fmt.Sprintf("%s%d", end, i)
			spec := container.Spec{ID: id, Image: registry.Busybox}
			spec.Process.Command = []string{"sleep", "3600"}
			if err := rt.Create(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remove(t, rt, id) })
			first := make(chan error, 1) // One answer.
			go func() {
				_, err := rt.Start(t.Context(), id)
				first <- err
			}()
			timer := time.NewTimer(time.Duration(i*25) * time.Millisecond)
			<-timer.C
			down()
			cut := <-first
			daemon.Start()
			awaitAnswer(t, rt)
			began := time.Now()
			if st, err := rt.Start(t.Context(), id); err != nil || st.Phase != container.Running {
				t.Errorf("%s: first Start %v; then %+v, %v", id, cut, st, err)
			} else if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: first Start %v; then it took %s", id, cut, took)
			}
		}
	}
}

// TestContainerdKilledDuringStartThenRemove: the container is not wanted any more,
// and its shim, which never had a process, goes with it.
func TestContainerdKilledDuringStartThenRemove(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	slow := filepath.Join(s.state, "slow-runc")
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *\" create \"*) touch %s/creating; exec sleep 2;; esac\nexec runc \"$@\"\n", s.state)
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := s.config(t, "cut-removed")
	cfg.RuntimeBinary = slow
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{ID: "unwanted", Image: registry.Busybox}
	spec.Process.Command = []string{"sleep", "3600"}
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1) // One answer.
	go func() {
		_, err := rt.Start(t.Context(), spec.ID)
		first <- err
	}()
	await.That(t, "the OCI runtime is at work", func() bool {
		_, err := os.Stat(filepath.Join(s.state, "creating"))
		return err == nil
	})
	daemon.Kill()
	if err := <-first; !errors.Is(err, container.ErrUnavailable) {
		t.Fatalf("Start while containerd is killed: %v, want that it is unavailable", err)
	}
	daemon.Start()
	awaitAnswer(t, rt)
	remove(t, rt, spec.ID)
	await.That(t, "no shim is left", func() bool { return daemon.Shims() == 0 })
}

// TestKilledAfterMark: a start is cut short once the container is marked, and the
// next one while the process is made again. It has never run, and says so.
func TestKilledAfterMark(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	slow := filepath.Join(s.state, "slow-runc")
	script := fmt.Sprintf("#!/bin/sh\ncd %s\nfor op in create start; do case \" $* \" in *\" $op \"*) [ ! -e slow-$op ] || { touch at-$op; exec sleep 2; };; esac; done\nexec runc \"$@\"\n", s.state)
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := s.config(t, "marked")
	cfg.RuntimeBinary = slow
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{ID: "marked", Image: registry.Busybox}
	spec.Process.Command = []string{"sleep", "3600"}
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, rt, spec.ID) })
	for _, op := range []string{"start", "create"} {
		if err := os.WriteFile(filepath.Join(s.state, "slow-"+op), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cut := make(chan error, 1) // One answer.
		go func() {
			_, err := rt.Start(t.Context(), spec.ID)
			cut <- err
		}()
		await.That(t, "the OCI runtime is at "+op, func() bool {
			_, err := os.Stat(filepath.Join(s.state, "at-"+op))
			return err == nil
		})
		daemon.Kill()
		if err := <-cut; !errors.Is(err, container.ErrUnavailable) {
			t.Fatalf("Start while containerd is killed: %v, want that it is unavailable", err)
		}
		if err := os.Remove(filepath.Join(s.state, "slow-"+op)); err != nil {
			t.Fatal(err)
		}
		daemon.Start()
		awaitAnswer(t, rt)
		if all, err := rt.List(t.Context(), spec.ID); err != nil || len(all) != 1 || all[0].Phase != container.Created {
			t.Errorf("cut short at %s: %+v, %v; want it Created", op, all, err)
		}
	}
	if st, err := rt.Start(t.Context(), spec.ID); err != nil || st.Phase != container.Running {
		t.Errorf("last Start: %+v, %v", st, err)
	}
}

// awaitAnswer waits until containerd answers again.
func awaitAnswer(t *testing.T, rt container.Runtime) {
	t.Helper()
	await.Nil(t, "containerd to come back", func() error {
		_, err := rt.List(t.Context())
		if err != nil && !errors.Is(err, container.ErrUnavailable) {
			t.Fatalf("containerd does not come back: %v", err)
		}
		return err
	})
}

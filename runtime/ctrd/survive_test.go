package ctrd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestStartWhileAnotherIsTakenBack: containerd still has the bundle of a Start
// that was cut short; it is not long, and is waited for.
func TestStartWhileAnotherIsTakenBack(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "bundle"))
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{ID: "again", Image: registry.Busybox}
	spec.Process.Command = []string{"sleep", "3600"}
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, rt, spec.ID) })
	bundle := filepath.Join(filepath.Dir(daemon.Address), "state", "io.containerd.runtime.v2.task", "bundle", spec.ID)
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	gone := time.AfterFunc(300*time.Millisecond, func() { _ = os.Remove(bundle) })
	defer gone.Stop()
	if st, err := rt.Start(t.Context(), spec.ID); err != nil || st.Phase != container.Running {
		t.Fatalf("Start = %+v, %v", st, err)
	}
}

// TestContainerdRestarts: containerd comes late, goes, and comes back; what
// runs goes on, and nothing is lost but time.
func TestContainerdRestarts(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	daemon.Stop()
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "survive"))
	if _, err := rt.List(t.Context()); !errors.Is(err, container.ErrUnavailable) || !container.Retryable(err) {
		t.Errorf("List without containerd = %v, want ErrUnavailable", err)
	}
	events := rt.Events(t.Context())
	daemon.Start()
	want(t, events, container.EventResync, "")
	run(t, rt, registry, "lives", `trap 'exit 7' TERM; sleep 3600 & wait`)
	run(t, rt, registry, "ends", `sleep 0.3; exit 5`)
	if err := rt.Create(t.Context(), container.Spec{ID: "waits", Image: registry.Busybox}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, rt, "waits") })
	pid := become(t, rt, "lives", func(st container.Status) bool { return st.Phase == container.Running }).PID
	daemon.Kill()
	for _, err := range []error{
		rt.Create(t.Context(), container.Spec{ID: "x", Image: registry.Busybox}),
		rt.Signal(t.Context(), "lives", syscall.SIGTERM, false),
		rt.Remove(t.Context(), "lives"),
		pullErr(t.Context(), rt, registry.Busybox),
	} {
		if !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("without containerd: %v, want ErrUnavailable", err)
		}
	}
	awaitGone(t, "ends") // it exits while nobody looks
	daemon.Start()
	want(t, events, container.EventResync, "")
	if st := awaitStopped(t, rt, "ends"); st.Exit.Code != 5 || !st.Exit.Known {
		t.Errorf("exited while containerd was away: %+v", st.Exit)
	}
	if st := become(t, rt, "lives", func(container.Status) bool { return true }); st.PID != pid || st.Phase != container.Running {
		t.Errorf("after the restart %+v, want PID %d", st, pid)
	}
	if st := become(t, rt, "waits", func(container.Status) bool { return true }); st.Phase != container.Created {
		t.Errorf("never started: %+v", st)
	}
	if err := rt.Signal(t.Context(), "lives", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := awaitStopped(t, rt, "lives"); st.Exit.Code != 7 {
		t.Errorf("exit %+v, want 7", st.Exit)
	}
}

// TestShimKilled: a shim that is killed takes its containers along; their end
// is known, their exit is not.
func TestShimKilled(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "shim"))
	run(t, rt, registry, "orphan", `sleep 3600`)
	daemon.KillShims()
	st := awaitStopped(t, rt, "orphan")
	if st.Exit.Known {
		t.Errorf("exit %+v is said to be known", st.Exit)
	}
	if _, err := rt.Start(t.Context(), "orphan"); err != nil {
		t.Errorf("Start after the loss: %v", err)
	}
}

// TestShims: a group has one shim, and a stopped group has none.
func TestShims(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "shims"))
	for i := range 4 {
		run(t, rt, registry, fmt.Sprintf("c%d", i), `sleep 3600`)
	}
	if got := daemon.Shims(); got != 1 {
		t.Errorf("four containers of a group have %d shims, want 1", got)
	}
	for i := range 4 {
		id := fmt.Sprintf("c%d", i)
		if err := rt.Signal(t.Context(), id, syscall.SIGKILL, true); err != nil {
			t.Fatal(err)
		}
		awaitStopped(t, rt, id)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); daemon.Shims() > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("stopped containers still have %d shims", daemon.Shims())
		}
	}
	all, err := rt.List(t.Context())
	if err != nil || len(all) != 4 {
		t.Fatalf("List = %v, %v", all, err)
	}
	for _, st := range all {
		if st.Exit == nil || st.Exit.Code != 137 || !st.Exit.Known {
			t.Errorf("%s: exit %+v, want 137", st.ID, st.Exit)
		}
	}
	if _, err := rt.Start(t.Context(), "c0"); err != nil {
		t.Errorf("Start after the shim has gone: %v", err)
	}
}

func TestSweep(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	rt := open(t, s.config(t, "sweep"))
	run(t, rt, registry, "kept", `sleep 3600`)
	if removed, err := rt.Sweep(t.Context()); err != nil || len(removed) != 0 {
		t.Errorf("Sweep = %v, %v; want nothing to remove", removed, err)
	}
	// What a Create leaves that is killed between root file system and record.
	client, err := containerd.New(daemon.Address, containerd.WithDefaultNamespace("sweep"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, err = client.SnapshotService("overlayfs").Prepare(t.Context(), "orphan", "", snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": "berth", "io.berth/container": "orphan",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"orphan"}, nil} {
		if removed, err := rt.Sweep(t.Context()); err != nil || !slices.Equal(removed, want) {
			t.Errorf("Sweep = %v, %v; want %v", removed, err, want)
		}
	}
	if st := become(t, rt, "kept", func(container.Status) bool { return true }); st.Phase != container.Running {
		t.Errorf("after Sweep: %+v", st)
	}
}

// run pulls, creates and starts a container of the group "task".
func run(t *testing.T, rt *ctrd.Runtime, registry *runtimetest.Registry, id, script string) {
	t.Helper()
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, rt, id) })
	spec := container.Spec{ID: id, Group: "task", Image: registry.Busybox}
	spec.Process.Command = []string{"sh", "-c", script}
	if err := rt.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func pullErr(ctx context.Context, rt *ctrd.Runtime, ref string) error {
	_, err := rt.Pull(ctx, container.PullRequest{Ref: ref, Policy: container.PullPreferCached}, nil)
	return err
}

// want reads events until the one of the kind.
func want(t *testing.T, events <-chan container.Event, kind container.EventKind, id string) {
	t.Helper()
	timer := time.NewTimer(2 * time.Minute)
	defer timer.Stop()
	for {
		select {
		case e := <-events:
			if e.Kind == kind && e.ID == id {
				return
			}
		case <-timer.C:
			t.Fatalf("no event %s of %q in time", kind, id)
		}
	}
}

// awaitGone waits until the container's cgroup has no process, without asking
// anybody but the kernel.
func awaitGone(t *testing.T, id string) {
	t.Helper()
	await.That(t, "the end of container "+id, func() bool {
		files, _ := filepath.Glob("/sys/fs/cgroup/pids/berth/" + id + "/cgroup.procs")
		v2, _ := filepath.Glob("/sys/fs/cgroup/berth/" + id + "/cgroup.procs")
		return !slices.ContainsFunc(append(files, v2...), func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && len(text) > 0
		})
	})
}

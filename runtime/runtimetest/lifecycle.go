package runtimetest

import (
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
)

func testCreate(t *testing.T, b *bench) {
	before := time.Now().Add(-time.Second)
	id := b.create(t, b.spec("run"))
	st := b.status(t, id)
	if st.Phase != container.Created || st.PID != 0 || st.Exit != nil || !st.StartedAt.IsZero() {
		t.Errorf("after Create: %+v, want Created without PID, Exit and StartedAt", st)
	}
	if st.Labels["name"] != "web" || st.Image != b.h.Image {
		t.Errorf("labels %v and image %q did not come back", st.Labels, st.Image)
	}
	if st.CreatedAt.Before(before) || st.CreatedAt.After(time.Now().Add(time.Second)) {
		t.Errorf("CreatedAt = %v, want about now", st.CreatedAt)
	}
}

func testCreateTwice(t *testing.T, b *bench) {
	spec := b.spec("run")
	id := b.start(t, spec)
	first := b.status(t, id)
	again := b.spec("exit 1")
	again.ID = id
	again.Labels["name"] = "other"
	if err := b.Create(t.Context(), again); err != nil {
		t.Fatalf("second Create: %v", err)
	}
	if st := b.status(t, id); st.PID != first.PID || st.Labels["name"] != "web" {
		t.Errorf("second Create changed the container: %+v, was %+v", st, first)
	}
}

func testCreateWithoutImage(t *testing.T, b *bench) {
	spec := b.spec("run")
	spec.Image = b.h.Missing
	b.removeLater(t, spec.ID)
	err := b.Create(t.Context(), spec)
	wantErr(t, "Create of an absent image", err, container.ErrNotFound)
	if got := container.KindOf(err, ""); got != container.KindCreate {
		t.Errorf("kind = %q, want %q", got, container.KindCreate)
	}
	if all, err := b.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("List = %v, %v after a failed Create, want nothing", all, err)
	}
}

func testStart(t *testing.T, b *bench) {
	before := time.Now().Add(-time.Second)
	id := b.create(t, b.spec("run"))
	first, err := b.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if first.Phase != container.Running || first.PID <= 0 || first.StartedAt.Before(before) {
		t.Errorf("Start = %+v, want Running with PID and StartedAt", first)
	}
	again, err := b.Start(t.Context(), id)
	if err != nil || again.PID != first.PID {
		t.Errorf("second Start = %+v, %v; want the same PID %d", again, err, first.PID)
	}
	listed := b.status(t, id)
	if listed.PID != first.PID || !listed.StartedAt.Equal(first.StartedAt) {
		t.Errorf("List says %+v, Start said %+v", listed, first)
	}
}

func testStartAtOnce(t *testing.T, b *bench) {
	spec := b.spec("run")
	b.pull(t, spec.Image)
	b.removeLater(t, spec.ID)
	const callers = 6
	pids := make([]int, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := b.Create(t.Context(), spec); err != nil {
				t.Errorf("Create: %v", err)
				return
			}
			st, err := b.Start(t.Context(), spec.ID)
			if err != nil {
				t.Errorf("Start: %v", err)
			}
			pids[i] = st.PID
		})
	}
	wg.Wait()
	if len(slices.Compact(pids)) != 1 {
		t.Errorf("callers saw the PIDs %v, want one", pids)
	}
}

func testExitCode(t *testing.T, b *bench) {
	for _, code := range []string{"0", "3", "255"} {
		spec := b.spec("exit " + code)
		id := b.create(t, spec)
		before := time.Now().Add(-time.Second)
		if _, err := b.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a status is not used up by reading it
			st := b.stopped(t, id)
			if !st.Exit.Known || st.PID != 0 {
				t.Errorf("exit %s: %+v %+v, want a known exit and no PID", code, st, st.Exit)
			}
			if got := map[int]string{0: "0", 3: "3", 255: "255"}[st.Exit.Code]; got != code {
				t.Errorf("exit code %d, want %s", st.Exit.Code, code)
			}
			if st.Exit.At.Before(before) || st.Exit.At.After(time.Now().Add(time.Second)) {
				t.Errorf("Exit.At = %v, want about now", st.Exit.At)
			}
			if st.Exit.OOMKilled {
				t.Error("OOMKilled is set for a container that exited by itself")
			}
		}
		wantErr(t, "Signal after exit", b.Signal(t.Context(), id, syscall.SIGTERM, false), container.ErrNotRunning)
	}
}

func testRestart(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	first := b.status(t, id)
	if err := b.Signal(t.Context(), id, syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	st, err := b.Start(t.Context(), id)
	if err != nil {
		t.Fatalf("Start of a stopped container: %v", err)
	}
	if st.Phase != container.Running || st.Exit != nil || !st.StartedAt.After(first.StartedAt) {
		t.Errorf("restarted: %+v, want Running, no Exit, and StartedAt after %v", st, first.StartedAt)
	}
	if err := b.Signal(t.Context(), id, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := b.stopped(t, id); st.Exit.Code != 143 {
		t.Errorf("second run ended with %d, want 143", st.Exit.Code)
	}
}

func testSignal(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	b.settle(t, id)
	if err := b.Signal(t.Context(), id, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := b.stopped(t, id); st.Exit.Code != 143 || !st.Exit.Known {
		t.Errorf("exit %+v, want 143", st.Exit)
	}
}

func testSignalDeaf(t *testing.T, b *bench) {
	id := b.start(t, b.spec("deaf"))
	b.settle(t, id)
	if err := b.Signal(t.Context(), id, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := b.status(t, id); st.Phase != container.Running {
		t.Fatalf("after a signal that it ignores: %+v", st)
	}
	if err := b.Signal(t.Context(), id, syscall.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	if st := b.stopped(t, id); st.Exit.Code != 137 {
		t.Errorf("exit %+v, want 137", st.Exit)
	}
}

// settle waits until the container's script has set its traps: the sleep that
// follows them has begun.
func (b *bench) settle(t *testing.T, id string) {
	t.Helper()
	if !b.h.Kernel {
		return
	}
	eventually(t, func() bool {
		code, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"pidof", "sleep"}})
		if err != nil {
			t.Fatalf("Exec: %v", err)
		}
		return code == 0
	}, func() string { return "the container's sleep" })
}

func testRemove(t *testing.T, b *bench) {
	spec := b.spec("exit 0")
	id := b.start(t, spec)
	b.stopped(t, id)
	for range 2 {
		if err := b.Remove(t.Context(), id); err != nil {
			t.Fatalf("Remove: %v", err)
		}
	}
	if all, err := b.List(t.Context(), id); err != nil || len(all) != 0 {
		t.Errorf("List after Remove = %v, %v", all, err)
	}
	if err := b.Create(t.Context(), spec); err != nil {
		t.Fatalf("Create after Remove: %v", err)
	}
	if st := b.status(t, id); st.Phase != container.Created || st.Exit != nil {
		t.Errorf("created again: %+v, want a container that never ran", st)
	}
	if err := b.Remove(t.Context(), id); err != nil {
		t.Errorf("Remove of a container that never ran: %v", err)
	}
}

func testRemoveRunning(t *testing.T, b *bench) {
	id := b.start(t, b.spec("deaf"))
	pid := b.status(t, id).PID
	if err := b.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if all, err := b.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("List after Remove = %v, %v", all, err)
	}
	if b.h.Kernel && syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d outlived its container", pid)
	}
}

func testList(t *testing.T, b *bench) {
	if all, err := b.List(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("List at first = %v, %v", all, err)
	}
	created, running, stopped := b.create(t, b.spec("run")), b.start(t, b.spec("run")), b.start(t, b.spec("exit 9"))
	b.stopped(t, stopped)
	want := map[string]container.Phase{created: container.Created, running: container.Running, stopped: container.Stopped}
	all, err := b.List(t.Context())
	if err != nil || len(all) != len(want) {
		t.Fatalf("List = %v, %v; want %d containers", all, err, len(want))
	}
	for _, st := range all {
		if st.Phase != want[st.ID] {
			t.Errorf("%s is %s, want %s", st.ID, st.Phase, want[st.ID])
		}
	}
	some, err := b.List(t.Context(), running, "rt-no-such", stopped)
	if err != nil || len(some) != 2 {
		t.Errorf("List of two and an absent one = %v, %v", some, err)
	}
}

func testAbsent(t *testing.T, b *bench) {
	_, err := b.Start(t.Context(), "rt-absent")
	wantErr(t, "Start", err, container.ErrNotFound)
	wantErr(t, "Signal", b.Signal(t.Context(), "rt-absent", syscall.SIGTERM, false), container.ErrNotFound)
	_, err = b.Exec(t.Context(), "rt-absent", container.ExecRequest{Args: []string{"true"}})
	wantErr(t, "Exec", err, container.ErrNotFound)
	if err := b.Remove(t.Context(), "rt-absent"); err != nil {
		t.Errorf("Remove of an absent container: %v", err)
	}
}

// testGroup: containers that share a shim do not share their fate.
func testGroup(t *testing.T, b *bench) {
	a, c := b.spec("run"), b.spec("run")
	c.Group = a.Group
	b.start(t, a)
	b.start(t, c)
	b.settle(t, c.ID)
	if err := b.Remove(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if st := b.status(t, c.ID); st.Phase != container.Running {
		t.Fatalf("after the group's first container was removed, the other is %+v", st)
	}
	d := b.spec("exit 5")
	d.Group = a.Group
	b.start(t, d)
	if st := b.stopped(t, d.ID); st.Exit.Code != 5 {
		t.Errorf("third container of the group: %+v", st.Exit)
	}
	if err := b.Signal(t.Context(), c.ID, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := b.stopped(t, c.ID); st.Exit.Code != 143 {
		t.Errorf("second container of the group: %+v", st.Exit)
	}
}

func testReopen(t *testing.T, b *bench) {
	created, running, stopped := b.create(t, b.spec("run")), b.start(t, b.spec("run")), b.start(t, b.spec("exit 4"))
	b.stopped(t, stopped)
	again := &bench{Runtime: b.h.Reopen(t, b.Runtime), h: b.h}
	if st := again.status(t, created); st.Phase != container.Created {
		t.Errorf("created: %+v", st)
	}
	if st, was := again.status(t, running), b.status(t, running); st.Phase != container.Running || st.PID != was.PID ||
		!st.StartedAt.Equal(was.StartedAt) {
		t.Errorf("running: %+v, was %+v", st, was)
	}
	st, was := again.status(t, stopped), b.status(t, stopped)
	if st.Phase != container.Stopped || *st.Exit != *was.Exit || st.Exit.Code != 4 {
		t.Errorf("stopped: %+v %+v, was %+v", st, st.Exit, was.Exit)
	}
	if err := again.Signal(t.Context(), running, syscall.SIGKILL, true); err != nil {
		t.Errorf("Signal by the new Runtime: %v", err)
	}
	if st := again.stopped(t, running); st.Exit.Code != 137 {
		t.Errorf("exit %+v, want 137", st.Exit)
	}
}

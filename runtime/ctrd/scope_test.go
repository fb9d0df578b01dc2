package ctrd

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/berthd/berth/runtime/container"
)

// TestScopeHasNoLimitOfSystemds: what asks for no limit of processes is told to
// have none, or else systemd gives the scope its default.
func TestScopeHasNoLimitOfSystemds(t *testing.T) {
	for _, tt := range []struct {
		driver CgroupDriver
		pids   int64
		want   int64 // zero is no word about it
	}{{Cgroupfs, 0, 0}, {Cgroupfs, 7, 7}, {Systemd, 0, -1}, {Systemd, 7, 7}} {
		in := specInput{driver: tt.driver}
		in.Limits.Pids = tt.pids
		var got int64
		if pids := resources(in).Pids; pids != nil {
			got = *pids.Limit
		}
		if got != tt.want {
			t.Errorf("driver %s, limit %d: pids limit %d, want %d", tt.driver, tt.pids, got, tt.want)
		}
	}
}

// TestOutOfMemoryWithoutCgroup: the shim's event is believed once systemd has
// removed the cgroup that counted, until the container is gone.
func TestOutOfMemoryWithoutCgroup(t *testing.T) {
	r := &Runtime{log: zap.NewNop(), host: host{cgroups: t.TempDir(), unified: true}}
	stopped := func(id string) stored {
		s := stored{}
		s.ID, s.Spec = id, &anypb.Any{Value: []byte(`{"linux":{"cgroupsPath":"ecstasks-aa11.slice:berth:` + id + `"}}`)}
		return s
	}
	killed, other := stopped("killed"), stopped("other")
	tell := func(topic string, v any) (container.Event, bool) {
		value, err := typeurl.MarshalAny(v)
		if err != nil {
			t.Fatal(err)
		}
		return r.event(t.Context(), &events.Envelope{Topic: topic, Event: value})
	}
	if r.oomKilled(killed) {
		t.Error("killed before it was told")
	}
	for i := range 3 { // containerd 1.6 repeats itself
		e, ok := tell("/tasks/oom", &apievents.TaskOOM{ContainerID: killed.ID})
		if ok != (i == 0) || ok && e.Kind != container.EventOOM {
			t.Errorf("event %d: %+v, %t", i, e, ok)
		}
	}
	if !r.oomKilled(killed) || r.oomKilled(other) {
		t.Errorf("killed %t, other %t; want true, false", r.oomKilled(killed), r.oomKilled(other))
	}
	tell("/containers/delete", &apievents.ContainerDelete{ID: killed.ID})
	if r.oomKilled(killed) {
		t.Error("killed after it was deleted")
	}
}

// TestOutOfMemoryUnseen: systemd has removed the cgroup and the shim has said nothing. The slice of the task knows of the kill, which is
// put down to the container that was killed, and to one alone.
func TestOutOfMemoryUnseen(t *testing.T) {
	r := &Runtime{log: zap.NewNop(), host: host{cgroups: t.TempDir(), unified: true}}
	slice := filepath.Join(r.host.cgroups, "ecstasks.slice/ecstasks-aa11.slice")
	events := func(dir string, kills int) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), fmt.Appendf(nil, "max 9\noom %d\noom_kill %d\n", kills, kills), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stopped := func(id, slice string) stored {
		s := stored{}
		s.ID, s.Spec = id, &anypb.Any{Value: []byte(`{"linux":{"cgroupsPath":"` + slice + `:berth:` + id + `"}}`)}
		return s
	}
	eater, bystander, stranger := stopped("eater", "ecstasks-aa11.slice"), stopped("bystander", "ecstasks-aa11.slice"), stopped("stranger", "system.slice")
	events(slice, 0)
	if r.killedForMemory(eater, 137) {
		t.Error("killed before the kernel killed anything")
	}
	events(slice, 1)
	events(filepath.Join(r.host.cgroups, "system.slice"), 1)
	events(filepath.Join(slice, "berth-alive.scope"), 0)
	for _, tt := range []struct {
		container stored
		code      int
		want      bool
	}{
		{bystander, 0, false}, // it ended by itself
		{stopped("alive", "ecstasks-aa11.slice"), 137, false}, // its own cgroup says no
		{stranger, 137, false},                                // a slice of many
		{eater, 137, true},
		{bystander, 137, false}, // the one kill is answered for
		{eater, 137, true},      // and asked about again
	} {
		if got := r.killedForMemory(tt.container, tt.code); got != tt.want {
			t.Errorf("%s with exit code %d: %t", tt.container.ID, tt.code, got)
		}
	}
	r.memoryKills.forget("eater") // It is started again.
	if r.killedForMemory(eater, 137) {
		t.Error("killed in a run in which the kernel killed nothing")
	}
	events(slice, 2)
	if !r.killedForMemory(eater, 137) {
		t.Error("the second kill is not seen")
	}
}

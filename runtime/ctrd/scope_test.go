package ctrd

import (
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

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/network"
)

// TestIMDSGuard: what the network is told, and when: only news, and again after
// it failed.
func TestIMDSGuard(t *testing.T) {
	var told []network.HostTasks
	var broken error
	root := t.TempDir()
	g := &imdsGuard{
		unified: root, path: func(id string) string { return "/tasks/" + id }, allowed: map[string]uint64{},
		apply: func(_ context.Context, h network.HostTasks) error {
			if broken == nil {
				told = append(told, h)
			}
			return broken
		},
	}
	id := func(name string) uint64 {
		n, err := groupID(filepath.Join(root, "tasks", name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := func(what string, want ...network.HostTasks) {
		t.Helper()
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("%s: told %v, want %v", what, told, want)
		}
		told = nil
	}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(g.created(ctx, engine.TaskCgroup{ID: "a"}))
	group := id("")
	want("the first task", network.HostTasks{Group: group})
	must(g.created(ctx, engine.TaskCgroup{ID: "b"}))
	want("the second task")
	must(g.created(ctx, engine.TaskCgroup{ID: "c", AllowIMDS: true}))
	want("an allowed task", network.HostTasks{Group: group, Allowed: []uint64{id("c")}})
	must(g.removed(ctx, "a"))
	want("the first one is gone")
	broken = errors.New("out of order")
	if err := os.Rename(filepath.Join(root, "tasks"), filepath.Join(root, "was")); err != nil {
		t.Fatal(err)
	}
	if err := g.created(ctx, engine.TaskCgroup{ID: "d"}); !errors.Is(err, broken) {
		t.Errorf("a network that fails: %v", err)
	}
	broken = nil
	must(g.created(ctx, engine.TaskCgroup{ID: "d"}))
	if len(told) != 1 || told[0].Group != id("") || told[0].Group == group {
		t.Errorf("after the groups were made anew: told %v", told)
	}
	told = nil
	broken = errors.New("out of order")
	for range 2 { // a removal is tried until it succeeds
		if err := g.removed(ctx, "c"); !errors.Is(err, broken) {
			t.Errorf("a network that fails: %v", err)
		}
	}
	broken = nil
	must(g.removed(ctx, "c"))
	want("the allowed task is gone", network.HostTasks{Group: id("")})

	// The next agent.
	allowed := task.Definition{ID: "d", Network: task.NetworkHost, Containers: []task.Container{
		{Spec: container.Spec{Labels: map[string]string{task.LabelAllowIMDS: "true"}}},
	}}
	other := allowed
	other.ID, other.Network = "e", task.NetworkBridge
	next := &imdsGuard{unified: root, path: g.path, apply: g.apply, allowed: map[string]uint64{}}
	tasks := []engine.Task{{State: task.State{Definition: allowed}}, {State: task.State{Definition: other}}}
	must(next.restore(ctx, tasks, true, zap.NewNop()))
	want("after a restart", network.HostTasks{Group: id(""), Allowed: []uint64{id("d")}})

	core, logs := zapobserver.New(zap.ErrorLevel)
	must(next.restore(ctx, tasks, false, zap.New(core)))
	must((&imdsGuard{}).restore(ctx, tasks, true, zap.New(core)))
	if logs.Len() != 2 {
		t.Errorf("a host that cannot do it is told %d times", logs.Len())
	}
	want("on such a host")
	var none *imdsGuard
	must(errors.Join(none.created(ctx, engine.TaskCgroup{ID: "x"}), none.removed(ctx, "x"), none.restore(ctx, tasks, true, zap.NewNop())))
}

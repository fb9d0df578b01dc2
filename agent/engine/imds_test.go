package engine

import (
	"testing"

	"github.com/berthd/berth/agent/task"
)

// TestAllowIMDS: the label opens instance metadata to a container that has an
// address of its own, and else to its whole task.
func TestAllowIMDS(t *testing.T) {
	e := &Engine{}
	labelled := func(network task.NetworkMode) *task.Definition {
		d := &task.Definition{ARN: "arn:aws:ecs:eu-west-1:1:task/c/a", ID: "a", Network: network, Containers: []task.Container{{Name: "open"}, {Name: "closed"}}}
		d.Containers[0].Spec.Labels = map[string]string{task.LabelAllowIMDS: "true"}
		d.Containers[1].Spec.Labels = map[string]string{task.LabelAllowIMDS: "no"}
		return d
	}
	for _, network := range []task.NetworkMode{task.NetworkHost, task.NetworkBridge, task.NetworkNone, task.NetworkAWSVPC} {
		if got := e.cgroup(labelled(network)).AllowIMDS; got != (network == task.NetworkHost) {
			t.Errorf("%s: the task's cgroup is allowed: %t", network, got)
		}
	}
	plain := labelled(task.NetworkHost)
	plain.Containers = plain.Containers[1:]
	if e.cgroup(plain).AllowIMDS {
		t.Error("a task without the label is allowed")
	}
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		begin(t, e, *labelled(task.NetworkBridge))
		endpoints := e.Tasks()[0].Endpoints
		if !endpoints["open"].AllowIMDS || endpoints["closed"].AllowIMDS {
			t.Errorf("in bridge mode: %+v", endpoints)
		}
	})
}

package engine

import (
	"testing"

	"github.com/berthd/berth/agent/task"
)

// TestNetworkDisabled: such a container has a network namespace, and neither an
// address nor ports.
func TestNetworkDisabled(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		ports := []task.PortMapping{{ContainerPort: 80, ContainerPortEnd: 80, Protocol: "tcp"}}
		begin(t, e, task.Definition{
			ARN: "arn:aws:ecs:eu-west-1:1:task/c/a", ID: "a", Network: task.NetworkBridge,
			Containers: []task.Container{{Name: "alone", Networking: task.Networking{NetworkDisabled: true, Ports: ports}}, {Name: "open", Networking: task.Networking{Ports: ports}}},
		})
		endpoints := e.Tasks()[0].Endpoints
		if got, there := endpoints["alone"]; !there || !got.None() || len(got.Ports) != 0 {
			t.Errorf("a container without network has %+v (%t)", got, there)
		}
		if got := endpoints["open"]; got.None() || len(got.Ports) != 1 {
			t.Errorf("the other one has %+v", got)
		}
	})
}

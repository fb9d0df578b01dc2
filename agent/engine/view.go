package engine

import (
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
)

// Task is what can be seen of a task from outside. It is a copy; whoever gets
// it may keep it, and must not change what it points to.
type Task struct {
	State task.State
	// Endpoints are the addresses and ports by container name.
	Endpoints map[string]ipam.Endpoint
	// Desired is RUNNING or STOPPED.
	Desired task.ReportStatus
	// Settled names the containers that have come to their end.
	Settled map[string]bool
	// Forgotten is set on the last view of a task.
	Forgotten bool
}

// ID is the task's id.
func (t *Task) ID() string { return t.State.Definition.ID }

// ContainerID is the id of a container in the runtime.
func (t *Task) ContainerID(name string) string { return RuntimeID(t.State.Definition.ARN, name) }

// container is the state of a container that the task has.
func (t *Task) container(name string) *task.ContainerState {
	for i := range t.State.Containers {
		if t.State.Containers[i].Name == name {
			return &t.State.Containers[i]
		}
	}
	return &task.ContainerState{}
}

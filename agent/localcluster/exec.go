package localcluster

import (
	"slices"

	"github.com/berthd/berth/agent/wire/ecs"
)

// notEnabled is what ECS says of a task that no command can be run in.
const notEnabled = "The execute command failed because execute command was not enabled when the task was run or the execute command agent isn’t running. " +
	"Wait and try again or run a new task with execute command enabled and try again."

// noResponse is empty: executeCommand always ends in an error.
type noResponse struct{}

// executeCommand checks what ECS checks, and then says that there is no Session
// Manager here, and what there is instead.
func (s *state) executeCommand(in *ecs.ExecuteCommandRequest) (*noResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	t := s.task(cluster, in.Task)
	switch {
	case t == nil:
		return nil, invalid("The task provided in the request was invalid. Verify the request and try again.")
	case in.Container == "" && len(t.Containers) > 1:
		return nil, invalid("The container was not specified in the request. Specify the container and try again.")
	case in.Container != "" && t.containerNamed(in.Container) == nil:
		return nil, invalid("The container provided in the request was invalid. Verify the request and try again.")
	case !in.Interactive:
		return nil, invalid("Interactive is the only mode supported currently.")
	}
	c := (*containerView)(&t.Containers[0])
	if in.Container != "" {
		c = t.containerNamed(in.Container)
	}
	if !t.EnableExecuteCommand || !slices.ContainsFunc(c.ManagedAgents, func(a ecs.ManagedAgent) bool {
		return a.Name == "ExecuteCommandAgent" && a.LastStatus == ecs.StatusRunning
	}) {
		return nil, invalid(notEnabled)
	}
	return nil, refuse(ecs.ErrTypeTargetNotConnected,
		"A local cluster has no Session Manager to open a session with. On the host: berth exec -it "+lastPart(t.TaskARN)+"/"+c.Name+" -- "+in.Command)
}

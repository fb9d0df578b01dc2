package localcluster

import (
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// counts is 1 when the task counts as RUNNING or as PENDING, whichever is asked.
// A task that is being stopped counts as running until it is stopped.
func (t *task) counts(status string) int {
	running := t.LastStatus == ecs.StatusRunning || t.LastStatus == ecs.StatusDeactivating || t.LastStatus == ecs.StatusStopping
	switch {
	case t.LastStatus == ecs.StatusStopped:
		return 0
	case running == (status == ecs.StatusRunning):
		return 1
	}
	return 0
}

// task finds a task of a cluster by id or ARN.
func (s *state) task(cluster *ecs.Cluster, ref string) *task {
	arn := ref
	if !strings.HasPrefix(ref, "arn:") {
		arn = s.arn("task/" + cluster.ClusterName + "/" + ref)
	}
	t := s.Tasks[arn]
	if t == nil || t.Cluster != cluster.ClusterName {
		return nil
	}
	return t
}

// show gives the public shape of a task.
func (s *state) show(t *task, include []string) ecs.Task {
	out := t.Task
	if !hasTag(include) {
		out.Tags = []ecs.Tag{}
	}
	if t.LastStatus != ecs.StatusStopped {
		out.Connectivity, out.ConnectivityAt = ecs.ConnectivityDisconnected, t.CreatedAt
		if s.env.connected(t.ContainerInstanceARN) {
			out.Connectivity = ecs.ConnectivityConnected
		}
	}
	return out
}

func (s *state) showTasks(arns []string) []ecs.Task {
	out := []ecs.Task{}
	for _, arn := range arns {
		if t := s.Tasks[arn]; t != nil {
			out = append(out, s.show(t, []string{ecs.IncludeTags}))
		}
	}
	return out
}

func (s *state) describeTasks(in *ecs.DescribeTasksRequest) (*ecs.DescribeTasksResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if len(in.Tasks) == 0 {
		return nil, invalid("Tasks cannot be empty.")
	}
	if len(in.Tasks) > 100 {
		return nil, invalid("Tasks list cannot have more than 100 entries.")
	}
	out := &ecs.DescribeTasksResponse{Tasks: []ecs.Task{}, Failures: []ecs.Failure{}}
	for _, ref := range in.Tasks {
		if t := s.task(cluster, ref); t != nil {
			out.Tasks = append(out.Tasks, s.show(t, in.Include))
		} else {
			out.Failures = append(out.Failures, s.missing("task", cluster, ref))
		}
	}
	return out, nil
}

func (s *state) listTasks(in *ecs.ListTasksRequest) (*ecs.ListTasksResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	desired := in.DesiredStatus
	setDefault(&desired, ecs.StatusRunning)
	host := ""
	if in.ContainerInstance != "" {
		i := s.instance(cluster, in.ContainerInstance)
		if i == nil {
			return nil, invalid("The referenced container instance was not found.")
		}
		host = i.ContainerInstanceARN
	}
	arns := []string{}
	for arn, t := range s.Tasks {
		family := s.Definitions[t.TaskDefinitionARN].Family
		if t.Cluster == cluster.ClusterName && t.DesiredStatus == desired && in.ServiceName == "" &&
			equalOrEmpty(in.Family, family) && equalOrEmpty(in.StartedBy, t.StartedBy) &&
			equalOrEmpty(host, t.ContainerInstanceARN) && equalOrEmpty(in.LaunchType, t.LaunchType) {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	arns, token, err := pageAfter(arns, in.NextToken, in.MaxResults)
	return &ecs.ListTasksResponse{TaskARNs: arns, NextToken: token}, err
}

func equalOrEmpty(wanted, have string) bool { return wanted == "" || wanted == have }

func (s *state) stopTask(in *ecs.StopTaskRequest) (*ecs.StopTaskResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	t := s.task(cluster, in.Task)
	if t == nil {
		return nil, invalid("The referenced task was not found.")
	}
	reason := in.Reason
	setDefault(&reason, "Task stopped by user")
	t.wantStopped(ecs.StopUserInitiated, reason)
	shown := s.show(t, []string{ecs.IncludeTags})
	return &ecs.StopTaskResponse{Task: &shown}, nil
}

// wantStopped makes the task stop for a reason; the first reason stays.
func (t *task) wantStopped(code, reason string) {
	if t.DesiredStatus == ecs.StatusStopped {
		return
	}
	t.DesiredStatus = ecs.StatusStopped
	t.StopCode, t.StoppedReason = code, reason
	t.StoppingAt = now()
	t.Version++
}

// orphan ends a task whose host is gone for good.
func (t *task) orphan() {
	t.wantStopped("", "Host EC2 (instance "+lastPart(t.ContainerInstanceARN)+") terminated.")
	t.LastStatus = ecs.StatusStopped
	t.StoppedAt = now()
	for i := range t.Containers {
		t.Containers[i].LastStatus = ecs.StatusStopped
	}
	t.Version++
}

// told records how far the agent knows of a stop: that it was sent, and that it
// was acknowledged.
func (t *task) told(acked bool) {
	if t.DesiredStatus != ecs.StatusStopped || t.LastStatus == ecs.StatusStopped {
		return
	}
	status := ecs.StatusDeactivating
	if acked {
		status = ecs.StatusStopping
	}
	if t.LastStatus != status && t.LastStatus != ecs.StatusStopping {
		t.LastStatus = status
		t.Version++
	}
}

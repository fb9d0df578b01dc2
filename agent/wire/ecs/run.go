package ecs

// RunTaskRequest places and starts up to ten tasks. A nil Count means one.
type RunTaskRequest struct {
	CapacityProviderStrategy []CapacityProviderStrategyItem `json:"capacityProviderStrategy,omitzero"`
	Cluster                  string                         `json:"cluster,omitempty"`
	Count                    *int                           `json:"count,omitempty"`
	EnableECSManagedTags     bool                           `json:"enableECSManagedTags,omitempty"`
	EnableExecuteCommand     bool                           `json:"enableExecuteCommand,omitempty"`
	Group                    string                         `json:"group,omitempty"`
	LaunchType               string                         `json:"launchType,omitempty"`
	NetworkConfiguration     *NetworkConfiguration          `json:"networkConfiguration,omitempty"`
	Overrides                *TaskOverride                  `json:"overrides,omitempty"`
	PlacementConstraints     []PlacementConstraint          `json:"placementConstraints,omitzero"`
	PlacementStrategy        []PlacementStrategy            `json:"placementStrategy,omitzero"`
	PlatformVersion          string                         `json:"platformVersion,omitempty"`
	PropagateTags            string                         `json:"propagateTags,omitempty"`
	ReferenceID              string                         `json:"referenceId,omitempty"`
	StartedBy                string                         `json:"startedBy,omitempty"`
	Tags                     []Tag                          `json:"tags,omitzero"`
	TaskDefinition           string                         `json:"taskDefinition"`
	ClientToken              string                         `json:"clientToken,omitempty"`
	VolumeConfigurations     []TaskVolumeConfiguration      `json:"volumeConfigurations,omitzero"`
}

// RunTaskResponse lists what was started and why the rest was not.
type RunTaskResponse struct {
	Tasks    []Task    `json:"tasks"`
	Failures []Failure `json:"failures"`
}

// StartTaskRequest starts one task on each of the named instances.
type StartTaskRequest struct {
	Cluster              string                    `json:"cluster,omitempty"`
	ContainerInstances   []string                  `json:"containerInstances"`
	EnableECSManagedTags bool                      `json:"enableECSManagedTags,omitempty"`
	EnableExecuteCommand bool                      `json:"enableExecuteCommand,omitempty"`
	Group                string                    `json:"group,omitempty"`
	NetworkConfiguration *NetworkConfiguration     `json:"networkConfiguration,omitempty"`
	Overrides            *TaskOverride             `json:"overrides,omitempty"`
	PropagateTags        string                    `json:"propagateTags,omitempty"`
	ReferenceID          string                    `json:"referenceId,omitempty"`
	StartedBy            string                    `json:"startedBy,omitempty"`
	Tags                 []Tag                     `json:"tags,omitzero"`
	TaskDefinition       string                    `json:"taskDefinition"`
	VolumeConfigurations []TaskVolumeConfiguration `json:"volumeConfigurations,omitzero"`
}

// StartTaskResponse answers StartTask.
type StartTaskResponse struct {
	Tasks    []Task    `json:"tasks"`
	Failures []Failure `json:"failures"`
}

// StopTaskRequest stops a task; the reason is shown as stoppedReason.
type StopTaskRequest struct {
	Cluster string `json:"cluster,omitempty"`
	Task    string `json:"task"`
	Reason  string `json:"reason,omitempty"`
}

// StopTaskResponse answers StopTask.
type StopTaskResponse struct {
	Task *Task `json:"task,omitempty"`
}

// DescribeTasksRequest names up to 100 tasks by id or ARN.
type DescribeTasksRequest struct {
	Cluster string   `json:"cluster,omitempty"`
	Tasks   []string `json:"tasks"`
	Include []string `json:"include,omitzero"`
}

// DescribeTasksResponse answers DescribeTasks.
type DescribeTasksResponse struct {
	Tasks    []Task    `json:"tasks"`
	Failures []Failure `json:"failures"`
}

// ListTasksRequest pages through tasks; an empty DesiredStatus means RUNNING.
type ListTasksRequest struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	Family            string `json:"family,omitempty"`
	NextToken         string `json:"nextToken,omitempty"`
	MaxResults        int    `json:"maxResults,omitempty"`
	StartedBy         string `json:"startedBy,omitempty"`
	ServiceName       string `json:"serviceName,omitempty"`
	DesiredStatus     string `json:"desiredStatus,omitempty"`
	LaunchType        string `json:"launchType,omitempty"`
	DaemonName        string `json:"daemonName,omitempty"`
}

// ListTasksResponse answers ListTasks.
type ListTasksResponse struct {
	TaskARNs  []string `json:"taskArns"`
	NextToken string   `json:"nextToken,omitempty"`
}

// NetworkConfiguration is the network of awsvpc tasks.
type NetworkConfiguration struct {
	AWSVPCConfiguration *AWSVPCConfiguration `json:"awsvpcConfiguration,omitempty"`
}

// AWSVPCConfiguration names the subnets and security groups of awsvpc tasks.
type AWSVPCConfiguration struct {
	Subnets        []string `json:"subnets"`
	SecurityGroups []string `json:"securityGroups,omitzero"`
	AssignPublicIP string   `json:"assignPublicIp,omitempty"`
}

// PlacementConstraint limits where tasks may be placed.
type PlacementConstraint struct {
	Type       string `json:"type,omitempty"`
	Expression string `json:"expression,omitempty"`
}

// PlacementStrategy orders the instances that could take a task.
type PlacementStrategy struct {
	Type  string `json:"type,omitempty"`
	Field string `json:"field,omitempty"`
}

// ExecuteCommandRequest runs a command in a container of a task; Container may be
// left out where there is one only.
type ExecuteCommandRequest struct {
	Cluster     string `json:"cluster,omitempty"`
	Container   string `json:"container,omitempty"`
	Command     string `json:"command"`
	Interactive bool   `json:"interactive"`
	Task        string `json:"task"`
}

package ecs

// Task is a task as the service shows it. CPU and Memory are strings, as in the
// task definition; Version rises with every change.
type Task struct {
	Attachments             []Attachment           `json:"attachments,omitzero"`
	Attributes              []Attribute            `json:"attributes,omitzero"`
	AvailabilityZone        string                 `json:"availabilityZone,omitempty"`
	CapacityProviderName    string                 `json:"capacityProviderName,omitempty"`
	ClusterARN              string                 `json:"clusterArn,omitempty"`
	Connectivity            string                 `json:"connectivity,omitempty"`
	ConnectivityAt          Timestamp              `json:"connectivityAt,omitzero"`
	ContainerInstanceARN    string                 `json:"containerInstanceArn,omitempty"`
	Containers              []Container            `json:"containers,omitzero"`
	CPU                     string                 `json:"cpu,omitempty"`
	CreatedAt               Timestamp              `json:"createdAt,omitzero"`
	DesiredStatus           string                 `json:"desiredStatus,omitempty"`
	EnableExecuteCommand    bool                   `json:"enableExecuteCommand"`
	ExecutionStoppedAt      Timestamp              `json:"executionStoppedAt,omitzero"`
	Group                   string                 `json:"group,omitempty"`
	HealthStatus            string                 `json:"healthStatus,omitempty"`
	InferenceAccelerators   []InferenceAccelerator `json:"inferenceAccelerators,omitzero"`
	LastStatus              string                 `json:"lastStatus,omitempty"`
	LaunchType              string                 `json:"launchType,omitempty"`
	Memory                  string                 `json:"memory,omitempty"`
	Overrides               *TaskOverride          `json:"overrides,omitempty"`
	PlatformVersion         string                 `json:"platformVersion,omitempty"`
	PlatformFamily          string                 `json:"platformFamily,omitempty"`
	PullStartedAt           Timestamp              `json:"pullStartedAt,omitzero"`
	PullStoppedAt           Timestamp              `json:"pullStoppedAt,omitzero"`
	StartedAt               Timestamp              `json:"startedAt,omitzero"`
	StartedBy               string                 `json:"startedBy,omitempty"`
	StopCode                string                 `json:"stopCode,omitempty"`
	StoppedAt               Timestamp              `json:"stoppedAt,omitzero"`
	StoppedReason           string                 `json:"stoppedReason,omitempty"`
	StoppingAt              Timestamp              `json:"stoppingAt,omitzero"`
	Tags                    []Tag                  `json:"tags,omitzero"`
	TaskARN                 string                 `json:"taskArn,omitempty"`
	TaskDefinitionARN       string                 `json:"taskDefinitionArn,omitempty"`
	Version                 int64                  `json:"version"`
	EphemeralStorage        *EphemeralStorage      `json:"ephemeralStorage,omitempty"`
	FargateEphemeralStorage *TaskEphemeralStorage  `json:"fargateEphemeralStorage,omitempty"`
}

// Container is a container of a Task. ExitCode is nil until it exited. CPU is
// CPU units and Memory is MiB, as strings.
type Container struct {
	ContainerARN      string             `json:"containerArn,omitempty"`
	TaskARN           string             `json:"taskArn,omitempty"`
	Name              string             `json:"name,omitempty"`
	Image             string             `json:"image,omitempty"`
	ImageDigest       string             `json:"imageDigest,omitempty"`
	RuntimeID         string             `json:"runtimeId,omitempty"`
	LastStatus        string             `json:"lastStatus,omitempty"`
	ExitCode          *int               `json:"exitCode,omitempty"`
	Reason            string             `json:"reason,omitempty"`
	NetworkBindings   []NetworkBinding   `json:"networkBindings,omitzero"`
	NetworkInterfaces []NetworkInterface `json:"networkInterfaces,omitzero"`
	HealthStatus      string             `json:"healthStatus,omitempty"`
	ManagedAgents     []ManagedAgent     `json:"managedAgents,omitzero"`
	CPU               string             `json:"cpu,omitempty"`
	Memory            string             `json:"memory,omitempty"`
	MemoryReservation string             `json:"memoryReservation,omitempty"`
	GPUIDs            []string           `json:"gpuIds,omitzero"`
}

// ManagedAgent is the execute-command agent in a container.
type ManagedAgent struct {
	LastStartedAt Timestamp `json:"lastStartedAt,omitzero"`
	Name          string    `json:"name,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	LastStatus    string    `json:"lastStatus,omitempty"`
}

// TaskEphemeralStorage is the disk of a Fargate task.
type TaskEphemeralStorage struct {
	SizeInGiB int    `json:"sizeInGiB,omitempty"`
	KMSKeyID  string `json:"kmsKeyId,omitempty"`
}

// TaskOverride is what a run changes of its task definition.
type TaskOverride struct {
	ContainerOverrides            []ContainerOverride            `json:"containerOverrides,omitzero"`
	CPU                           string                         `json:"cpu,omitempty"`
	InferenceAcceleratorOverrides []InferenceAcceleratorOverride `json:"inferenceAcceleratorOverrides,omitzero"`
	ExecutionRoleARN              string                         `json:"executionRoleArn,omitempty"`
	Memory                        string                         `json:"memory,omitempty"`
	TaskRoleARN                   string                         `json:"taskRoleArn,omitempty"`
	EphemeralStorage              *EphemeralStorage              `json:"ephemeralStorage,omitempty"`
}

// ContainerOverride is what a run changes of one container: Command replaces,
// Environment adds or replaces by name.
type ContainerOverride struct {
	Name                 string                `json:"name,omitempty"`
	Command              []string              `json:"command,omitzero"`
	Environment          []KeyValuePair        `json:"environment,omitzero"`
	EnvironmentFiles     []EnvironmentFile     `json:"environmentFiles,omitzero"`
	CPU                  *int                  `json:"cpu,omitempty"`
	Memory               *int                  `json:"memory,omitempty"`
	MemoryReservation    *int                  `json:"memoryReservation,omitempty"`
	ResourceRequirements []ResourceRequirement `json:"resourceRequirements,omitzero"`
}

// InferenceAcceleratorOverride changes an elastic inference device.
type InferenceAcceleratorOverride struct {
	DeviceName string `json:"deviceName,omitempty"`
	DeviceType string `json:"deviceType,omitempty"`
}

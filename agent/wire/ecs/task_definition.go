package ecs

// TaskDefinition is one registered revision of a family. CPU is CPU units
// (1024 per vCPU) or "0.5 vcpu", Memory is MiB or "1 GB", both as strings.
type TaskDefinition struct {
	TaskDefinitionARN       string                              `json:"taskDefinitionArn,omitempty"`
	ContainerDefinitions    []ContainerDefinition               `json:"containerDefinitions,omitzero"`
	Family                  string                              `json:"family,omitempty"`
	TaskRoleARN             string                              `json:"taskRoleArn,omitempty"`
	ExecutionRoleARN        string                              `json:"executionRoleArn,omitempty"`
	NetworkMode             string                              `json:"networkMode,omitempty"`
	Revision                int                                 `json:"revision,omitempty"`
	Volumes                 []Volume                            `json:"volumes,omitzero"`
	Status                  string                              `json:"status,omitempty"`
	RequiresAttributes      []Attribute                         `json:"requiresAttributes,omitzero"`
	PlacementConstraints    []TaskDefinitionPlacementConstraint `json:"placementConstraints,omitzero"`
	Compatibilities         []string                            `json:"compatibilities,omitzero"`
	RuntimePlatform         *RuntimePlatform                    `json:"runtimePlatform,omitempty"`
	RequiresCompatibilities []string                            `json:"requiresCompatibilities,omitzero"`
	CPU                     string                              `json:"cpu,omitempty"`
	Memory                  string                              `json:"memory,omitempty"`
	InferenceAccelerators   []InferenceAccelerator              `json:"inferenceAccelerators,omitzero"`
	PIDMode                 string                              `json:"pidMode,omitempty"`
	IPCMode                 string                              `json:"ipcMode,omitempty"`
	ProxyConfiguration      *ProxyConfiguration                 `json:"proxyConfiguration,omitempty"`
	RegisteredAt            Timestamp                           `json:"registeredAt,omitzero"`
	DeregisteredAt          Timestamp                           `json:"deregisteredAt,omitzero"`
	DeleteRequestedAt       Timestamp                           `json:"deleteRequestedAt,omitzero"`
	RegisteredBy            string                              `json:"registeredBy,omitempty"`
	EphemeralStorage        *EphemeralStorage                   `json:"ephemeralStorage,omitempty"`
	EnableFaultInjection    bool                                `json:"enableFaultInjection,omitempty"`
}

// RegisterTaskDefinitionRequest makes a new revision of a family.
type RegisterTaskDefinitionRequest struct {
	Family                  string                              `json:"family"`
	TaskRoleARN             string                              `json:"taskRoleArn,omitempty"`
	ExecutionRoleARN        string                              `json:"executionRoleArn,omitempty"`
	NetworkMode             string                              `json:"networkMode,omitempty"`
	ContainerDefinitions    []ContainerDefinition               `json:"containerDefinitions"`
	Volumes                 []Volume                            `json:"volumes,omitzero"`
	PlacementConstraints    []TaskDefinitionPlacementConstraint `json:"placementConstraints,omitzero"`
	RequiresCompatibilities []string                            `json:"requiresCompatibilities,omitzero"`
	CPU                     string                              `json:"cpu,omitempty"`
	Memory                  string                              `json:"memory,omitempty"`
	Tags                    []Tag                               `json:"tags,omitzero"`
	PIDMode                 string                              `json:"pidMode,omitempty"`
	IPCMode                 string                              `json:"ipcMode,omitempty"`
	ProxyConfiguration      *ProxyConfiguration                 `json:"proxyConfiguration,omitempty"`
	InferenceAccelerators   []InferenceAccelerator              `json:"inferenceAccelerators,omitzero"`
	EphemeralStorage        *EphemeralStorage                   `json:"ephemeralStorage,omitempty"`
	RuntimePlatform         *RuntimePlatform                    `json:"runtimePlatform,omitempty"`
	EnableFaultInjection    bool                                `json:"enableFaultInjection,omitempty"`
}

// RegisterTaskDefinitionResponse answers RegisterTaskDefinition.
type RegisterTaskDefinitionResponse struct {
	TaskDefinition *TaskDefinition `json:"taskDefinition,omitempty"`
	Tags           []Tag           `json:"tags"`
}

// DeregisterTaskDefinitionRequest makes "family:revision" INACTIVE.
type DeregisterTaskDefinitionRequest struct {
	TaskDefinition string `json:"taskDefinition"`
}

// DeregisterTaskDefinitionResponse answers DeregisterTaskDefinition.
type DeregisterTaskDefinitionResponse struct {
	TaskDefinition *TaskDefinition `json:"taskDefinition,omitempty"`
}

// DescribeTaskDefinitionRequest names "family", "family:revision" or an ARN; a
// bare family means its latest ACTIVE revision.
type DescribeTaskDefinitionRequest struct {
	TaskDefinition string   `json:"taskDefinition"`
	Include        []string `json:"include,omitzero"`
}

// DescribeTaskDefinitionResponse answers DescribeTaskDefinition.
type DescribeTaskDefinitionResponse struct {
	TaskDefinition *TaskDefinition `json:"taskDefinition,omitempty"`
	Tags           []Tag           `json:"tags"`
}

// ListTaskDefinitionsRequest pages through revisions.
type ListTaskDefinitionsRequest struct {
	FamilyPrefix string `json:"familyPrefix,omitempty"`
	Status       string `json:"status,omitempty"`
	Sort         string `json:"sort,omitempty"`
	NextToken    string `json:"nextToken,omitempty"`
	MaxResults   int    `json:"maxResults,omitempty"`
}

// ListTaskDefinitionsResponse answers ListTaskDefinitions.
type ListTaskDefinitionsResponse struct {
	TaskDefinitionARNs []string `json:"taskDefinitionArns"`
	NextToken          string   `json:"nextToken,omitempty"`
}

// ListTaskDefinitionFamiliesRequest pages through families.
type ListTaskDefinitionFamiliesRequest struct {
	FamilyPrefix string `json:"familyPrefix,omitempty"`
	Status       string `json:"status,omitempty"`
	NextToken    string `json:"nextToken,omitempty"`
	MaxResults   int    `json:"maxResults,omitempty"`
}

// ListTaskDefinitionFamiliesResponse answers ListTaskDefinitionFamilies.
type ListTaskDefinitionFamiliesResponse struct {
	Families  []string `json:"families"`
	NextToken string   `json:"nextToken,omitempty"`
}

// TaskDefinitionPlacementConstraint limits where tasks of a definition may run.
type TaskDefinitionPlacementConstraint struct {
	Type       string `json:"type,omitempty"`
	Expression string `json:"expression,omitempty"`
}

// RuntimePlatform names the processor and operating system family.
type RuntimePlatform struct {
	CPUArchitecture       string `json:"cpuArchitecture,omitempty"`
	OperatingSystemFamily string `json:"operatingSystemFamily,omitempty"`
}

// EphemeralStorage is the size of a Fargate task's disk.
type EphemeralStorage struct {
	SizeInGiB int `json:"sizeInGiB"`
}

// InferenceAccelerator is an elastic inference device.
type InferenceAccelerator struct {
	DeviceName string `json:"deviceName"`
	DeviceType string `json:"deviceType"`
}

// ProxyConfiguration is the App Mesh proxy of a task.
type ProxyConfiguration struct {
	Type          string         `json:"type,omitempty"`
	ContainerName string         `json:"containerName"`
	Properties    []KeyValuePair `json:"properties,omitzero"`
}

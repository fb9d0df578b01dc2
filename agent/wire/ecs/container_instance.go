package ecs

// VersionInfo names the agent and its container runtime. The ECS agent never
// sends it in a registration; the service learns it from the websocket query.
type VersionInfo struct {
	AgentVersion  string `json:"agentVersion,omitempty"`
	AgentHash     string `json:"agentHash,omitempty"`
	DockerVersion string `json:"dockerVersion,omitempty"`
}

// ContainerInstance is a registered host as the service shows it.
type ContainerInstance struct {
	ContainerInstanceARN string                         `json:"containerInstanceArn,omitempty"`
	EC2InstanceID        string                         `json:"ec2InstanceId,omitempty"`
	CapacityProviderName string                         `json:"capacityProviderName,omitempty"`
	Version              int64                          `json:"version"`
	VersionInfo          *VersionInfo                   `json:"versionInfo,omitempty"`
	RemainingResources   []Resource                     `json:"remainingResources,omitzero"`
	RegisteredResources  []Resource                     `json:"registeredResources,omitzero"`
	Status               string                         `json:"status,omitempty"`
	StatusReason         string                         `json:"statusReason,omitempty"`
	AgentConnected       bool                           `json:"agentConnected"`
	RunningTasksCount    int                            `json:"runningTasksCount"`
	PendingTasksCount    int                            `json:"pendingTasksCount"`
	AgentUpdateStatus    string                         `json:"agentUpdateStatus,omitempty"`
	Attributes           []Attribute                    `json:"attributes,omitzero"`
	RegisteredAt         Timestamp                      `json:"registeredAt,omitzero"`
	Attachments          []Attachment                   `json:"attachments,omitzero"`
	Tags                 []Tag                          `json:"tags,omitzero"`
	HealthStatus         *ContainerInstanceHealthStatus `json:"healthStatus,omitempty"`
}

// ContainerInstanceHealthStatus is the health an instance reported by
// PublishInstanceStatus.
type ContainerInstanceHealthStatus struct {
	OverallStatus string                      `json:"overallStatus,omitempty"`
	Details       []InstanceHealthCheckResult `json:"details,omitzero"`
}

// InstanceHealthCheckResult is the result of one health check of a host.
type InstanceHealthCheckResult struct {
	Type             string    `json:"type,omitempty"`
	Status           string    `json:"status,omitempty"`
	StatusReason     string    `json:"statusReason,omitempty"`
	LastUpdated      Timestamp `json:"lastUpdated,omitzero"`
	LastStatusChange Timestamp `json:"lastStatusChange,omitzero"`
}

// RegisterContainerInstanceRequest announces a host (spec control-plane §1.5).
// ContainerInstanceARN is set on re-registration only. ClientToken is not in the
// public model: a UUID kept over all retries of one registration.
type RegisterContainerInstanceRequest struct {
	Cluster                           string           `json:"cluster"`
	InstanceIdentityDocument          string           `json:"instanceIdentityDocument"`
	InstanceIdentityDocumentSignature string           `json:"instanceIdentityDocumentSignature"`
	TotalResources                    []Resource       `json:"totalResources"`
	VersionInfo                       *VersionInfo     `json:"versionInfo,omitempty"`
	ContainerInstanceARN              string           `json:"containerInstanceArn,omitempty"`
	Attributes                        []Attribute      `json:"attributes"`
	PlatformDevices                   []PlatformDevice `json:"platformDevices,omitempty"`
	Tags                              []Tag            `json:"tags,omitempty"`
	ClientToken                       string           `json:"clientToken,omitempty"`
}

// RegisterContainerInstanceResponse answers with the identity to keep on disk.
type RegisterContainerInstanceResponse struct {
	ContainerInstance *ContainerInstance `json:"containerInstance,omitempty"`
}

// DeregisterContainerInstanceRequest removes a host; Force also when tasks run.
type DeregisterContainerInstanceRequest struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance"`
	Force             bool   `json:"force,omitempty"`
}

// DeregisterContainerInstanceResponse answers DeregisterContainerInstance.
type DeregisterContainerInstanceResponse struct {
	ContainerInstance *ContainerInstance `json:"containerInstance,omitempty"`
}

// DescribeContainerInstancesRequest names up to 100 instances by id or ARN.
type DescribeContainerInstancesRequest struct {
	Cluster            string   `json:"cluster,omitempty"`
	ContainerInstances []string `json:"containerInstances"`
	Include            []string `json:"include,omitzero"`
}

// DescribeContainerInstancesResponse answers DescribeContainerInstances.
type DescribeContainerInstancesResponse struct {
	ContainerInstances []ContainerInstance `json:"containerInstances"`
	Failures           []Failure           `json:"failures"`
}

// ListContainerInstancesRequest pages through the instances of a cluster.
type ListContainerInstancesRequest struct {
	Cluster    string `json:"cluster,omitempty"`
	Filter     string `json:"filter,omitempty"`
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults int    `json:"maxResults,omitempty"`
	Status     string `json:"status,omitempty"`
}

// ListContainerInstancesResponse answers ListContainerInstances.
type ListContainerInstancesResponse struct {
	ContainerInstanceARNs []string `json:"containerInstanceArns"`
	NextToken             string   `json:"nextToken,omitempty"`
}

// UpdateContainerInstancesStateRequest sets instances ACTIVE or DRAINING. The
// agent itself calls it when a spot interruption is announced.
type UpdateContainerInstancesStateRequest struct {
	Cluster            string   `json:"cluster,omitempty"`
	ContainerInstances []string `json:"containerInstances"`
	Status             string   `json:"status"`
}

// UpdateContainerInstancesStateResponse answers UpdateContainerInstancesState.
type UpdateContainerInstancesStateResponse struct {
	ContainerInstances []ContainerInstance `json:"containerInstances"`
	Failures           []Failure           `json:"failures"`
}

// DiscoverPollEndpointRequest asks where the websockets are (spec control-plane
// §3). ZoneID is not in the public model; it is always sent, normally "".
type DiscoverPollEndpointRequest struct {
	ContainerInstance string `json:"containerInstance"`
	Cluster           string `json:"cluster"`
	ZoneID            string `json:"zoneId"`
}

// DiscoverPollEndpointResponse carries base URLs to which "ws?…" is appended.
// SystemLogsEndpoint is not in the public model.
type DiscoverPollEndpointResponse struct {
	Endpoint               string `json:"endpoint,omitempty"`
	TelemetryEndpoint      string `json:"telemetryEndpoint,omitempty"`
	ServiceConnectEndpoint string `json:"serviceConnectEndpoint,omitempty"`
	SystemLogsEndpoint     string `json:"systemLogsEndpoint,omitempty"`
}

package ecs

// Statuses of tasks and containers. Agents submit PENDING, RUNNING and STOPPED;
// the service shows the others between them.
const (
	StatusProvisioning   = "PROVISIONING"
	StatusPending        = "PENDING"
	StatusActivating     = "ACTIVATING"
	StatusRunning        = "RUNNING"
	StatusDeactivating   = "DEACTIVATING"
	StatusStopping       = "STOPPING"
	StatusDeprovisioning = "DEPROVISIONING"
	StatusStopped        = "STOPPED"
)

// Statuses of clusters, container instances and task definitions.
const (
	StatusActive   = "ACTIVE"
	StatusInactive = "INACTIVE"
	StatusDraining = "DRAINING"
)

// AttachmentAttached is the one status an agent reports of an attachment.
const AttachmentAttached = "ATTACHED"

// Names of registered resources (spec control-plane §1.6).
const (
	ResourceCPU      = "CPU"
	ResourceMemory   = "MEMORY"
	ResourcePorts    = "PORTS"
	ResourcePortsUDP = "PORTS_UDP"
	ResourceGPU      = "GPU"
)

// Types of registered resources: which value member is meant.
const (
	ResourceTypeInteger   = "INTEGER"
	ResourceTypeLong      = "LONG"
	ResourceTypeDouble    = "DOUBLE"
	ResourceTypeStringSet = "STRINGSET"
)

// Network modes; "" means bridge on Linux.
const (
	NetworkBridge = "bridge"
	NetworkHost   = "host"
	NetworkAWSVPC = "awsvpc"
	NetworkNone   = "none"
)

// Transport protocols of port mappings; "" means tcp.
const (
	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"
)

// Launch types.
const (
	LaunchEC2      = "EC2"
	LaunchExternal = "EXTERNAL"
	LaunchFargate  = "FARGATE"
)

// Health of containers, tasks and instances.
const (
	HealthHealthy   = "HEALTHY"
	HealthUnhealthy = "UNHEALTHY"
	HealthUnknown   = "UNKNOWN"
)

// Connectivity of the agent that runs a task.
const (
	ConnectivityConnected    = "CONNECTED"
	ConnectivityDisconnected = "DISCONNECTED"
)

// Stop codes: why a task stopped.
const (
	StopTaskFailedToStart        = "TaskFailedToStart"
	StopEssentialContainerExited = "EssentialContainerExited"
	StopUserInitiated            = "UserInitiated"
)

// Conditions of container dependencies.
const (
	ConditionStart    = "START"
	ConditionComplete = "COMPLETE"
	ConditionSuccess  = "SUCCESS"
	ConditionHealthy  = "HEALTHY"
)

// Reasons in Failure.
const (
	FailureMissing        = "MISSING"
	FailureInactive       = "INACTIVE"
	FailureAgent          = "AGENT"
	FailureAttribute      = "ATTRIBUTE"
	FailureLocation       = "LOCATION"
	FailureMemberOf       = "MemberOf placement constraint unsatisfied."
	FailureResourceCPU    = "RESOURCE:CPU"
	FailureResourceMemory = "RESOURCE:MEMORY"
	FailureResourcePorts  = "RESOURCE:PORTS"
	FailureResourceGPU    = "RESOURCE:GPU"
	FailureResourceENI    = "RESOURCE:ENI"
)

// IncludeTags in an include list adds tags to what a describe call shows.
const IncludeTags = "TAGS"

// Limits that both ends keep (spec control-plane §6.2), in bytes.
const (
	MaxReason      = 1024
	MaxRuntimeID   = 255
	MaxImageDigest = 255
)

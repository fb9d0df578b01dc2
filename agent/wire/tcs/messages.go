package tcs

// The types of the messages.
const (
	TypeHeartbeat             = "HeartbeatMessage"
	TypeAckMetric             = "AckPublishMetric"
	TypeAckHealth             = "AckPublishHealth"
	TypeAckInstanceStatus     = "AckPublishInstanceStatus"
	TypeStopSession           = "StopTelemetrySessionMessage"
	TypePublishMetrics        = "PublishMetricsRequest"
	TypePublishHealth         = "PublishHealthRequest"
	TypePublishInstanceStatus = "PublishInstanceStatusRequest"
)

// The kinds of Exception.
const (
	ServerException             = "ServerException"
	BadRequestException         = "BadRequestException"
	ResourceValidationException = "ResourceValidationException"
	InvalidParameterException   = "InvalidParameterException"
	InvalidClusterException     = "InvalidClusterException"
	InvalidInstanceException    = "InvalidInstanceException"
	AccessDeniedException       = "AccessDeniedException"
	InactiveInstanceException   = "InactiveInstanceException"
)

// MaxTasks is how many tasks one message may carry, and MaxMessage how many
// bytes of JSON (§5.5).
const (
	MaxTasks   = 10
	MaxMessage = 1 << 20
)

// HeartbeatMessage is not answered.
type HeartbeatMessage struct {
	Healthy bool `json:"healthy"`
}

// MessageType is TypeHeartbeat.
func (*HeartbeatMessage) MessageType() string { return TypeHeartbeat }

// Ack says that a message arrived; Kind says which kind of message. It does not
// say which one.
type Ack struct {
	Kind    string `json:"-"`
	Message string `json:"message,omitempty"`
}

// MessageType is the kind.
func (a *Ack) MessageType() string { return a.Kind }

// StopTelemetrySessionMessage announces the end of the session.
type StopTelemetrySessionMessage struct {
	Message string `json:"message,omitempty"`
}

// MessageType is TypeStopSession.
func (*StopTelemetrySessionMessage) MessageType() string { return TypeStopSession }

// Exception is an error of the service.
type Exception struct {
	Kind    string `json:"-"`
	Message string `json:"message,omitempty"`
}

// MessageType is the kind.
func (e *Exception) MessageType() string { return e.Kind }

// Error is "kind: message".
func (e *Exception) Error() string { return e.Kind + ": " + e.Message }

// PublishHealthRequest carries the health of containers that have a check
// (§5.6).
type PublishHealthRequest struct {
	Metadata  HealthMetadata `json:"metadata"`
	Tasks     []TaskHealth   `json:"tasks,omitzero"`
	Timestamp Timestamp      `json:"timestamp,omitzero"`
}

// MessageType is TypePublishHealth.
func (*PublishHealthRequest) MessageType() string { return TypePublishHealth }

// HealthMetadata says whose health it is; Fin marks the last message of a
// cycle.
type HealthMetadata struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	Fin               bool   `json:"fin"`
	MessageID         string `json:"messageId,omitempty"`
}

// TaskHealth is the health of one task's containers.
type TaskHealth struct {
	TaskARN               string            `json:"taskArn,omitempty"`
	TaskDefinitionFamily  string            `json:"taskDefinitionFamily,omitempty"`
	TaskDefinitionVersion string            `json:"taskDefinitionVersion,omitempty"`
	ClusterARN            string            `json:"clusterArn,omitempty"`
	Containers            []ContainerHealth `json:"containers,omitzero"`
}

// ContainerHealth is the health of a container: HEALTHY, UNHEALTHY or UNKNOWN.
type ContainerHealth struct {
	ContainerName string    `json:"containerName,omitempty"`
	HealthStatus  string    `json:"healthStatus,omitempty"`
	StatusSince   Timestamp `json:"statusSince,omitzero"`
	StatusMessage string    `json:"statusMessage,omitempty"`
}

// PublishInstanceStatusRequest carries the health of the host itself (§5.7).
type PublishInstanceStatusRequest struct {
	Metadata  InstanceStatusMetadata `json:"metadata"`
	Statuses  []InstanceStatus       `json:"statuses,omitzero"`
	Timestamp Timestamp              `json:"timestamp,omitzero"`
}

// MessageType is TypePublishInstanceStatus.
func (*PublishInstanceStatusRequest) MessageType() string { return TypePublishInstanceStatus }

// InstanceStatusMetadata says whose status it is.
type InstanceStatusMetadata struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	RequestID         string `json:"requestId,omitempty"`
}

// InstanceStatus is the result of one check of the host.
type InstanceStatus struct {
	Type             string    `json:"type,omitempty"`
	Status           string    `json:"status,omitempty"`
	StatusReason     string    `json:"statusReason,omitempty"`
	LastUpdated      Timestamp `json:"lastUpdated,omitzero"`
	LastStatusChange Timestamp `json:"lastStatusChange,omitzero"`
}

// The only check an EC2 host reports, and what its result may be.
const (
	CheckContainerRuntime  = "ContainerRuntime"
	StatusOK               = "OK"
	StatusImpaired         = "IMPAIRED"
	StatusInsufficientData = "INSUFFICIENT_DATA"
	StatusInitializing     = "INITIALIZING"
)

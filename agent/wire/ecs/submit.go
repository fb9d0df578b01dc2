package ecs

// SubmitTaskStateChangeRequest reports a task and its containers (spec
// control-plane §6.2). With a Status the reason is always on the wire; without
// one this is the attachment form, which has only cluster, task and attachments.
type SubmitTaskStateChangeRequest struct {
	Cluster            string                    `json:"cluster,omitempty"`
	Task               string                    `json:"task,omitempty"`
	Status             string                    `json:"status,omitempty"`
	Reason             string                    `json:"reason,omitempty"`
	Containers         []ContainerStateChange    `json:"containers,omitempty"`
	Attachments        []AttachmentStateChange   `json:"attachments,omitempty"`
	ManagedAgents      []ManagedAgentStateChange `json:"managedAgents,omitempty"`
	PullStartedAt      Timestamp                 `json:"pullStartedAt,omitzero"`
	PullStoppedAt      Timestamp                 `json:"pullStoppedAt,omitzero"`
	ExecutionStoppedAt Timestamp                 `json:"executionStoppedAt,omitzero"`
}

// SubmitTaskStateChangeResponse answers SubmitTaskStateChange; agents ignore it.
type SubmitTaskStateChangeResponse struct {
	Acknowledgment string `json:"acknowledgment,omitempty"`
}

// ContainerStateChange is the new state of one container. ExitCode is nil while
// unknown; NetworkBindings is sent as [] when there are none.
type ContainerStateChange struct {
	ContainerName   string           `json:"containerName,omitempty"`
	ImageDigest     string           `json:"imageDigest,omitempty"`
	RuntimeID       string           `json:"runtimeId,omitempty"`
	ExitCode        *int             `json:"exitCode,omitempty"`
	NetworkBindings []NetworkBinding `json:"networkBindings"`
	Reason          string           `json:"reason,omitempty"`
	Status          string           `json:"status,omitempty"`
}

// AttachmentStateChange reports an attachment by ARN; only ATTACHED is sent.
type AttachmentStateChange struct {
	AttachmentARN string `json:"attachmentArn"`
	Status        string `json:"status"`
}

// ManagedAgentStateChange reports the execute-command agent of a container.
// Reason is always on the wire.
type ManagedAgentStateChange struct {
	ContainerName    string `json:"containerName"`
	ManagedAgentName string `json:"managedAgentName"`
	Status           string `json:"status"`
	Reason           string `json:"reason"`
}

// SubmitContainerStateChangeRequest reports one container. Agents of today put
// it into SubmitTaskStateChange instead (spec control-plane §6.6).
type SubmitContainerStateChangeRequest struct {
	Cluster         string           `json:"cluster,omitempty"`
	Task            string           `json:"task,omitempty"`
	ContainerName   string           `json:"containerName,omitempty"`
	RuntimeID       string           `json:"runtimeId,omitempty"`
	Status          string           `json:"status,omitempty"`
	ExitCode        *int             `json:"exitCode,omitempty"`
	Reason          string           `json:"reason,omitempty"`
	NetworkBindings []NetworkBinding `json:"networkBindings,omitzero"`
}

// SubmitContainerStateChangeResponse answers SubmitContainerStateChange.
type SubmitContainerStateChangeResponse struct {
	Acknowledgment string `json:"acknowledgment,omitempty"`
}

// SubmitAttachmentStateChangesRequest reports volumes and instance network
// interfaces, one per call (spec control-plane §6.5).
type SubmitAttachmentStateChangesRequest struct {
	Cluster     string                  `json:"cluster,omitempty"`
	Attachments []AttachmentStateChange `json:"attachments"`
}

// SubmitAttachmentStateChangesResponse answers SubmitAttachmentStateChanges.
type SubmitAttachmentStateChangesResponse struct {
	Acknowledgment string `json:"acknowledgment,omitempty"`
}

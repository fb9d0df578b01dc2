package acs

import "encoding/json"

// The types of the messages, spec/control-plane.md §4.3.
const (
	TypeHeartbeat           = "HeartbeatMessage"
	TypeHeartbeatAck        = "HeartbeatAckRequest"
	TypePayload             = "PayloadMessage"
	TypeClose               = "CloseMessage"
	TypeError               = "ErrorMessage"
	TypeAck                 = "AckRequest"
	TypeNack                = "NackRequest"
	TypePerformUpdate       = "PerformUpdateMessage"
	TypeStageUpdate         = "StageUpdateMessage"
	TypeCredentials         = "IAMRoleCredentialsMessage"
	TypeCredentialsAck      = "IAMRoleCredentialsAckRequest"
	TypeAttachTask          = "AttachTaskNetworkInterfacesMessage"
	TypeAttachInstance      = "AttachInstanceNetworkInterfacesMessage"
	TypeConfirmAttachment   = "ConfirmAttachmentMessage"
	TypeManifest            = "TaskManifestMessage"
	TypeStopVerification    = "TaskStopVerificationMessage"
	TypeStopVerificationAck = "TaskStopVerificationAck"
)

// The kinds of Exception. They come as frames on an open socket, as the body of
// a refused upgrade, and in the text of a close frame.
const (
	ServerException           = "ServerException"
	BadRequestException       = "BadRequestException"
	InvalidClusterException   = "InvalidClusterException"
	InvalidInstanceException  = "InvalidInstanceException"
	AccessDeniedException     = "AccessDeniedException"
	InactiveInstanceException = "InactiveInstanceException"
)

// Exception is an error of the service. It is an error of the agent too when an
// upgrade was refused with it.
type Exception struct {
	Kind    string `json:"-"`
	Message string `json:"message,omitempty"`
}

// MessageType is the kind.
func (e *Exception) MessageType() string { return e.Kind }

// Error is "kind: message".
func (e *Exception) Error() string { return e.Kind + ": " + e.Message }

// DecodeRefusal reads the body of a refused upgrade, of which the caller keeps
// the first 1024 bytes: either an ordinary frame or {"<kind>":"text"}. It
// answers nil when the body is neither.
func DecodeRefusal(body []byte) *Exception {
	m, _ := Decode(body)
	if e, ok := m.(*Exception); ok {
		return e
	}
	var flat map[string]json.RawMessage
	_ = json.Unmarshal(body, &flat) // What is no object has no members.
	for _, kind := range []string{
		InactiveInstanceException, InvalidInstanceException, InvalidClusterException,
		AccessDeniedException, BadRequestException, ServerException,
	} {
		raw, ok := flat[kind]
		if !ok {
			continue
		}
		e := &Exception{Kind: kind}
		if json.Unmarshal(raw, &e.Message) != nil {
			e.Message = string(raw)
		}
		return e
	}
	return nil
}

// HeartbeatMessage must be answered with a HeartbeatAckRequest of the same id.
type HeartbeatMessage struct {
	MessageID string `json:"messageId,omitempty"`
	Healthy   bool   `json:"healthy"`
}

// MessageType is TypeHeartbeat.
func (*HeartbeatMessage) MessageType() string { return TypeHeartbeat }

// HeartbeatAckRequest answers a HeartbeatMessage.
type HeartbeatAckRequest struct {
	MessageID string `json:"messageId,omitempty"`
}

// MessageType is TypeHeartbeatAck.
func (*HeartbeatAckRequest) MessageType() string { return TypeHeartbeatAck }

// AckRequest says that a message was carried out. Cluster and instance are
// copied from that message.
type AckRequest struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	MessageID         string `json:"messageId,omitempty"`
}

// MessageType is TypeAck.
func (*AckRequest) MessageType() string { return TypeAck }

// NackRequest refuses a message; only update messages are refused so.
type NackRequest struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	MessageID         string `json:"messageId,omitempty"`
	Reason            string `json:"reason,omitempty"`
}

// MessageType is TypeNack.
func (*NackRequest) MessageType() string { return TypeNack }

// CloseMessage announces that the service is going to close the connection.
type CloseMessage struct {
	Message string `json:"message,omitempty"`
}

// MessageType is TypeClose.
func (*CloseMessage) MessageType() string { return TypeClose }

// ErrorMessage complains about something the agent sent.
type ErrorMessage struct {
	Message string `json:"message,omitempty"`
}

// MessageType is TypeError.
func (*ErrorMessage) MessageType() string { return TypeError }

// UpdateInfo says where an agent update is; Signature is the SHA-256 of the
// file in hexadecimal.
type UpdateInfo struct {
	Location  string `json:"location,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// StageUpdateMessage asks for an update to be fetched.
type StageUpdateMessage struct {
	MessageID            string      `json:"messageId,omitempty"`
	ClusterARN           string      `json:"clusterArn,omitempty"`
	ContainerInstanceARN string      `json:"containerInstanceArn,omitempty"`
	UpdateInfo           *UpdateInfo `json:"updateInfo,omitempty"`
}

// MessageType is TypeStageUpdate.
func (*StageUpdateMessage) MessageType() string { return TypeStageUpdate }

// PerformUpdateMessage asks for the staged update to be put in place.
type PerformUpdateMessage struct {
	MessageID            string      `json:"messageId,omitempty"`
	ClusterARN           string      `json:"clusterArn,omitempty"`
	ContainerInstanceARN string      `json:"containerInstanceArn,omitempty"`
	UpdateInfo           *UpdateInfo `json:"updateInfo,omitempty"`
}

// MessageType is TypePerformUpdate.
func (*PerformUpdateMessage) MessageType() string { return TypePerformUpdate }

// ManifestTask is one line of a manifest, and one task to be stopped.
type ManifestTask struct {
	TaskARN        string `json:"taskArn,omitempty"`
	TaskClusterARN string `json:"taskClusterArn,omitempty"`
	DesiredStatus  string `json:"desiredStatus,omitempty"`
}

// TaskManifestMessage lists every task the service believes to be here (§4.9).
type TaskManifestMessage struct {
	MessageID            string         `json:"messageId,omitempty"`
	ClusterARN           string         `json:"clusterArn,omitempty"`
	ContainerInstanceARN string         `json:"containerInstanceArn,omitempty"`
	GeneratedAt          int64          `json:"generatedAt,omitempty"`
	Timeline             int64          `json:"timeline,omitempty"`
	Tasks                []ManifestTask `json:"tasks,omitzero"`
}

// MessageType is TypeManifest.
func (*TaskManifestMessage) MessageType() string { return TypeManifest }

// TaskStopVerificationMessage asks whether the tasks that run here and are not
// in the manifest really are to be stopped.
type TaskStopVerificationMessage struct {
	MessageID      string         `json:"messageId,omitempty"`
	StopCandidates []ManifestTask `json:"stopCandidates,omitzero"`
}

// MessageType is TypeStopVerification.
func (*TaskStopVerificationMessage) MessageType() string { return TypeStopVerification }

// TaskStopVerificationAck says which of the candidates to stop.
type TaskStopVerificationAck struct {
	MessageID   string         `json:"messageId,omitempty"`
	GeneratedAt int64          `json:"generatedAt,omitempty"`
	StopTasks   []ManifestTask `json:"stopTasks,omitzero"`
}

// MessageType is TypeStopVerificationAck.
func (*TaskStopVerificationAck) MessageType() string { return TypeStopVerificationAck }

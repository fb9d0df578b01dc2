package acs

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Message is one ACS message, in either direction. Decode answers pointers to
// the types of this package.
type Message interface {
	// MessageType is the "type" member of the frame.
	MessageType() string
}

// UnknownTypeError says that a frame has a type this package does not know.
type UnknownTypeError struct{ Type string }

// Error names the type.
func (e *UnknownTypeError) Error() string { return fmt.Sprintf("unknown message type %q", e.Type) }

// FieldError says which member of a message has a value that cannot be used.
type FieldError struct {
	// Path leads to the member: "tasks[0].containers[1].portMappings[0].protocol".
	Path string
	// Problem says in words what is wrong with it.
	Problem string
}

// Error is "path: problem".
func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

type envelope struct {
	Type    string          `json:"type"`
	Message json.RawMessage `json:"message,omitempty"`
}

// Encode makes the frame of a message.
func Encode(m Message) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.MessageType(), err)
	}
	frame, err := json.Marshal(envelope{Type: m.MessageType(), Message: body})
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.MessageType(), err)
	}
	return frame, nil
}

// Decode reads a frame. The error matches *UnknownTypeError for a type that is
// not known, and *FieldError for a member of the wrong JSON type.
func Decode(frame []byte) (Message, error) {
	var env envelope
	if err := json.Unmarshal(frame, &env); err != nil {
		return nil, fmt.Errorf("cannot decode frame: %w", err)
	}
	m := newMessage(env.Type)
	if m == nil {
		return nil, &UnknownTypeError{Type: env.Type}
	}
	if len(env.Message) == 0 || string(env.Message) == "null" {
		return m, nil
	}
	if err := unmarshal(env.Message, m, ""); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", env.Type, err)
	}
	return m, nil
}

// newMessage is the table of types; nil for an unknown one.
func newMessage(typ string) Message {
	switch typ {
	case TypeHeartbeat:
		return new(HeartbeatMessage)
	case TypeHeartbeatAck:
		return new(HeartbeatAckRequest)
	case TypePayload:
		return new(PayloadMessage)
	case TypeClose:
		return new(CloseMessage)
	case TypeError:
		return new(ErrorMessage)
	case TypeAck:
		return new(AckRequest)
	case TypeNack:
		return new(NackRequest)
	case TypePerformUpdate:
		return new(PerformUpdateMessage)
	case TypeStageUpdate:
		return new(StageUpdateMessage)
	case TypeCredentials:
		return new(IAMRoleCredentialsMessage)
	case TypeCredentialsAck:
		return new(IAMRoleCredentialsAckRequest)
	case TypeAttachTask:
		return new(AttachTaskNetworkInterfacesMessage)
	case TypeAttachInstance:
		return new(AttachInstanceNetworkInterfacesMessage)
	case TypeConfirmAttachment:
		return new(ConfirmAttachmentMessage)
	case TypeManifest:
		return new(TaskManifestMessage)
	case TypeStopVerification:
		return new(TaskStopVerificationMessage)
	case TypeStopVerificationAck:
		return new(TaskStopVerificationAck)
	case ServerException, BadRequestException, InvalidClusterException,
		InvalidInstanceException, AccessDeniedException, InactiveInstanceException:
		return &Exception{Kind: typ}
	}
	return nil
}

// unmarshal is json.Unmarshal with an error that says where, below prefix.
func unmarshal(data []byte, v any, prefix string) error {
	err := json.Unmarshal(data, v)
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &FieldError{
			Path:    join(prefix, pathAt(data, te.Offset)),
			Problem: fmt.Sprintf("a JSON %s does not fit %s", te.Value, te.Type),
		}
	}
	return err
}

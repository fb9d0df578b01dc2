package acs

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/berthd/berth/agent/wire/envelope"
)

// Message is one ACS message, in either direction. Decode answers pointers to
// the types of this package.
type Message = envelope.Message

// UnknownTypeError says that a frame has a type this package does not know.
type UnknownTypeError = envelope.UnknownTypeError

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

// Encode makes the frame of a message.
func Encode(m Message) ([]byte, error) { return envelope.Encode(m) }

// Decode reads a frame. The error matches *UnknownTypeError for a type that is
// not known, and *FieldError for a member of the wrong JSON type.
func Decode(frame []byte) (Message, error) {
	return envelope.Decode(frame, newMessage, func(data []byte, v any) error { return unmarshal(data, v, "") })
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

package tcs

import (
	"encoding/json"
	"fmt"
)

// Message is one TCS message, in either direction. Decode answers pointers to
// the types of this package.
type Message interface {
	// MessageType is the "type" member of the frame.
	MessageType() string
}

// UnknownTypeError says that a frame has a type this package does not know.
type UnknownTypeError struct{ Type string }

// Error names the type.
func (e *UnknownTypeError) Error() string { return fmt.Sprintf("unknown message type %q", e.Type) }

type envelope struct {
	Type    string          `json:"type"`
	Message json.RawMessage `json:"message,omitempty"`
}

// Encode makes the JSON envelope of a message.
func Encode(m Message) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.MessageType(), err)
	}
	out, err := json.Marshal(envelope{Type: m.MessageType(), Message: body})
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.MessageType(), err)
	}
	return out, nil
}

// Decode reads an envelope. The error matches *UnknownTypeError for a type that
// is not known.
func Decode(data []byte) (Message, error) {
	var env envelope
	if err := json.Unmarshal(data, &env); err != nil {
		return nil, fmt.Errorf("cannot decode envelope: %w", err)
	}
	m := newMessage(env.Type)
	if m == nil {
		return nil, &UnknownTypeError{Type: env.Type}
	}
	if len(env.Message) == 0 || string(env.Message) == "null" {
		return m, nil
	}
	if err := json.Unmarshal(env.Message, m); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", env.Type, err)
	}
	return m, nil
}

func newMessage(typ string) Message {
	switch typ {
	case TypeHeartbeat:
		return new(HeartbeatMessage)
	case TypeAckMetric, TypeAckHealth, TypeAckInstanceStatus:
		return &Ack{Kind: typ}
	case TypeStopSession:
		return new(StopTelemetrySessionMessage)
	case TypePublishMetrics:
		return new(PublishMetricsRequest)
	case TypePublishHealth:
		return new(PublishHealthRequest)
	case TypePublishInstanceStatus:
		return new(PublishInstanceStatusRequest)
	case ServerException, BadRequestException, ResourceValidationException, InvalidParameterException,
		InvalidClusterException, InvalidInstanceException, AccessDeniedException, InactiveInstanceException:
		return &Exception{Kind: typ}
	}
	return nil
}

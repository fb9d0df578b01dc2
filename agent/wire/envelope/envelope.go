// Package envelope is the frame that ACS and TCS wrap their messages in: a JSON
// object with the message's type beside the message (spec/control-plane.md §4.3,
// §5.3).
package envelope

import (
	"encoding/json"
	"fmt"
)

// Message is one message, in either direction.
type Message interface {
	// MessageType is the "type" member of the frame.
	MessageType() string
}

// UnknownTypeError says that a frame has a type that its package does not know.
type UnknownTypeError struct{ Type string }

// Error names the type.
func (e *UnknownTypeError) Error() string { return fmt.Sprintf("unknown message type %q", e.Type) }

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

// Decode reads a frame. table answers a pointer to an empty message of a type,
// nil for an unknown one, whose error matches *UnknownTypeError; unmarshal fills
// it, as json.Unmarshal does.
func Decode(frame []byte, table func(typ string) Message, unmarshal func([]byte, any) error) (Message, error) {
	var env envelope
	if err := json.Unmarshal(frame, &env); err != nil {
		return nil, fmt.Errorf("cannot decode frame: %w", err)
	}
	m := table(env.Type)
	if m == nil {
		return nil, &UnknownTypeError{Type: env.Type}
	}
	if len(env.Message) == 0 || string(env.Message) == "null" {
		return m, nil
	}
	if err := unmarshal(env.Message, m); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", env.Type, err)
	}
	return m, nil
}

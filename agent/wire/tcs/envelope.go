package tcs

import (
	"encoding/json"

	"github.com/berthd/berth/agent/wire/envelope"
)

// Message is one TCS message, in either direction. Decode answers pointers to
// the types of this package.
type Message = envelope.Message

// UnknownTypeError says that a frame has a type this package does not know.
type UnknownTypeError = envelope.UnknownTypeError

// Encode makes the JSON envelope of a message.
func Encode(m Message) ([]byte, error) { return envelope.Encode(m) }

// Decode reads an envelope. The error matches *UnknownTypeError for a type that
// is not known.
func Decode(data []byte) (Message, error) {
	return envelope.Decode(data, newMessage, json.Unmarshal)
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

package ecs

import (
	"encoding/json"
	"strings"
)

// Error types of the ECS API that berth sends or tells apart.
const (
	ErrTypeAccessDenied               = "AccessDeniedException"
	ErrTypeBlocked                    = "BlockedException"
	ErrTypeClient                     = "ClientException"
	ErrTypeClusterContainsInstances   = "ClusterContainsContainerInstancesException"
	ErrTypeClusterContainsTasks       = "ClusterContainsTasksException"
	ErrTypeClusterNotFound            = "ClusterNotFoundException"
	ErrTypeConflict                   = "ConflictException"
	ErrTypeInvalidParameter           = "InvalidParameterException"
	ErrTypeInvalidSignature           = "InvalidSignatureException"
	ErrTypeIncompleteSignature        = "IncompleteSignatureException"
	ErrTypeMissingAuthenticationToken = "MissingAuthenticationTokenException"
	ErrTypeLimitExceeded              = "LimitExceededException"
	ErrTypeMissingVersion             = "MissingVersionException"
	ErrTypeNoUpdateAvailable          = "NoUpdateAvailableException"
	ErrTypeResourceNotFound           = "ResourceNotFoundException"
	ErrTypeSerialization              = "SerializationException"
	ErrTypeServer                     = "ServerException"
	ErrTypeTargetNotConnected         = "TargetNotConnectedException"
	ErrTypeTargetNotFound             = "TargetNotFoundException"
	ErrTypeThrottling                 = "ThrottlingException"
	ErrTypeUnknownOperation           = "UnknownOperationException"
	ErrTypeUpdateInProgress           = "UpdateInProgressException"
	ErrTypeUnrecognizedClient         = "UnrecognizedClientException"
)

// Error is an error answer of the ECS API. Two Errors match under errors.Is
// when their types are the same and the target has no message of its own.
type Error struct {
	// Type is the bare name, such as ClientException.
	Type string
	// Message is for people.
	Message string
}

// Error gives "Type: message".
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Type
	}
	return e.Type + ": " + e.Message
}

// Is reports whether target is an Error of the same type, and of the same
// message if target has one.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && e.Type == other.Type && (other.Message == "" || e.Message == other.Message)
}

// MarshalJSON writes the body {"__type", "message"}.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{e.Type, e.Message})
}

// ParseError reads the body of an error answer. header is the value of
// ErrorTypeHeader, which wins over the body; either may carry a namespace
// before "#" and an address after ":", which are dropped. A body that is not
// JSON becomes the message, cut to MaxReason bytes.
func ParseError(header string, body []byte) *Error {
	var parsed struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"` // Some services write Message; names match in any case.
	}
	out := &Error{Type: bareType(header)}
	if err := json.Unmarshal(body, &parsed); err != nil {
		out.Message = strings.ToValidUTF8(string(body[:min(len(body), MaxReason)]), "\uFFFD")
		return out
	}
	out.Message = parsed.Message
	for _, candidate := range []string{parsed.Type, parsed.Code} {
		if out.Type == "" {
			out.Type = bareType(candidate)
		}
	}
	return out
}

func bareType(s string) string {
	if i := strings.LastIndexByte(s, '#'); i >= 0 {
		s = s[i+1:]
	}
	s, _, _ = strings.Cut(s, ":")
	return strings.TrimSpace(s)
}

package ecs

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Decode reads the body of a call into v. An empty body counts as {}. What
// cannot be read comes back as an *Error of type SerializationException that
// names the member at fault where it is known.
func Decode(body []byte, v any) error {
	if len(body) == 0 {
		body = []byte("{}")
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	var typeErr *json.UnmarshalTypeError
	var syntaxErr *json.SyntaxError
	switch {
	case errors.As(err, &typeErr):
		field := typeErr.Field
		if field == "" {
			field = "body"
		}
		return &Error{ErrTypeSerialization, fmt.Sprintf("%s: a JSON %s is not acceptable here, need %s", field, typeErr.Value, typeErr.Type)}
	case errors.As(err, &syntaxErr):
		return &Error{ErrTypeSerialization, fmt.Sprintf("body is not JSON at byte %d: %v", syntaxErr.Offset, syntaxErr)}
	default:
		return &Error{ErrTypeSerialization, err.Error()}
	}
}

// MarshalJSON writes reason even when it is empty, except in the attachment
// form, which has neither status nor reason.
func (r SubmitTaskStateChangeRequest) MarshalJSON() ([]byte, error) {
	type plain SubmitTaskStateChangeRequest
	if r.Status == "" {
		return json.Marshal(plain(r))
	}
	return json.Marshal(struct {
		plain
		Reason string `json:"reason"`
	}{plain(r), r.Reason})
}

// MarshalJSON writes absent network bindings as [], as agents do.
func (c ContainerStateChange) MarshalJSON() ([]byte, error) {
	type plain ContainerStateChange
	if c.NetworkBindings == nil {
		c.NetworkBindings = []NetworkBinding{}
	}
	return json.Marshal(plain(c))
}

// Cut shortens s to at most limit bytes without splitting a character.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xC0 == 0x80 {
		limit--
	}
	return s[:limit]
}

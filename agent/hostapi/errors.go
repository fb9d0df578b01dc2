package hostapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Codes of Error. They are stable; the messages are for people and may change.
const (
	CodeNotFound    = "NotFound"
	CodeAmbiguous   = "Ambiguous"   // a task prefix fits several tasks
	CodeInvalid     = "Invalid"     // the request itself is wrong
	CodeConflict    = "Conflict"    // not in a state for that
	CodeUnavailable = "Unavailable" // trying again can help
	CodeNotProvided = "NotProvided" // this agent cannot do that at all
	CodeInternal    = "Internal"
	CodeUnreachable = "Unreachable" // made by the client: nobody listens at the socket
	CodeForbidden   = "Forbidden"   // the socket may not be opened, or not for that
)

// Error is a failure as the API tells it. The client returns it, so callers can use errors.As and look at Code.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint is what a person can do about it, often a command.
	Hint string `json:"hint,omitempty"`
	// Candidates are the ids of the tasks that an ambiguous prefix fits.
	Candidates []string `json:"candidates,omitempty"`
}

// Error answers the message; the hint is printed apart.
func (e *Error) Error() string { return e.Message }

// Is lets errors.Is find the kind that a provider answered with on the other side of the socket.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == CodeNotFound
	case ErrConflict:
		return e.Code == CodeConflict
	case ErrInvalid:
		return e.Code == CodeInvalid || e.Code == CodeAmbiguous
	case ErrUnavailable:
		return e.Code == CodeUnavailable || e.Code == CodeUnreachable
	default:
		return false
	}
}

// envelope is the body of every failure.
type envelope struct {
	Error *Error `json:"error"`
}

// asError turns whatever a provider returned into what the API tells.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	code := CodeInternal
	switch {
	case errors.Is(err, ErrNotFound):
		code = CodeNotFound
	case errors.Is(err, ErrConflict):
		code = CodeConflict
	case errors.Is(err, ErrInvalid):
		code = CodeInvalid
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		code = CodeUnavailable
	}
	return &Error{Code: code, Message: err.Error()}
}

func (e *Error) status() int {
	switch e.Code {
	case CodeNotFound:
		return http.StatusNotFound
	case CodeAmbiguous, CodeConflict:
		return http.StatusConflict
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotProvided:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

func notProvided(what string) *Error {
	return &Error{Code: CodeNotProvided, Message: "this agent does not serve " + what}
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	writeJSON(w, e.status(), envelope{e})
}

// writeJSON ignores a failed write: the caller is gone, and there is nobody left to tell.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

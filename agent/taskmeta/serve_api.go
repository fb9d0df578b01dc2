package taskmeta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/wire/ecs"
)

// Protection asks ECS about a task's scale-in protection, signed with the keys
// of the task's own role.
type Protection interface {
	GetProtection(ctx context.Context, keys credentials.Set, r *ecs.GetTaskProtectionRequest) (*ecs.GetTaskProtectionResponse, error)
	UpdateProtection(ctx context.Context, keys credentials.Set, r *ecs.UpdateTaskProtectionRequest) (*ecs.UpdateTaskProtectionResponse, error)
}

// maxBody is the longest request that is read.
const maxBody = 64 << 10

// The kinds of errors that are the agent's own, spec/host.md §1.16.
const (
	codeInvalid  = "InvalidParameterException"
	codeNotFound = "ResourceNotFoundException"
	codeServer   = "ServerException"
	codeDenied   = "AccessDeniedException"
	codeCanceled = "RequestCanceled"
)

// serveAPI serves what is below /api/ID. It acts for the task, so it is the
// task's alone: another caller is told that there is no such id.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, id, tail string) {
	t, _, known := s.cfg.Index.Container(id)
	if known {
		ours, err := callerOf(r).belongs(s, t)
		if err != nil {
			s.log.Error("cannot tell who asks to act for a task; it is refused", zap.String("task", t.definition().ID), zap.Error(err))
		}
		if !ours {
			t = nil
		}
	}
	parts := strings.Split(tail, "/")
	switch {
	case tail == "/task-protection/v1/state" && s.cfg.Protection != nil:
		s.protection(w, r, t)
	case len(parts) == 5 && parts[1] == "fault" && parts[2] == "v1" && s.cfg.Faults != nil:
		s.fault(w, r, faultRequest{id: id, task: t, kind: parts[3], action: parts[4]})
	default:
		http.NotFound(w, r)
	}
}

func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	w.WriteHeader(http.StatusMethodNotAllowed)
}

// protectionShape is the answer about protection: one of its members is set.
type protectionShape struct {
	RequestID  string           `json:"requestID,omitempty"`
	Protection *protectionState `json:"protection,omitempty"`
	Failure    *failureShape    `json:"failure,omitempty"`
	Error      *errorShape      `json:"error,omitempty"`
}

type protectionState struct {
	ExpirationDate    *string
	ProtectionEnabled bool
	TaskArn           string
}

type failureShape struct {
	Arn    string `json:",omitempty"`
	Detail string `json:",omitempty"`
	Reason string `json:",omitempty"`
}

type errorShape struct {
	Arn     string `json:",omitempty"`
	Code    string
	Message string
}

// protection serves GET and PUT of a task's scale-in protection.
func (s *Server) protection(w http.ResponseWriter, r *http.Request, t *Task) {
	if r.Method != http.MethodGet && r.Method != http.MethodPut {
		methodNotAllowed(w, "GET, PUT")
		return
	}
	refuse := func(status int, arn, code, message string) {
		writeJSON(w, status, protectionShape{Error: &errorShape{arn, code, message}})
	}
	var wanted struct {
		ProtectionEnabled *bool
		ExpiresInMinutes  *int
	}
	if r.Method == http.MethodPut {
		if err := decodeStrictly(r.Body, &wanted); err != nil {
			refuse(http.StatusBadRequest, "", codeInvalid, "UpdateTaskProtection: failed to decode request")
			return
		}
		if wanted.ProtectionEnabled == nil {
			refuse(http.StatusBadRequest, "", codeInvalid, "Invalid request: does not contain 'ProtectionEnabled' field")
			return
		}
	}
	if t == nil {
		refuse(http.StatusNotFound, "", codeNotFound, "Failed to find a task for the request")
		return
	}
	arn := t.definition().ARN
	keys, state := s.cfg.Credentials.Get(t.definition().RoleID)
	if state != credentials.Here {
		refuse(http.StatusForbidden, arn, codeDenied, "Invalid Request: no task IAM role credentials available for task")
		return
	}
	// A caller that has closed its half of the connection waits for the answer all the same.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), askECS, errSlow)
	defer cancel()
	var (
		tasks    []ecs.ProtectedTask
		failures []ecs.Failure
		err      error
	)
	cluster := s.cfg.Host().Cluster
	if r.Method == http.MethodGet {
		var out *ecs.GetTaskProtectionResponse
		if out, err = s.cfg.Protection.GetProtection(ctx, keys, &ecs.GetTaskProtectionRequest{Cluster: cluster, Tasks: []string{arn}}); err == nil {
			tasks, failures = out.ProtectedTasks, out.Failures
		}
	} else {
		var out *ecs.UpdateTaskProtectionResponse
		if out, err = s.cfg.Protection.UpdateProtection(ctx, keys, &ecs.UpdateTaskProtectionRequest{
			Cluster: cluster, Tasks: []string{arn}, ProtectionEnabled: *wanted.ProtectionEnabled, ExpiresInMinutes: wanted.ExpiresInMinutes,
		}); err == nil {
			tasks, failures = out.ProtectedTasks, out.Failures
		}
	}
	if err != nil {
		s.protectionFailed(ctx, w, arn, err)
		return
	}
	answerProtection(w, arn, tasks, failures)
}

// answerProtection puts what ECS answered into our shape.
func answerProtection(w http.ResponseWriter, arn string, tasks []ecs.ProtectedTask, failures []ecs.Failure) {
	switch {
	case len(failures) == 1 && len(tasks) == 0:
		f := failures[0]
		writeJSON(w, http.StatusOK, protectionShape{Failure: &failureShape{f.ARN, f.Detail, f.Reason}})
	case len(tasks) == 1 && len(failures) == 0:
		p := tasks[0]
		state := &protectionState{ProtectionEnabled: p.ProtectionEnabled, TaskArn: p.TaskARN}
		if !p.ExpirationDate.IsZero() {
			until := p.ExpirationDate.UTC().Format(time.RFC3339Nano)
			state.ExpirationDate = &until
		}
		writeJSON(w, http.StatusOK, protectionShape{Protection: state})
	default:
		writeJSON(w, http.StatusInternalServerError, protectionShape{Error: &errorShape{arn, codeServer, "Unexpected error occurred"}})
	}
}

// protectionFailed passes on why ECS did not answer, or that it refused.
func (s *Server) protectionFailed(ctx context.Context, w http.ResponseWriter, arn string, err error) {
	status, id := answered(err)
	refusal, spoke := errors.AsType[*ecs.Error](err)
	switch {
	case spoke && status != 0:
		writeJSON(w, status, protectionShape{RequestID: id, Error: &errorShape{arn, refusal.Type, refusal.Message}})
	case ctx.Err() != nil:
		writeJSON(w, http.StatusGatewayTimeout, protectionShape{Error: &errorShape{arn, codeCanceled, "Timed out calling ECS Task Protection API"}})
	default:
		s.log.Warn("cannot ask ECS about task protection", zap.String("task", arn), zap.Error(err))
		writeJSON(w, http.StatusInternalServerError, protectionShape{Error: &errorShape{arn, codeServer, err.Error()}})
	}
}

// decodeStrictly reads one JSON value whose members are all known.
func decodeStrictly(r io.Reader, v any) error {
	body, err := io.ReadAll(io.LimitReader(r, maxBody))
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

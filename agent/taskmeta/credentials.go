package taskmeta

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
)

// credentialsShape is the answer that SDKs read, spec/host.md §1.14. It is
// written to a response and to nothing else.
type credentialsShape struct {
	RoleARN         string `json:"RoleArn"`
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
}

// Format keeps keys out of whatever prints them.
func (credentialsShape) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// credentialsError is why there are none.
type credentialsError struct {
	Code          string `json:"code"`
	Message       string `json:"message"`
	HTTPErrorCode int
}

// The events of the audit log, spec/host.md §1.15.
const (
	eventTask      = "GetCredentials"
	eventExecution = "GetCredentialsExecutionRole"
	auditVersion   = 2
)

// credentialsV1 serves /v1/credentials?id=ID.
func (s *Server) credentialsV1(w http.ResponseWriter, r *http.Request) {
	s.credentials(w, r, r.URL.Query().Get("id"), "CredentialsV1Request: ")
}

// credentials serves a role's keys to the task that it belongs to, and to
// nobody else. They are never limited in rate: an SDK that is refused them fails
// its caller.
func (s *Server) credentials(w http.ResponseWriter, r *http.Request, id, prefix string) {
	s.serveCredentials(w, r, credentialsRequest{id, prefix, s.entitled})
}

// ServeRoleCredentials serves a role's keys to one who is known to be root of
// this host: the log process, which signs with them for the task.
func (s *Server) ServeRoleCredentials(w http.ResponseWriter, r *http.Request, id string) {
	root := func(*http.Request, credentials.Set) bool { return true }
	s.serveCredentials(w, r, credentialsRequest{id, "CredentialsV2Request: ", root})
}

// credentialsRequest is for the keys of an id; messages begin with prefix.
type credentialsRequest struct {
	id, prefix string
	entitled   func(r *http.Request, set credentials.Set) bool
}

func (s *Server) serveCredentials(w http.ResponseWriter, r *http.Request, q credentialsRequest) {
	refuse := func(status int, code, message string) {
		writeJSON(w, status, credentialsError{Code: code, Message: q.prefix + message, HTTPErrorCode: status})
		s.audit(r, status, "", "")
	}
	if q.id == "" {
		refuse(http.StatusBadRequest, "NoIdInRequest", "No Credential ID in the request")
		return
	}
	set, state := s.cfg.Credentials.Get(q.id)
	if state != credentials.Unknown && !q.entitled(r, set) {
		state = credentials.Unknown
	}
	switch state {
	case credentials.Unknown:
		refuse(http.StatusBadRequest, "InvalidIdInRequest", "Credentials not found")
	case credentials.Expected:
		refuse(http.StatusServiceUnavailable, "CredentialsUninitialized", "Credentials uninitialized for ID")
	case credentials.Here:
		writeJSON(w, http.StatusOK, credentialsShape{
			RoleARN: set.RoleARN, AccessKeyID: set.AccessKeyID, SecretAccessKey: set.SecretAccessKey, Token: set.SessionToken,
			Expiration: set.Expiration,
		})
		event := eventTask
		if set.Role == credentials.Execution {
			event = eventExecution
		}
		s.audit(r, http.StatusOK, set.TaskARN, event)
	}
}

// entitled says whether the caller may have a set, or hear that it is coming.
func (s *Server) entitled(r *http.Request, set credentials.Set) bool {
	t, ok := s.cfg.Index.Task(set.TaskARN)
	if !ok {
		return false
	}
	ok, err := callerOf(r).belongs(s, t)
	if err != nil {
		s.log.Error("cannot tell who asks for credentials; they are refused", zap.String("task", t.definition().ID), zap.Error(err))
		return false
	}
	return ok
}

// audit writes a line of the audit log (spec/host.md §1.15). Of a request that
// failed nothing is known of the role, and the line ends early.
func (s *Server) audit(r *http.Request, status int, arn, event string) {
	path := r.URL.Path
	for _, whole := range []string{"/v1/credentials", "/v2/credentials"} { // Never the id.
		if strings.HasPrefix(path, whole) {
			path = whole
		}
	}
	if arn == "" {
		arn = "-"
	}
	now := time.Now()
	line := fmt.Sprintf("%s %d %s %s %s %s ", now.UTC().Format(time.RFC3339), status, r.RemoteAddr, quoted(path), quoted(r.UserAgent()), arn)
	if event != "" {
		host := s.cfg.Host()
		line += fmt.Sprintf("%s %d %s %s", event, auditVersion, host.Cluster, host.ContainerInstanceARN)
	}
	s.auditLog.write(line, now)
}

// quoted is text between quotes that cannot end a line or a field before its
// time.
func quoted(text string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == 0x7f {
			return '_'
		}
		return r
	}, text) + `"`
}

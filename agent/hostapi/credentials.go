package hostapi

import (
	"net/http"

	"golang.org/x/sys/unix"
)

// RoleCredentials answers with a role's keys as containers get them
// (spec/host.md §1.14), without asking who wants them: the caller has been found
// to be root of this host.
type RoleCredentials interface {
	ServeRoleCredentials(w http.ResponseWriter, r *http.Request, id string)
}

// credentials serves GET /v1/credentials/{id} for the log process, which signs
// with a task's execution role. The group may use the API and is not root, so
// the kernel is asked who is calling.
func (s *Server) credentials(w http.ResponseWriter, r *http.Request) {
	if s.p.Credentials == nil {
		writeError(w, notProvided("credentials"))
		return
	}
	if who, known := r.Context().Value(callerKey{}).(unix.Ucred); !known || who.Uid != 0 {
		writeError(w, &Error{Code: CodeForbidden, Message: "only root gets the credentials of tasks' roles"})
		return
	}
	s.p.Credentials.ServeRoleCredentials(w, r, r.PathValue("id"))
}

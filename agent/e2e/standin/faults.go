package standin

import (
	"fmt"
	"net/http"
)

// The faults there are.
const (
	// FaultThrottle refuses with ThrottlingException, FaultError with status 500,
	// FaultDenied with AccessDeniedException.
	FaultThrottle = "throttle"
	FaultError    = "error"
	FaultDenied   = "denied"
	// FaultSlow does not answer until the client has left.
	FaultSlow = "slow"
	// FaultNone ends a fault.
	FaultNone = "none"
)

// fault is what a service does wrong, times more; -1 is for good.
type fault struct {
	kind  string
	times int
}

// Fault makes a service ("ssm", "secretsmanager", "s3", "ecr", "logs", "imds")
// misbehave, some times or, with times < 1, until FaultNone.
func (s *Server) Fault(service, kind string, times int) error {
	switch kind {
	case FaultThrottle, FaultError, FaultDenied, FaultSlow, FaultNone:
	default:
		return fmt.Errorf("there is no fault %q", kind)
	}
	if times < 1 {
		times = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[service] = &fault{kind, times}
	return nil
}

// misbehave does what the service is to do wrong, and says whether it did.
func (s *Server) misbehave(w http.ResponseWriter, r *request) bool {
	s.mu.Lock()
	kind := FaultNone
	if f := s.faults[r.Service]; f != nil && f.times != 0 {
		kind = f.kind
		f.times = max(f.times-1, -1)
	}
	s.mu.Unlock()
	switch kind {
	case FaultThrottle:
		refuse(w, r.Service, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	case FaultError:
		refuse(w, r.Service, http.StatusInternalServerError, "InternalServerError", "it is us")
	case FaultDenied:
		code, status := "AccessDeniedException", http.StatusBadRequest
		if r.Service == "s3" {
			code, status = "AccessDenied", http.StatusForbidden
		}
		refuse(w, r.Service, status, code, r.Role+" is not authorized to perform: "+r.Service+":"+r.Operation)
	case FaultSlow:
		<-r.Context().Done()
	default:
		return false
	}
	return true
}

package taskmeta

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/fault"
)

const (
	// faultBudget is how long a fault may take to start, to stop or to be found:
	// the 5 s of the ECS agent, less what the answer needs.
	faultBudget = 4500 * time.Millisecond
	// faultsPerSecond limits each caller at each path.
	faultsPerSecond = 0.2
)

// errFaultSlow ends a request about a fault.
var errFaultSlow = errors.New("the fault takes too long")

// faultShape is the answer about a fault: one of its members is set.
type faultShape struct {
	Status string `json:",omitempty"`
	Error  string `json:",omitempty"`
}

// faultRequest is what is asked about a fault.
type faultRequest struct {
	// id is the container's, as it stands in the path.
	id string
	// task is nil where there is no such container, or the caller is not of its task.
	task *Task
	// kind and action are path elements.
	kind, action string
}

// fault serves POST /api/ID/fault/v1/KIND/ACTION.
func (s *Server) fault(w http.ResponseWriter, r *http.Request, q faultRequest) {
	if !slices.Contains([]string{fault.BlackholePort, fault.Latency, fault.PacketLoss}, q.kind) ||
		!slices.Contains([]string{"start", "stop", "status"}, q.action) {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		methodNotAllowed(w, http.MethodPost)
		return
	}
	// A path that is nobody's has no bucket of its own: there is no end of them.
	bucket := callerOf(r).bucket(s, q.id) + " " + q.kind + " " + q.action
	if q.task != nil {
		bucket += " " + q.id
	}
	if !s.faultLimiter.allow(bucket, time.Now()) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte("You have reached maximum request limit"))
		s.audit(r, http.StatusTooManyRequests, "", "")
		return
	}
	f, err := readFault(q.kind, q.action, r.Body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, faultShape{Error: err.Error()})
		return
	}
	if status, refusal := refuseFault(q); refusal != "" {
		writeJSON(w, status, faultShape{Error: refusal})
		return
	}
	// A fault is not left half way because its caller has hung up.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), faultBudget, errFaultSlow)
	defer cancel()
	status, err := s.actOnFault(ctx, q, f)
	if err != nil {
		s.faultFailed(ctx, w, q, err)
		return
	}
	s.log.Info("network fault", zap.String("task", q.task.definition().ID), zap.String("fault", q.kind), zap.String("asked", q.action), zap.String("is", status))
	writeJSON(w, http.StatusOK, faultShape{Status: status})
}

// refuseFault is why a task cannot have faults, "" if it can.
func refuseFault(q faultRequest) (status int, refusal string) {
	if q.task == nil {
		return http.StatusNotFound, "unable to lookup container: " + q.id
	}
	d := q.task.definition()
	switch {
	case !d.FaultInjection:
		return http.StatusBadRequest, "enableFaultInjection is not enabled for task: " + d.ARN
	case d.Network != task.NetworkHost && d.Network != task.NetworkAWSVPC:
		return http.StatusBadRequest, string(d.Network) + " mode is not supported. Please use either host or awsvpc mode."
	}
	return 0, ""
}

// actOnFault does what is asked, and says what is so then.
func (s *Server) actOnFault(ctx context.Context, q faultRequest, f fault.Fault) (status string, err error) {
	d := q.task.definition()
	switch q.action {
	case "start":
		return "running", s.cfg.Faults.Start(ctx, d, f)
	case "stop":
		return "stopped", s.cfg.Faults.Stop(ctx, d, f)
	}
	running, err := s.cfg.Faults.Running(ctx, d, f)
	if running {
		return "running", err
	}
	return "not-running", err
}

// faultFailed tells why a fault cannot be, and logs what the caller is not told.
func (s *Server) faultFailed(ctx context.Context, w http.ResponseWriter, q faultRequest, err error) {
	if running, ok := errors.AsType[*fault.RunningError](err); ok {
		what := "network latency"
		if running.Kind == fault.PacketLoss {
			what = "network packet loss"
		}
		writeJSON(w, http.StatusConflict, faultShape{Error: "There is already one " + what + " fault running"})
		return
	}
	text := "internal error"
	switch {
	case ctx.Err() != nil:
		doing := q.action
		if doing == "status" {
			doing = "check status"
		}
		text = doing + " " + q.kind + ": request timed out"
	case errors.Is(err, fault.ErrNoLink):
		text = "failed to resolve default host network interface"
	case errors.Is(err, fault.ErrNoNamespace):
		text = "failed to get task metadata due to internal server error for container: " + q.id
	}
	s.log.Error("network fault failed", zap.String("task", q.task.definition().ID), zap.String("fault", q.kind), zap.String("asked", q.action), zap.Error(err))
	writeJSON(w, http.StatusInternalServerError, faultShape{Error: text})
}

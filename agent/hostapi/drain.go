package hostapi

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Drainer takes the host out of service, and puts it back.
type Drainer interface {
	// Drain returns once the order is kept, not once ECS has accepted it or tasks have ended.
	Drain(ctx context.Context, r DrainRequest) (*DrainView, error)
}

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	// Cancel puts the host back into service.
	Cancel bool   `json:"cancel,omitempty"`
	Reason string `json:"reason,omitempty"`
	// StopAfter is after how many seconds the tasks that still run are stopped; nil is never.
	StopAfter *float64 `json:"stopAfter,omitempty"`
}

// DrainView is the last order to leave service, or to return to it.
type DrainView struct {
	Status string    `json:"status"` // DRAINING or ACTIVE
	By     string    `json:"by"`     // person, spot interruption, rebalance recommendation, auto scaling or shutdown
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// Accepted says that ECS has taken the order; Trouble is why it has not yet.
	Accepted bool       `json:"accepted"`
	Trouble  string     `json:"trouble,omitempty"`
	StopAt   *time.Time `json:"stopAt,omitempty"` // when what still runs is stopped
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	if s.p.Drainer == nil {
		writeError(w, notProvided("drain"))
		return
	}
	var body DrainRequest
	if err := decode(w, r, &body); err != nil {
		writeError(w, err)
		return
	}
	if body.Cancel && body.StopAfter != nil {
		writeError(w, invalid("a drain that is cancelled stops nothing: stopAfter does not go with cancel"))
		return
	}
	s.log.Info("drain asked for", caller(r), zap.Bool("cancel", body.Cancel), zap.String("reason", body.Reason))
	view, err := s.p.Drainer.Drain(r.Context(), body)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusAccepted, view)
}

// Drain takes the host out of service, or puts it back.
func (c *Client) Drain(ctx context.Context, r DrainRequest) (DrainView, error) {
	var v DrainView
	err := c.do(ctx, http.MethodPost, "/v1/drain", r, &v)
	return v, err
}

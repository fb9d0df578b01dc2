package hostapi

import (
	"context"
	"net/http"
)

// CheckView is what the agent found when it looked whether something works.
type CheckView struct {
	Check string `json:"check"`
	// Status is OK, WARN (not as it should be, or not for all) or FAIL (tasks do not work).
	Status string `json:"status"`
	Why    string `json:"why"`
	Mend   string `json:"mend,omitempty"` // what helps
}

type checkList struct {
	Checks []CheckView `json:"checks"`
}

func (s *Server) checks(r *http.Request) (any, error) {
	if s.p.Checks == nil {
		return nil, notProvided("checks")
	}
	return checkList{s.p.Checks(r.Context())}, nil
}

// Checks has the agent look, as containers of each network mode would, whether they reach what they need. It takes some seconds where
// they do not.
func (c *Client) Checks(ctx context.Context) ([]CheckView, error) {
	var v checkList
	err := c.get(ctx, "/v1/checks", &v)
	return v.Checks, err
}

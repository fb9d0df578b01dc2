package daemon

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/health"
)

// TestReconciledReportsTheEngine: an engine that turns is no longer
// initializing, whatever the runtime answers it.
func TestReconciledReportsTheEngine(t *testing.T) {
	a := &agent{log: zap.NewNop(), board: health.NewBoard()}
	now := time.Now()
	a.board.Declare("containerd", health.ContainerRuntime, 0, now)
	a.board.Declare("engine", health.Agent, time.Minute, now)
	for _, tt := range []struct {
		err  error
		want string
	}{{nil, "ok"}, {errors.New("no answer"), "containerd impaired: no answer"}, {nil, "ok"}} {
		a.reconciled(tt.err)
		if got := a.board.Verdict(now).Summary(); got != tt.want {
			t.Errorf("after %v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/berthd/berth/agent/daemon"
)

// checkNeighbour looks for the ECS agent that this host may have had before.
func checkNeighbour(ctx context.Context, p *patient) finding {
	err := daemon.FindECSAgent(ctx, &p.config)
	if errors.Is(err, daemon.ErrECSAgent) {
		what, _, _ := strings.Cut(err.Error(), ". ")
		return fail("drain this host and stop the ECS agent: systemctl start berth says how", "%s", what)
	}
	return pass("none beside Berth")
}

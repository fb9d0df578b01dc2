package drain

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"
)

// The target states of an instance in an Auto Scaling group that matter here.
const (
	inService  = "InService"
	terminated = "Terminated"
	warmed     = "Warmed:"
)

const (
	// poolPause is how often the target state is asked for.
	poolPause = 5 * time.Second
	// unknownFor is how long an instance may have no target state yet, and vanishedFor how long one that had one may be without it,
	// before it is taken not to be in a group, or no longer.
	unknownFor  = 2 * time.Hour
	vanishedFor = 10 * time.Minute
)

// errNoGroup is why a host that was to wait for its group does not.
var errNoGroup = errors.New("instance metadata knows no Auto Scaling group of this instance")

// InService waits until the Auto Scaling group wants this instance in service, so that one that waits in a warm pool is no host of the
// cluster (spec/host.md §6.3). Unlike the ECS agent it does not give up for good where metadata stumbles, nor on an instance that is
// in no group: such a one joins in the end. joined says that this host is in the cluster already; then one that is to be terminated
// is not waited for either, because it has tasks to look after. It returns early only when ctx ends, with its cause.
func InService(ctx context.Context, m Metadata, joined bool, log *zap.Logger) error {
	ticker := time.NewTicker(poolPause)
	defer ticker.Stop()
	var was string
	var missing time.Time
	for {
		target, set, err := m.Get(ctx, pathLifecycle)
		target = strings.TrimSpace(target)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			log.Debug("cannot ask for the state of the Auto Scaling group; asking on", zap.Error(err))
		case set && (target == inService || target == terminated && joined):
			return nil
		case set && target != "":
			missing = time.Time{}
			if target != was {
				log.Info("waiting for the Auto Scaling group to put this instance into service (ECS_WARM_POOLS_CHECK)", zap.String("state", target))
				was = target
			}
		case missing.IsZero():
			missing = time.Now()
			log.Info("waiting for the Auto Scaling group to say what this instance is for (ECS_WARM_POOLS_CHECK)")
		case was == "" && time.Since(missing) >= unknownFor, was != "" && time.Since(missing) >= vanishedFor:
			log.Warn("joining without waiting any longer; ECS_WARM_POOLS_CHECK is for instances of Auto Scaling groups", zap.Error(errNoGroup))
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

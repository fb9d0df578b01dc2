package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/volumes"
)

// sweepPatience is how long the start waits for file servers to be let go of.
const sweepPatience = 20 * time.Second

// sweepVolumes ends the uses of volumes by tasks of which nothing is known.
func (a *agent) sweepVolumes(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepPatience, errors.New("unmounting takes too long at the start"))
	defer cancel()
	known := map[string]bool{}
	for _, t := range a.engine.Tasks() {
		known[t.ID()] = true
	}
	if err := a.host.volumes.Sweep(ctx, func(user string) bool { return known[user] }); err != nil {
		a.log.Warn("cannot remove what is left of volumes", zap.Error(err))
	}
}

// efsAuth says whether EFS is mounted with encryption, access points and roles.
func efsAuth(c *config.Config) bool {
	return slices.Contains(c.Capability.VolumePlugins, "efsAuth") && volumes.HasEFSHelper()
}

// ebsVolumes says whether EBS volumes of tasks can be mounted here.
func ebsVolumes(c *config.Config) bool {
	return c.Capability.EBSVolumes && !c.External && os.MkdirAll(c.Paths.EBS, 0o755) == nil && volumes.CanFormat()
}

// ebsFinder knows the devices of EBS volumes that are attached to this host.
type ebsFinder struct{ volumes *volumes.Volumes }

// Await returns nil once the attachment's device is on the host.
func (f ebsFinder) Await(ctx context.Context, a task.Attachment) error {
	return f.volumes.AwaitEBS(ctx, volumes.EBS{VolumeID: a.VolumeID, DeviceName: a.DeviceName})
}

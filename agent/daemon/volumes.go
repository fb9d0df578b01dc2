package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/taskmeta"
	"github.com/berthd/berth/runtime/volume"
	"github.com/berthd/berth/runtime/volumes"
)

var _ resources.Volumes = (*volumes.Volumes)(nil)

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
	if err := a.routers().Sweep(func(task string) bool { return known[task] }); err != nil {
		a.log.Warn("cannot remove what is left of log routers", zap.Error(err))
	}
}

// efsAuth says whether EFS is mounted with encryption, access points and roles.
func efsAuth(c *config.Config) bool {
	return slices.Contains(c.Capability.VolumePlugins, "efsAuth") && volumes.HasEFSHelper()
}

// ebsVolumes says whether EBS volumes of tasks can be mounted here.
func (o *Options) ebsVolumes() bool {
	c := &o.Config
	return c.Capability.EBSVolumes && !c.External && volumes.CanFormat() && o.onHost(func() bool { return canMake(c.Paths.EBS) })
}

// canMake says whether a directory is there, or can be made, and be written.
func canMake(dir string) bool {
	for {
		err := unix.Access(dir, unix.W_OK)
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return err == nil
		}
		dir = filepath.Dir(dir)
	}
}

// taskNetNS is the network namespace of an awsvpc task.
func (a *agent) taskNetNS(d *task.Definition) string {
	return a.host.network.NetNS(engine.EndpointID(d, ""))
}

// metadataVolumes are the mounts of a container as it is told of them itself.
func (a *agent) metadataVolumes(d *task.Definition, name string) []taskmeta.Volume {
	var out []taskmeta.Volume
	for i := range d.Containers {
		if c := &d.Containers[i]; c.Name == name {
			for _, v := range a.parts.VolumeViews(d, c) {
				out = append(out, taskmeta.Volume{DockerName: v.Name, Source: v.Source, Destination: v.Destination})
			}
		}
	}
	return out
}

// addVolumes shows the mounts of a task's containers.
func (t tasksAPI) addVolumes(view *hostapi.TaskView, d *task.Definition) {
	for i := range view.Containers {
		for _, v := range t.volumes(d, &d.Containers[i]) {
			view.Containers[i].Volumes = append(view.Containers[i].Volumes,
				hostapi.VolumeView{Name: v.Name, Source: v.Source, Destination: v.Destination})
		}
	}
}

// ebsFinder knows the devices of EBS volumes that are attached to this host.
type ebsFinder struct{ volumes *volumes.Volumes }

// Await returns nil once the attachment's device is on the host.
func (f ebsFinder) Await(ctx context.Context, a task.Attachment) error {
	return f.volumes.AwaitEBS(ctx, volume.EBS{VolumeID: a.VolumeID, DeviceName: a.DeviceName})
}

// volumeUsage says how full the EBS volumes of a task are.
func (a *agent) volumeUsage(arn string) []tcs.VolumeUsage {
	all := a.engine.Tasks()
	i := slices.IndexFunc(all, func(t engine.Task) bool { return t.State.Definition.ARN == arn })
	if i < 0 {
		return nil
	}
	var out []tcs.VolumeUsage
	for _, v := range all[i].State.Definition.Volumes {
		if v.EBS == nil {
			continue
		}
		used, size, err := a.host.volumes.Usage(volume.EBS{Directory: v.Source})
		if err != nil {
			continue // It is not mounted yet, or no more.
		}
		out = append(out, tcs.VolumeUsage{ID: v.EBS.VolumeID, Name: v.Name, Used: used, Size: size})
	}
	return out
}

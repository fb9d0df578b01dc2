package daemon

import (
	"context"
	"path/filepath"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/taskmeta"
)

var _ engine.Resources = taskResources{}

// taskResources is agent/resources in the engine's words.
type taskResources struct{ *resources.Resources }

// Provision makes the task's resources true.
func (r taskResources) Provision(ctx context.Context, t engine.Task) (map[string]engine.Outfit, error) {
	made, err := r.Resources.Provision(ctx, resources.Task{Definition: &t.State.Definition, Endpoints: t.Endpoints})
	if len(made) == 0 || err != nil {
		return nil, err
	}
	outfits := make(map[string]engine.Outfit, len(made))
	for name, o := range made {
		outfits[name] = engine.Outfit{
			Env: o.Env, SecretEnv: o.SecretEnv, Mounts: o.Mounts, Groups: o.Groups, Devices: o.Devices, Log: o.Log,
		}
	}
	return outfits, nil
}

// resources builds what tasks need beside their images, network and cgroup.
func (a *agent) resources() *resources.Resources {
	c := &a.options.Config
	var files resources.MetadataFiles
	if a.meta.files != nil {
		files = a.meta.files
	}
	return resources.New(resources.Config{
		MetadataFiles: files, MetadataFileName: taskmeta.FileName,
		Keys: a.aws.roles, Parameters: a.aws.services, Secrets: secretsManager{a.aws.services}, Objects: a.aws.services, Tokens: a.aws.services,
		Volumes: a.host.volumes, NetNS: a.taskNetNS, Faults: a.host.faults,
		Firelens: a.routers(),
		Region:   c.Region, AuthType: c.Image.AuthType, AuthData: c.Image.AuthData, Log: a.log.Named("resources"),
	})
}

// routers is what log routers are told of this host.
func (a *agent) routers() resources.Firelens {
	c := &a.options.Config
	return resources.Firelens{
		Dir: filepath.Join(c.Paths.Data, "firelens"), Cluster: c.Cluster, InstanceID: a.identity.EC2InstanceID, Async: c.Capability.FirelensAsync,
	}
}

package localcluster

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// payloadTask writes a task as its agent gets it: all of it to run, the name
// alone to stop.
func (s *state) payloadTask(t *task, v *vault) (*acs.Task, error) {
	d := s.Definitions[t.TaskDefinitionARN]
	out := &acs.Task{
		ARN: t.TaskARN, ClusterARN: t.ClusterARN, Family: d.Family, Version: strconv.Itoa(d.Revision),
		DesiredStatus: t.DesiredStatus, Overrides: "{}",
	}
	if t.DesiredStatus == ecs.StatusStopped {
		return out, nil
	}
	out.NetworkMode, out.PIDMode, out.IPCMode = d.NetworkMode, d.PIDMode, d.IPCMode
	out.LaunchType, out.Group, out.EnableFaultInjection = t.LaunchType, t.Group, d.EnableFaultInjection
	out.TaskDefinitionAccountID = s.env.account
	// Sizes were checked when they were registered.
	if n, err := ecs.ParseCPU(t.CPU); err == nil {
		out.CPU = float64(n) / 1024
	}
	if n, err := ecs.ParseMemory(t.Memory); err == nil {
		out.Memory = int64(n)
	}
	if t.Interface != nil {
		out.ElasticNetworkInterfaces = []acs.ENI{*t.Interface}
	}
	if t.RoleCredentials != "" {
		out.RoleCredentials = v.issue(t.RoleCredentials, t.RoleARN)
	}
	if t.ExecutionCredentials != "" {
		out.ExecutionRoleCredentials = v.issue(t.ExecutionCredentials, t.ExecutionRoleARN)
	}
	if p := d.ProxyConfiguration; p != nil {
		out.ProxyConfiguration = &acs.ProxyConfiguration{Type: p.Type, ContainerName: p.ContainerName, Properties: pairs(p.Properties)}
		setDefault(&out.ProxyConfiguration.Type, "APPMESH")
	}
	s.payloadVolumes(out, d.Volumes)
	for i := range d.ContainerDefinitions {
		c, err := s.payloadContainer(t, &d.TaskDefinition, i)
		if err != nil {
			return nil, err
		}
		out.Containers = append(out.Containers, c)
		for _, id := range t.Containers[i].GPUIDs {
			out.Associations = append(out.Associations, acs.Association{Name: id, Type: "gpu", Containers: []string{c.Name}})
		}
	}
	return out, nil
}

func pairs(list []ecs.KeyValuePair) map[string]string {
	out := map[string]string{}
	for _, kv := range list {
		out[kv.Name] = kv.Value
	}
	return out
}

func (s *state) payloadVolumes(out *acs.Task, volumes []ecs.Volume) {
	for _, v := range volumes {
		switch {
		case v.DockerVolumeConfiguration != nil:
			c := v.DockerVolumeConfiguration
			volume := acs.DockerVolume{Scope: c.Scope, Autoprovision: c.Autoprovision, Driver: c.Driver, DriverOpts: c.DriverOpts, Labels: c.Labels}
			setDefault(&volume.Scope, "task")
			setDefault(&volume.Driver, "local")
			out.Volumes = append(out.Volumes, acs.Volume{Name: v.Name, Type: acs.VolumeDocker, Docker: &volume})
		case v.EFSVolumeConfiguration != nil:
			c := v.EFSVolumeConfiguration
			volume := acs.EFSVolume{
				FileSystemID: c.FileSystemID, RootDirectory: c.RootDirectory,
				TransitEncryption: c.TransitEncryption, TransitEncryptionPort: c.TransitEncryptionPort,
			}
			if a := c.AuthorizationConfig; a != nil {
				volume.Authorization = &acs.EFSAuthorization{AccessPointID: a.AccessPointID, IAM: a.IAM}
			}
			out.Volumes = append(out.Volumes, acs.Volume{Name: v.Name, Type: acs.VolumeEFS, EFS: &volume})
		case v.S3FilesVolumeConfiguration != nil:
			out.Attachments = append(out.Attachments, s.s3FilesAttachment(out.ARN, v))
		default:
			host := acs.HostVolume{}
			if v.Host != nil {
				host.SourcePath = v.Host.SourcePath
			}
			out.Volumes = append(out.Volumes, acs.Volume{Name: v.Name, Type: acs.VolumeHost, Host: &host})
		}
	}
}

func (s *state) s3FilesAttachment(taskARN string, v ecs.Volume) acs.Attachment {
	c := v.S3FilesVolumeConfiguration
	out := acs.Attachment{AttachmentARN: s.arn("attachment/" + hash(taskARN + "/" + v.Name)[:32]), AttachmentType: acs.AttachmentS3Files}
	add := func(name, value string) {
		if value != "" { // An empty value makes an attachment invalid.
			out.Properties = append(out.Properties, acs.Property{Name: name, Value: value})
		}
	}
	add("volumeId", lastPart(c.FileSystemARN))
	add("volumeName", v.Name)
	add("s3FilesRootDirectory", c.RootDirectory)
	if c.TransitEncryptionPort != 0 {
		add("s3FilesTransitEncryptionPort", strconv.Itoa(c.TransitEncryptionPort))
	}
	add("s3FilesAccessPointId", lastPart(c.AccessPointARN))
	return out
}

func (s *state) payloadContainer(t *task, d *ecs.TaskDefinition, index int) (*acs.Container, error) {
	c := overridden(&d.ContainerDefinitions[index], t.Overrides)
	config, err := dockerConfig(t, d, c)
	if err != nil {
		return nil, err
	}
	overrides, err := commandOverride(c.Name, t.Overrides).Text()
	if err != nil {
		return nil, err
	}
	out := &acs.Container{
		Name: c.Name, ARN: t.Containers[index].ContainerARN, Image: c.Image, CPU: int64(c.CPU), Memory: int64(c.Memory),
		Essential: c.IsEssential(), Command: d.ContainerDefinitions[index].Command, EntryPoint: c.EntryPoint,
		Environment: pairs(c.Environment), Links: c.Links, DockerConfig: config, Overrides: overrides,
		PortMappings: portMappings(d, c), RegistryAuthentication: s.registryAuthentication(t, c),
		Privileged: c.Privileged, CredentialSpecs: c.CredentialSpecs,
	}
	out.Environment["AWS_EXECUTION_ENV"] = "AWS_ECS_EC2"
	if c.HealthCheck != nil {
		out.HealthCheckType = acs.HealthCheckDocker
	}
	if l := c.LogConfiguration; l != nil && l.LogDriver == "awslogs" && t.ExecutionRoleARN != "" {
		out.LogsAuthStrategy = acs.LogsAuthExecutionRole
	}
	if c.StartTimeout != nil {
		out.StartTimeout = int64(*c.StartTimeout)
	}
	if c.StopTimeout != nil {
		out.StopTimeout = int64(*c.StopTimeout)
	}
	if t.EnableExecuteCommand {
		out.ManagedAgents = []acs.ManagedAgent{{Name: "ExecuteCommandAgent", Properties: map[string]string{"sessionLimit": "2"}}}
	}
	s.payloadLists(out, c)
	return out, nil
}

// payloadLists translates the members that are lists of small things.
func (s *state) payloadLists(out *acs.Container, c *ecs.ContainerDefinition) {
	for _, f := range c.EnvironmentFiles {
		out.EnvironmentFiles = append(out.EnvironmentFiles, acs.EnvironmentFile{Value: f.Value, Type: f.Type})
	}
	for _, secret := range c.Secrets {
		out.Secrets = append(out.Secrets, s.secret(secret, "ENVIRONMENT_VARIABLE", "CONTAINER"))
	}
	if c.LogConfiguration != nil {
		for _, secret := range c.LogConfiguration.SecretOptions {
			out.Secrets = append(out.Secrets, s.secret(secret, "BOOTSTRAP", "LOG_DRIVER"))
		}
	}
	for _, m := range c.MountPoints {
		out.MountPoints = append(out.MountPoints, acs.MountPoint{SourceVolume: m.SourceVolume, ContainerPath: m.ContainerPath, ReadOnly: m.ReadOnly})
	}
	for _, v := range c.VolumesFrom {
		out.VolumesFrom = append(out.VolumesFrom, acs.VolumeFrom{SourceContainer: v.SourceContainer, ReadOnly: v.ReadOnly})
	}
	for _, dep := range c.DependsOn {
		out.DependsOn = append(out.DependsOn, acs.Dependency{ContainerName: dep.ContainerName, Condition: dep.Condition})
	}
	if r := c.RestartPolicy; r != nil {
		out.RestartPolicy = &acs.RestartPolicy{Enabled: r.Enabled, IgnoredExitCodes: r.IgnoredExitCodes}
		if r.RestartAttemptPeriod != nil {
			out.RestartPolicy.RestartAttemptPeriod = int64(*r.RestartAttemptPeriod)
		}
	}
	if f := c.FirelensConfiguration; f != nil {
		out.FirelensConfiguration = &acs.FirelensConfiguration{Type: f.Type, Options: maps.Clone(f.Options)}
	}
}

func portMappings(d *ecs.TaskDefinition, c *ecs.ContainerDefinition) []acs.PortMapping {
	out := []acs.PortMapping{}
	for _, p := range c.PortMappings {
		mapping := acs.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort, ContainerPortRange: p.ContainerPortRange, Protocol: p.Protocol}
		if d.NetworkMode == ecs.NetworkHost || d.NetworkMode == ecs.NetworkAWSVPC {
			mapping.HostPort = p.ContainerPort
		}
		out = append(out, mapping)
	}
	return out
}

func commandOverride(container string, o *ecs.TaskOverride) acs.Overrides {
	if o == nil {
		return acs.Overrides{}
	}
	at := slices.IndexFunc(o.ContainerOverrides, func(c ecs.ContainerOverride) bool { return c.Name == container && len(c.Command) > 0 })
	if at < 0 {
		return acs.Overrides{}
	}
	return acs.Overrides{Command: o.ContainerOverrides[at].Command}
}

func (s *state) secret(in ecs.Secret, kind, target string) acs.Secret {
	return acs.Secret{
		Name: in.Name, ValueFrom: in.ValueFrom, Type: kind, Target: target,
		Provider: secretStore(in.ValueFrom), Region: s.regionOf(in.ValueFrom),
	}
}

// regionOf is the region in an ARN, or the server's for a bare name.
func (s *state) regionOf(ref string) string {
	if parts := strings.Split(ref, ":"); len(parts) > 3 && parts[0] == "arn" && parts[3] != "" {
		return parts[3]
	}
	return s.env.region
}

func (s *state) registryAuthentication(t *task, c *ecs.ContainerDefinition) *acs.RegistryAuthentication {
	if r := c.RepositoryCredentials; r != nil {
		return &acs.RegistryAuthentication{Type: "asm", ASM: &acs.ASMAuth{CredentialsParameter: r.CredentialsParameter, Region: s.regionOf(r.CredentialsParameter)}}
	}
	if id, region, ok := ecrImage(c.Image); ok {
		return &acs.RegistryAuthentication{Type: "ecr", ECR: &acs.ECRAuth{RegistryID: id, Region: region, UseExecutionRole: t.ExecutionRoleARN != ""}}
	}
	return nil
}

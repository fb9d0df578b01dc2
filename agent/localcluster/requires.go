package localcluster

import (
	"maps"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

const (
	capability    = "ecs.capability."
	oldCapability = "com.amazonaws.ecs.capability."
	remoteAPI     = oldCapability + "docker-remote-api."
)

// requiredAttributes computes which capabilities a host needs to run a task
// definition (spec control-plane §2.4).
func requiredAttributes(d *ecs.TaskDefinition) []ecs.Attribute {
	need := attributeSet{}
	need.add(remoteAPI + "1.18")
	need.task(d)
	for i := range d.ContainerDefinitions {
		need.container(d, &d.ContainerDefinitions[i])
	}
	for i := range d.Volumes {
		need.volume(&d.Volumes[i])
	}
	out := []ecs.Attribute{}
	for _, name := range slices.Sorted(maps.Keys(need)) {
		out = append(out, ecs.Attribute{Name: name})
	}
	return out
}

type attributeSet map[string]bool

func (n attributeSet) add(names ...string) {
	for _, name := range names {
		n[name] = true
	}
}

func (n attributeSet) when(condition bool, names ...string) {
	if condition {
		n.add(names...)
	}
}

func (n attributeSet) task(d *ecs.TaskDefinition) {
	n.when(d.TaskRoleARN != "", oldCapability+"task-iam-role")
	n.when(d.TaskRoleARN != "" && d.NetworkMode == ecs.NetworkHost, oldCapability+"task-iam-role-network-host")
	n.when(d.NetworkMode == ecs.NetworkAWSVPC, capability+"task-eni")
	n.when(d.ProxyConfiguration != nil, capability+"aws-appmesh")
	n.when(d.PIDMode != "" || d.IPCMode != "", capability+"pid-ipc-namespace-sharing")
	n.when(d.EnableFaultInjection, capability+"fault-injection")
	n.when(len(d.InferenceAccelerators) > 0, capability+"task-eia")
}

func (n attributeSet) container(d *ecs.TaskDefinition, c *ecs.ContainerDefinition) {
	_, _, ecr := ecrImage(c.Image)
	n.when(ecr, oldCapability+"ecr-auth")
	n.when(ecr && d.ExecutionRoleARN != "", capability+"execution-role-ecr-pull")
	n.when(c.Privileged, oldCapability+"privileged-container")
	n.when(c.HealthCheck != nil, capability+"container-health-check", remoteAPI+"1.24", remoteAPI+"1.29")
	n.when(len(c.DependsOn) > 0 || c.StartTimeout != nil || c.StopTimeout != nil, capability+"container-ordering")
	n.when(len(c.EnvironmentFiles) > 0, capability+"env-files.s3")
	n.when(c.RestartPolicy != nil && c.RestartPolicy.Enabled, capability+"container-restart-policy")
	n.when(c.RepositoryCredentials != nil, capability+"private-registry-authentication.secretsmanager")
	n.when(slices.ContainsFunc(c.PortMappings, func(p ecs.PortMapping) bool { return p.ContainerPortRange != "" }), capability+"network.container-port-range")
	for _, option := range c.DockerSecurityOptions {
		n.when(strings.HasPrefix(option, "label:"), oldCapability+"selinux")
		n.when(strings.HasPrefix(option, "apparmor:"), oldCapability+"apparmor")
	}
	for _, spec := range slices.Concat(c.CredentialSpecs, c.DockerSecurityOptions) {
		n.when(strings.HasPrefix(spec, "credentialspec:"), capability+"gmsa")
		n.when(strings.HasPrefix(spec, "credentialspecdomainless:"), capability+"gmsa-domainless")
	}
	for _, secret := range c.Secrets {
		n.add(capability + "secrets." + secretStore(secret.ValueFrom) + ".environment-variables")
	}
	if f := c.FirelensConfiguration; f != nil {
		n.add(capability + "firelens." + f.Type)
		user, _, _ := strings.Cut(c.User, ":")
		n.when(user != "" && user != "0" && user != "root", capability+"firelens.non-root-user")
		n.when(f.Options["config-file-type"] != "", capability+"firelens.options.config."+f.Options["config-file-type"])
	}
	if l := c.LogConfiguration; l != nil {
		n.add(oldCapability + "logging-driver." + l.LogDriver)
		n.when(l.LogDriver == "awslogs", remoteAPI+"1.19")
		n.when(l.LogDriver == "awsfirelens" && l.Options["log-driver-buffer-limit"] != "", capability+"logging-driver.awsfirelens.log-driver-buffer-limit")
		n.when(l.LogDriver == "awslogs" && d.ExecutionRoleARN != "", capability+"execution-role-awslogs")
		for _, secret := range l.SecretOptions {
			n.add(capability + "secrets." + secretStore(secret.ValueFrom) + ".bootstrap.log-driver")
		}
	}
}

func (n attributeSet) volume(v *ecs.Volume) {
	if e := v.EFSVolumeConfiguration; e != nil {
		n.add(capability+"efs", remoteAPI+"1.25")
		n.when(e.AuthorizationConfig != nil, capability+"efsAuth")
	}
	if d := v.DockerVolumeConfiguration; d != nil {
		driver := d.Driver
		setDefault(&driver, "local")
		n.add(capability+"docker-plugin."+strings.ReplaceAll(driver, ":", "."), remoteAPI+"1.25")
	}
	n.when(v.S3FilesVolumeConfiguration != nil, capability+"storage.s3-files")
	n.when(v.ConfiguredAtLaunch, capability+"storage.ebs-task-volume-attach")
}

// secretStore is asm for Secrets Manager and ssm for Parameter Store.
func secretStore(valueFrom string) string {
	// The partition differs: arn:aws-cn:secretsmanager:…
	if parts := strings.SplitN(valueFrom, ":", 4); len(parts) == 4 && parts[0] == "arn" && parts[2] == "secretsmanager" {
		return "asm"
	}
	return "ssm"
}

// ecrImage tells an image in ECR, and its registry id and region.
func ecrImage(image string) (registryID, region string, ok bool) {
	host, _, _ := strings.Cut(image, "/")
	parts := strings.Split(host, ".")
	if len(parts) < 6 || parts[1] != "dkr" || parts[2] != "ecr" || parts[4] != "amazonaws" {
		return "", "", false
	}
	return parts[0], parts[3], true
}

package control

import (
	"maps"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// Features is what not every host can do, as far as ECS asks about it before it
// places a task here. A feature that is not true is not advertised, and tasks
// that need it go elsewhere.
type Features struct {
	// LogDrivers are the drivers that are both configured and there.
	LogDrivers []string
	// AWSLogsRole: awslogs signs with the task's execution role where it is asked to.
	AWSLogsRole bool
	// Privileged containers may be run.
	Privileged bool
	// TaskLimits: tasks have a cgroup with limits of their own.
	TaskLimits bool
	// HealthChecks are run and reported.
	HealthChecks bool
	// TaskENI: tasks get network interfaces of their own, with a proxy before them
	// if they ask for one; TaskENITrunking: branches of a trunk too. TaskENIBlocksIMDS:
	// such tasks do not reach the instance's metadata. TaskENIVersion is what ECS is
	// told as the version of the plugins that do this in its own agent.
	TaskENI, TaskENITrunking, TaskENIBlocksIMDS bool
	TaskENIVersion                              string
	// ExecuteCommand: the managed agent of ECS Exec can be run.
	ExecuteCommand bool
	// TaskRoles and TaskRolesHost: containers get their role's credentials, in
	// host network mode too.
	TaskRoles, TaskRolesHost bool
	// EFS is mounted, EFSAuth with encryption and roles too; EBS volumes are
	// formatted and mounted.
	EFS, EFSAuth, EBS bool
	// FaultInjection: containers may ask for network faults of every kind.
	FaultInjection bool
	// SELinux and AppArmor options are honoured.
	SELinux, AppArmor bool
	// External is ECS Anywhere.
	External bool
}

// The prefixes of capabilities.
const (
	amazon     = "com.amazonaws.ecs.capability."
	capability = "ecs.capability."
	remoteAPI  = amazon + "docker-remote-api."
	logDriver  = amazon + "logging-driver."
)

// advertised is an attribute and the condition for it.
type advertised struct {
	name string
	when func(Features) bool
}

// capabilities is the table of what is advertised when. The API versions stand
// for features of the daemon that ECS knows by these names only; task
// definitions ask for several of them, so the whole list is always sent
// (spec/control-plane.md §2.2, §2.4).
func capabilities() []advertised {
	return []advertised{
		{remoteAPI + "1.17", always},
		{remoteAPI + "1.18", always},
		{remoteAPI + "1.19", always},
		{remoteAPI + "1.20", always},
		{remoteAPI + "1.21", always},
		{remoteAPI + "1.22", always},
		{remoteAPI + "1.23", always},
		{remoteAPI + "1.24", always},
		{remoteAPI + "1.25", always},
		{remoteAPI + "1.28", always},
		{remoteAPI + "1.29", always},
		{remoteAPI + "1.30", always},
		{remoteAPI + "1.32", always},
		{capability + "full-sync", always},
		{amazon + "privileged-container", func(f Features) bool { return f.Privileged }},
		{amazon + "selinux", func(f Features) bool { return f.SELinux }},
		{amazon + "apparmor", func(f Features) bool { return f.AppArmor }},
		{amazon + "task-iam-role", func(f Features) bool { return f.TaskRoles }},
		{amazon + "task-iam-role-network-host", func(f Features) bool { return f.TaskRolesHost }},
		{capability + "container-ordering", always},
		{capability + "container-health-check", func(f Features) bool { return f.HealthChecks }},
		{capability + "container-restart-policy", always},
		{capability + "network.container-port-range", always},
		{capability + "task-eni", func(f Features) bool { return f.taskENI() }},
		{capability + "task-eni.ipv6", func(f Features) bool { return f.taskENI() }},
		{capability + "task-eni-block-instance-metadata", func(f Features) bool { return f.taskENI() && f.TaskENIBlocksIMDS }},
		{capability + "task-eni-trunking", func(f Features) bool { return f.taskENI() && f.TaskENITrunking }},
		{capability + "aws-appmesh", func(f Features) bool { return f.taskENI() }},
		{capability + "execute-command", func(f Features) bool { return f.ExecuteCommand }},
		{capability + "pid-ipc-namespace-sharing", always},
		{capability + "task-cpu-mem-limit", func(f Features) bool { return f.TaskLimits }},
		{capability + "increased-task-cpu-limit", func(f Features) bool { return f.TaskLimits }},
		{capability + "secrets.ssm.environment-variables", always},
		{capability + "secrets.ssm.bootstrap.log-driver", always},
		{capability + "secrets.asm.environment-variables", always},
		{capability + "secrets.asm.bootstrap.log-driver", always},
		{capability + "env-files.s3", always},
		{capability + "private-registry-authentication.secretsmanager", always},
		{capability + "ecr-endpoint", always},
		{capability + "execution-role-ecr-pull", always},
		{amazon + "ecr-auth", always},
		{capability + "docker-plugin.local", always},
		{capability + "efs", func(f Features) bool { return f.EFS }},
		{capability + "efsAuth", func(f Features) bool { return f.EFS && f.EFSAuth }},
		{capability + "storage.ebs-task-volume-attach", func(f Features) bool { return f.EBS && !f.External }},
		{capability + "storage.ebsta-non-root-user", func(f Features) bool { return f.EBS && !f.External }},
		{capability + "fault-injection", func(f Features) bool { return f.FaultInjection && !f.External }},
		{capability + "firelens.fluentd", always},
		{capability + "firelens.fluentbit", always},
		{capability + "firelens.non-root-user", always},
		{capability + "firelens.options.config.file", always},
		{capability + "firelens.options.config.s3", always},
		{capability + "logging-driver.awsfirelens.log-driver-buffer-limit", always},
		{capability + "execution-role-awslogs", func(f Features) bool {
			return f.AWSLogsRole && slices.Contains(f.LogDrivers, "awslogs")
		}},
		{capability + "external", func(f Features) bool { return f.External }},
	}
}

// taskENI says whether tasks get network interfaces; ECS Anywhere has none to give.
func (f Features) taskENI() bool { return f.TaskENI && !f.External }

func always(Features) bool { return true }

// attributes is what the host registers with. Custom ones go out on the first
// registration only: later they belong to whoever changes them in ECS.
func (h *Host) attributes(first bool) []ecs.Attribute {
	var out []ecs.Attribute
	if first {
		for _, name := range slices.Sorted(maps.Keys(h.CustomAttributes)) {
			out = append(out, ecs.Attribute{Name: name, Value: h.CustomAttributes[name]})
		}
	}
	for _, c := range capabilities() {
		if c.when(h.Features) {
			out = append(out, ecs.Attribute{Name: c.name})
		}
	}
	if h.GPUDriver != "" {
		out = append(out, ecs.Attribute{Name: capability + "nvidia-driver-version." + h.GPUDriver})
	}
	for _, d := range h.Features.LogDrivers {
		out = append(out, ecs.Attribute{Name: logDriver + d})
	}
	detailed := h.OSFamily
	if detailed == "" {
		detailed = "LINUX"
	}
	for _, a := range []ecs.Attribute{
		{Name: capability + "cni-plugin-version", Value: h.Features.version(h.Features.taskENI())},
		{Name: capability + "branch-cni-plugin-version", Value: h.Features.version(h.Features.taskENI() && h.Features.TaskENITrunking)},
		{Name: capability + "gpu-driver-version", Value: h.GPUDriver},
		{Name: "ecs.vpc-id", Value: h.VPC},
		{Name: "ecs.subnet-id", Value: h.Subnet},
		{Name: "ecs.os-type", Value: "linux"},
		{Name: "ecs.os-family", Value: "LINUX"},
		{Name: "ecs.os-type-detailed", Value: detailed},
		{Name: "ecs.cpu-architecture", Value: h.Architecture},
		{Name: "ecs.outpost-arn", Value: h.OutpostARN},
	} {
		if a.Value != "" {
			out = append(out, a)
		}
	}
	return out
}

// version is that of the plugins where there are such.
func (f Features) version(there bool) string {
	if !there {
		return ""
	}
	return f.TaskENIVersion
}

// mismatch names the attributes that were sent with a value and did not come
// back with it.
func mismatch(sent, got []ecs.Attribute) string {
	back := make(map[string]string, len(got))
	for _, a := range got {
		back[a.Name] = a.Value
	}
	var wrong []string
	for _, a := range sent {
		if a.Value != "" && back[a.Name] != a.Value {
			wrong = append(wrong, a.Name)
		}
	}
	return strings.Join(wrong, ", ")
}

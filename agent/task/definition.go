package task

import (
	"strings"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// Definition is a task as ECS asked for it: the payload's words translated
// once, at the border. It never changes after the task was accepted, and it
// holds no secret.
type Definition struct {
	Shown

	// ARN is the task's, and ID its last element (hex), which names the task's
	// cgroup, shim group and directories.
	ARN, ID string
	// ClusterARN, Family and Version are the cluster and the task definition.
	ClusterARN, Family, Version string
	// CPU is the task's limit in vCPU and Memory in MiB; zero is none.
	CPU    float64
	Memory int64
	// Network is the network mode.
	Network NetworkMode
	// PID and IPC are the task's namespace modes: "", "host", "task", "none".
	PID, IPC string
	// Containers in the order of the task definition.
	Containers []Container
	// RoleID and ExecutionRoleID are the ids under which the role credentials
	// are vended; the keys themselves are in memory only.
	RoleID, ExecutionRoleID string
	// Volumes are what containers mount by name.
	Volumes []Volume
	// ENI is the task's own network interface, in awsvpc mode only.
	ENI *ENI
	// Proxy redirects the task's traffic, in awsvpc mode only.
	Proxy *Proxy
	// FaultInjection lets the task's containers ask for network faults.
	FaultInjection bool
	// Associations give containers devices of the host.
	Associations []Association
}

// Shown is what users are told of a task and nobody acts on.
type Shown struct{ LaunchType, Service, Group string }

// NetworkMode is the network mode of a task.
type NetworkMode string

// The network modes, spec/host.md §3.1.
const (
	NetworkBridge NetworkMode = "bridge"
	NetworkHost   NetworkMode = "host"
	NetworkNone   NetworkMode = "none"
	NetworkAWSVPC NetworkMode = "awsvpc"
)

// Container is one container of a Definition. Its parts are embedded, so that
// what is on disk is as flat as a container definition.
type Container struct {
	Reservation
	Networking
	Lifecycle
	Mounting
	Fetched

	// Name is unique in the task; ARN is the container's.
	Name, ARN string
	// Image is the reference as the task definition has it.
	Image string
	// Essential containers take the task with them when they stop.
	Essential bool
	// Spec is what to create, but for what is only known on the host: ID, Group,
	// Digest, NetNS, CgroupParent and IO are filled in by the engine.
	Spec container.Spec
	// Log is the log driver and its options.
	Log Log
	// EnvironmentWithoutRegion says that the environment of Spec names no region: the
	// host's goes there.
	EnvironmentWithoutRegion bool
	// MetadataID is the path element that nobody can guess under which the
	// container finds its metadata; "" without.
	MetadataID string
	// Firelens makes the container the task's log router.
	Firelens *Firelens
	// ManagedAgents run beside the container's process.
	ManagedAgents []ManagedAgent
}

// Reservation is what a container counts for in the host's accounting: CPU in CPU
// units (1024 a vCPU), the others in MiB.
type Reservation struct{ CPU, Memory, MemoryReservation int64 }

// Networking is what a container has of the network, besides its task's mode.
type Networking struct {
	// NetworkDisabled leaves the container of a bridge-mode task with loopback
	// alone; it publishes nothing.
	NetworkDisabled bool `json:",omitempty"`
	// Ports are published in bridge mode.
	Ports []PortMapping
	// Hosts, DNS and Links shape the container's /etc/hosts and resolv.conf.
	Hosts []Host
	DNS   DNS
	Links []Link
}

// Lifecycle is when a container starts, is well, stops and starts again.
type Lifecycle struct {
	// DependsOn hold the start back.
	DependsOn []Dependency
	// StartTimeout and StopTimeout are what ECS asked for; zero is the host's.
	StartTimeout, StopTimeout time.Duration
	// HealthCheck is the container's own; nil is the image's. ReportHealth says
	// that ECS wants to hear of it.
	HealthCheck  *container.Healthcheck
	ReportHealth bool
	// Restart is nil for a container that stays down.
	Restart *RestartPolicy
}

// Mounting is what a container sees of volumes.
type Mounting struct {
	// VolumeMounts are the volumes of the task that the container sees.
	VolumeMounts []VolumeMount
	// VolumesFrom are the containers of the task whose mounts this one has too.
	// Those that the payload names are among its own already; what is left are the
	// volumes that the others' images declare.
	VolumesFrom []VolumesFrom
}

// Fetched is what is asked of AWS with the execution role before a container is
// created.
type Fetched struct {
	// Secrets become variables or options of the log driver.
	Secrets []Secret
	// EnvironmentFiles are ARNs of S3 objects that hold variables.
	EnvironmentFiles []string
	// Registry says where the credentials for the image come from; nil is
	// anonymous, or what the host is configured with.
	Registry *Registry
}

// PortMapping publishes a port, or a range of them, of a container.
type PortMapping struct {
	// ContainerPort to ContainerPortEnd, both inclusive; equal for one port.
	ContainerPort, ContainerPortEnd uint16
	// HostPort is 0 for a port that the agent picks.
	HostPort uint16
	// Protocol is "tcp" or "udp".
	Protocol string
	// Range says that the mapping was written as a range, and is reported so.
	Range bool
}

// Log is where a container's output goes.
type Log struct {
	Driver  string
	Options map[string]string
	// ExecutionRole says that the driver signs with the task's execution role.
	ExecutionRole bool
	// Secrets go over Options and never to a disk. A Definition has none: they are
	// added in an engine.Outfit.
	Secrets container.SecretOptions `json:"-"`
}

// Host is a line of /etc/hosts.
type Host struct{ Name, Address string }

// DNS are a container's own settings for resolv.conf; what is empty is the
// host's.
type DNS struct{ Servers, Search, Options []string }

// Link gives a container of the task a name in another's /etc/hosts.
type Link struct{ Container, Alias string }

// Dependency holds a container back until another one fulfils Condition.
type Dependency struct {
	Container string
	Condition Condition
}

// Condition is what a Dependency waits for.
type Condition string

// The conditions, spec/task-engine.md §2.2. Create is internal (volumesFrom).
const (
	ConditionCreate   Condition = "CREATE"
	ConditionStart    Condition = "START"
	ConditionComplete Condition = "COMPLETE"
	ConditionSuccess  Condition = "SUCCESS"
	ConditionHealthy  Condition = "HEALTHY"
)

// RestartPolicy restarts a container in place, spec/task-engine.md §3.
type RestartPolicy struct {
	IgnoredExitCodes []int
	// AttemptPeriod is the least time a container must have run before it is
	// restarted.
	AttemptPeriod time.Duration
}

// IDFromARN is the task id: what stands behind the last slash.
func IDFromARN(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

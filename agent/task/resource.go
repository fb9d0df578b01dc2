package task

import "net/netip"

// VolumeKind says what stands behind a volume.
type VolumeKind string

// The kinds of volume, spec/task-engine.md §5.5 and §5.6.
const (
	// VolumeHost is a path of the host, or with an empty Source a directory that
	// lives as long as the task.
	VolumeHost VolumeKind = "host"
	// VolumeDocker is a named volume of scope "task" or "shared".
	VolumeDocker VolumeKind = "docker"
	// VolumeEFS is an EFS file system.
	VolumeEFS VolumeKind = "efs"
	// VolumeEBS is an EBS volume attached for the task.
	VolumeEBS VolumeKind = "ebs"
)

// Volume is something that containers of the task mount. Only the members of
// its Kind are set.
type Volume struct {
	Name string
	Kind VolumeKind
	// Source is the path on the host (VolumeHost), or the directory below the
	// mount points of EBS volumes (VolumeEBS).
	Source string
	// The members of a VolumeDocker.
	Shared, Autoprovision bool
	Driver                string
	DriverOptions, Labels map[string]string
	// EFS is that of a VolumeEFS, EBS that of a VolumeEBS.
	EFS *EFS
	EBS *EBS
}

// EFS is an EFS file system, and how it is mounted.
type EFS struct {
	FileSystemID, RootDirectory, AccessPointID string
	// TLS and IAM ask for encryption in transit and for the task's role.
	TLS, IAM bool
	// TLSPort is the local port of the encrypting proxy; 0 is its choice.
	TLSPort int
}

// EBS is an EBS volume of a task.
type EBS struct {
	// AttachmentARN is what ECS is told about.
	AttachmentARN string
	// VolumeID finds the device, DeviceName is EC2's name for it on Xen hosts.
	VolumeID, DeviceName string
	// FileSystem is the one to make on a blank volume: "xfs", "ext4" …
	FileSystem string
}

// VolumeMount is a Volume inside a container.
type VolumeMount struct {
	Volume, Destination string
	ReadOnly            bool
	// Options are further bind mount options, the propagation among them.
	Options []string
}

// VolumesFrom takes the mounts of another container of the task.
type VolumesFrom struct {
	Container string
	ReadOnly  bool
}

// Secret is a value in a secret store. It is never part of a State: only where
// it is found.
type Secret struct {
	// Name is the variable's or the log option's.
	Name string
	// Provider is "ssm" or "asm"; ValueFrom is the parameter's name or the ARN.
	Provider, ValueFrom, Region string
	// LogOption makes the value an option of the log driver instead of a variable.
	LogOption bool
}

// Registry says where the credentials for pulling an image come from. Exactly
// one of its members is set.
type Registry struct {
	ECR *RegistryECR
	ASM *RegistryASM
}

// RegistryECR asks Amazon ECR for a token.
type RegistryECR struct {
	RegistryID, Region, EndpointOverride string
	// ExecutionRole signs with the task's execution role instead of the host's.
	ExecutionRole bool
}

// RegistryASM reads user name and password from Secrets Manager.
type RegistryASM struct{ CredentialsParameter, Region string }

// Firelens is a log router's configuration: Type is "fluentd" or "fluentbit".
type Firelens struct {
	Type    string
	Options map[string]string
}

// ManagedAgent is an agent that Berth starts inside a container.
type ManagedAgent struct {
	Name       string
	Properties map[string]string
}

// The types of association.
const (
	AssociationGPU       = "gpu"
	AssociationInference = "elastic-inference"
)

// Association gives containers something of the host; Type is "gpu" or
// "elastic-inference", Name its id, Content what the metadata endpoint serves.
type Association struct {
	Type, Name string
	Content    string
	Containers []string
}

// ENI is a network interface that belongs to the task alone.
type ENI struct {
	AttachmentARN, EC2ID, Name string
	MAC                        string
	// Addresses carry the subnet's prefix length; the first is the primary one.
	IPv4, IPv6               []netip.Prefix
	GatewayIPv4, GatewayIPv6 netip.Addr
	// SubnetIPv4 and SubnetIPv6 are the gateways' prefixes as ECS wrote them.
	SubnetIPv4, SubnetIPv6 netip.Prefix
	NameServers, Search    []string
	PrivateDNSName         string
	// VLAN and TrunkMAC are set for a branch of a trunk interface.
	VLAN     int
	TrunkMAC string
}

// Proxy is an App Mesh proxy, spec/task-engine.md §5.15.
type Proxy struct {
	// Container runs the proxy.
	Container               string
	IgnoredUID, IgnoredGID  string
	IngressPort, EgressPort uint16
	AppPorts                []uint16
	EgressIgnoredIPs        []string
	EgressIgnoredPorts      []uint16
}

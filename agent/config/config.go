package config

import (
	"fmt"
	"time"
)

// Paths and addresses that Berth uses when nobody says otherwise. The files under packaging/ are tested against them.
const (
	// DefaultFile is the KEY=VALUE file of settings.
	DefaultFile = "/etc/ecs/ecs.config"
	// DefaultJSONFile is the JSON file of settings.
	DefaultJSONFile = "/etc/ecs/ecs.config.json"
	// DefaultDataDir holds state that survives a reboot.
	DefaultDataDir = "/var/lib/berth"
	// DefaultRunDir holds sockets and whatever may vanish with a reboot.
	DefaultRunDir = "/run/berth"
	// DefaultSocket is where the host API listens.
	DefaultSocket = "/run/berth/berth.sock"
	// DefaultLogSocket is where the log process listens.
	DefaultLogSocket = "/run/berth/logs.sock"
	// DefaultCacheDir receives updates.
	DefaultCacheDir = "/var/cache/berth"
	// DefaultAuditLog is the credentials audit log, where hosts of ECS already look for it.
	DefaultAuditLog = "/var/log/ecs/audit.log"
	// DefaultEBSDir is where EBS volumes of tasks are mounted, as beside the ECS agent.
	DefaultEBSDir = "/mnt/ecs/ebs"
	// DefaultExecDir and DefaultExecLogs are the ECS agent's own.
	DefaultExecDir  = "/var/lib/ecs/deps/execute-command"
	DefaultExecLogs = "/var/log/ecs/exec"
	// DefaultContainerdAddress is the containerd socket.
	DefaultContainerdAddress = "/run/containerd/containerd.sock"
	// DefaultContainerdNamespace is the containerd namespace all our objects live in.
	DefaultContainerdNamespace = "berth"
	// DefaultIntrospectionAddress is where the introspection API listens.
	DefaultIntrospectionAddress = "127.0.0.1:51678"
	// DefaultTaskMetadataAddress is where the agent listens for what containers ask at 169.254.170.2.
	DefaultTaskMetadataAddress = "127.0.0.1:51679"
	// MaxShutdownTimeout is the most that berth-shutdown.service leaves to the tasks.
	MaxShutdownTimeout = 140 * time.Second
	// Group is the group whose members may use the host API without being root.
	Group = "berth"
)

// Secret is text that never prints: not by fmt, not as JSON, not in a log field. Reveal is the one way to its value.
type Secret string

// String answers *** for any value that is not empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format prints *** for every verb, so that %q, %x and %#v cannot leak it either.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText answers *** so that JSON and zap encoders cannot leak it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal answers the value itself.
func (s Secret) Reveal() string { return string(s) }

// PullBehavior says when an image is pulled (task-engine.md §7.1).
type PullBehavior string

// The pull behaviours of ECS_IMAGE_PULL_BEHAVIOR.
const (
	PullDefault      PullBehavior = "default"
	PullAlways       PullBehavior = "always"
	PullOnce         PullBehavior = "once"
	PullPreferCached PullBehavior = "prefer-cached"
)

// PortRange is an inclusive range of ports. The zero value means that nobody set one.
type PortRange struct{ First, Last uint16 }

// String prints the range as ECS writes it, first-last, and nothing for the zero value.
func (r PortRange) String() string {
	if r == (PortRange{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Config is everything the agent was told. Load makes it; nobody changes it afterwards, and slices and maps inside are not to be
// written to. It may be read from any goroutine.
type Config struct {
	// Cluster is a name or an ARN, passed to ECS unchanged. Explicit("ECS_CLUSTER") tells a chosen "default" from a missing one.
	Cluster string
	// Region is empty only if Options.RequireRegion was not set.
	Region string
	// Endpoint replaces the ECS endpoint (ECS_BACKEND_HOST); empty means the one of the region.
	Endpoint string
	// External is ECS Anywhere: no instance metadata, no task ENI.
	External bool
	// IPCompatibility is "ipv4", "ipv6" or empty, which means: find out from the default routes.
	IPCompatibility string

	AWS        AWS
	Proxy      Proxy
	Instance   Instance
	Paths      Paths
	Containerd Containerd
	Cgroup     Cgroup
	Task       Task
	Image      Image
	Network    Network
	Metadata   Metadata
	Metrics    Metrics
	Capability Capability
	Agent      Agent

	settings []Setting
}

// AWS is what the AWS SDK is told. The door to the SDK (agent/awsapi) reads it instead of the environment, because a value may come
// from the file only.
type AWS struct {
	AccessKeyID           Secret
	SecretAccessKey       Secret
	SessionToken          Secret
	Profile               string // named profile of the shared credentials file
	SharedCredentialsFile string
	MetadataDisabled      bool   // AWS_EC2_METADATA_DISABLED: never ask instance metadata
	MetadataEndpoint      string // replaces http://169.254.169.254
	CABundle              string // PEM file of extra roots
	FIPS                  bool   // AWS_USE_FIPS_ENDPOINT
	DualStack             bool   // AWS_USE_DUALSTACK_ENDPOINT
	Endpoints             Endpoints
}

// Endpoints replace the endpoints of AWS services, for private ones and for tests: AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE>,
// as the SDK names them. The endpoint of ECS is Config.Endpoint.
type Endpoints struct {
	All            string
	ECR            string
	Logs           string
	S3             string
	SecretsManager string
	SSM            string
}

// Of is the endpoint that replaces that of a service ("ecr", "logs", "s3", "secretsmanager", "ssm"), or "".
func (e Endpoints) Of(service string) string {
	own := map[string]string{"ecr": e.ECR, "logs": e.Logs, "s3": e.S3, "secretsmanager": e.SecretsManager, "ssm": e.SSM}[service]
	if own == "" {
		return e.All
	}
	return own
}

// Proxy is the usual trio, each as its variable was written.
type Proxy struct{ HTTP, HTTPS, No string }

// Instance is what registration says about the host.
type Instance struct {
	Attributes         map[string]string // custom attributes, first registration only
	Tags               map[string]string // win over propagated ones
	PropagateTags      bool              // copy the tags of the EC2 instance
	ReservedPorts      []uint16          // TCP, reported as used
	ReservedPortsUDP   []uint16
	ReservedMemory     uint16 // MiB withheld from ECS
	DetailedOSFamily   string // empty means: read os-release
	SpotDraining       bool   // drain when EC2 announces an interruption, or recommends to leave
	WarmPoolsCheck     bool   // register only once the instance is InService
	NoInstanceDocument bool   // NoIID: the identity document is not to be had
}

// Paths are directories and sockets.
type Paths struct {
	CDI       string // device files of the Container Device Interface; empty means /etc/cdi and /var/run/cdi
	Data      string
	Run       string
	Socket    string // host API
	LogSocket string // log process
	Updates   string // where updates are downloaded to
	AuditLog  string // credentials audit log; empty if disabled
	EBS       string // where EBS volumes of tasks are mounted
	Exec      string // what the agent of ECS Exec is made of: bin, config and certs
	ExecLogs  string // where it logs, a directory for each task
}

// Containerd says which containerd and where in it.
type Containerd struct {
	Address     string // absolute path of the socket
	Namespace   string
	Snapshotter string // empty means the default of containerd
}

// Cgroup says how task and container cgroups are made (task-engine.md §5.3).
type Cgroup struct {
	Root                 string        // usually /sys/fs/cgroup
	Driver               string        // auto, systemd or cgroupfs
	CPUPeriod            time.Duration // 8 ms to 100 ms
	TaskLimits           bool          // make a task cgroup; Explicit("ECS_ENABLE_TASK_CPU_MEM_LIMIT") tells if it was asked for
	TaskPidsLimit        int           // 0 means none
	PropagateMemoryLimit bool          // cgroup v2: containers without a limit get the task's
}

// Task holds the timeouts and choices of the engine.
type Task struct {
	StopTimeout           time.Duration
	StartTimeout          time.Duration
	CreateTimeout         time.Duration
	ShutdownTimeout       time.Duration // for all tasks together, when the host goes down
	CleanupWait           time.Duration // from STOPPED to removal
	CleanupJitter         time.Duration // a random part of this is added
	DisableHealthChecks   bool
	SharedVolumeFullMatch bool
	Checkpoint            bool
}

// Image holds pulling and image cleanup (task-engine.md §7 and §8.1).
type Image struct {
	PullBehavior        PullBehavior
	PullUpfront         bool // pull before dependsOn is satisfied
	ManifestTimeout     time.Duration
	PullTimeout         time.Duration
	InactivityTimeout   time.Duration
	AuthType            string // "", docker or dockercfg
	AuthData            Secret // JSON in the form AuthType says
	CleanupDisabled     bool
	CleanupInterval     time.Duration
	MinimumAge          time.Duration
	PerCycle            int
	Excluded            []string // names that are never removed
	CleanupUntracked    bool
	UntrackedMinimumAge time.Duration
	UntrackedPerCycle   int // containers
	DiskHigh, DiskLow   int // percent in use: above the one images go until the other; a high of 100 is never reached
}

// Network holds the wires between tasks and the world.
type Network struct {
	Bridge              string
	Subnet              string // IPv4 CIDR of the bridge; empty means ipam.DefaultPool
	SubnetIPv6          string // IPv6 CIDR of the bridge; empty means ipam.DefaultPool
	BlockIMDS           bool   // close 169.254.169.254 to tasks in every mode
	TaskENI             bool
	HighDensityENI      bool
	AWSVPCBlockIMDS     bool
	AWSVPCLocalRoutes   []string // CIDRs that awsvpc tasks reach through the host
	AWSVPCLocalIPv4     string
	DynamicPorts        PortRange // zero means the kernel's range
	ExcludeIPv6Bindings bool      // Explicit tells whether it was asked for; on IPv6-only hosts the default is false
	SkipLocalhostFilter bool      // do not drop packets for 127.0.0.0/8 that come from outside
}

// Metadata holds the task metadata server and the introspection API.
type Metadata struct {
	Rate                 int // requests per second and client
	Burst                int
	HideZone             bool   // omit the availability zone
	ContainerFile        bool   // write the container metadata file
	Listen               string // where 169.254.170.2:80 leads to: a loopback address; port 0 is a free one, for agents beside the host's
	Introspection        string // listen address
	IntrospectionOffhost bool   // listen on every address
	Profiling            bool   // pprof under the introspection API
	AuditDisabled        bool
	AuditRollover        string // size or hourly: what makes a new audit log (the rest of the log goes to the journal)
	AuditMaxMB           int    // a million bytes each
	AuditKeep            int    // old audit logs
}

// Metrics holds sampling and publishing.
type Metrics struct {
	Disabled bool
	Poll     bool          // sample each PollWait instead of each second
	PollWait time.Duration // 5 s to 20 s while polling
}

// Capability holds what registration claims the host can do; some of it only changes what ECS places here.
type Capability struct {
	LoggingDrivers       []string
	PrivilegedDisabled   bool
	GPU                  bool // give GPUs to tasks and register them
	SELinux              bool
	AppArmor             bool
	TaskIAMRole          bool
	TaskIAMRoleHost      bool // in host network mode too
	AWSLogsExecutionRole bool
	VolumePlugins        []string
	EBSVolumes           bool // EBS volumes of tasks are mounted
	FirelensAsync        bool
}

// Agent holds the process itself.
type Agent struct {
	LogLevel       string // crit, error, warn, info, debug or none
	LogFormat      string // logfmt or json
	LogQueueMB     int    // MiB of each container's lines that may wait on disk for a log service
	UpdatesEnabled bool
	UpdateSource   string        // where signed releases are: https://…, s3://… or a directory; empty for nowhere
	UpdateRoot     string        // root metadata that they are believed by; empty for the package's
	UpdateDeadline time.Duration // how long a new version has to prove itself
	UpdateSpread   time.Duration // how far apart hosts are that ECS orders an update of at the same moment
}

// Explicit tells whether name was set by any source, rather than left at its default.
func (c Config) Explicit(name string) bool {
	for _, s := range c.settings {
		if s.Name == name {
			return s.Source != SourceDefault
		}
	}
	return false
}

// Settings lists every setting in the order of the table, with value and source. The caller owns the slice.
func (c Config) Settings() []Setting { return append([]Setting(nil), c.settings...) }

// NotHonoured lists the settings that somebody made and Berth has no use for, for one line at start-up. Empty is usual.
func (c Config) NotHonoured() []Setting {
	var out []Setting
	for _, s := range c.settings {
		if s.Reason != "" && s.Source != SourceDefault {
			out = append(out, s)
		}
	}
	return out
}

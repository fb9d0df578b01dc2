package acs

import "encoding/json"

// Container is one container of a Task (§4.6). Most of what a container is
// comes in DockerConfig.
type Container struct {
	Name  string `json:"name,omitempty"`
	ARN   string `json:"containerArn,omitempty"`
	Image string `json:"image,omitempty"`
	// CPU is in CPU units (1024 a vCPU), Memory in MiB; 0 is none.
	CPU       int64 `json:"cpu,omitempty"`
	Memory    int64 `json:"memory,omitempty"`
	Essential bool  `json:"essential,omitempty"`
	// Command and EntryPoint replace the image's when not nil.
	Command                []string                `json:"command,omitzero"`
	EntryPoint             []string                `json:"entryPoint,omitzero"`
	Environment            map[string]string       `json:"environment,omitzero"`
	EnvironmentFiles       []EnvironmentFile       `json:"environmentFiles,omitzero"`
	Secrets                []Secret                `json:"secrets,omitzero"`
	PortMappings           []PortMapping           `json:"portMappings,omitzero"`
	MountPoints            []MountPoint            `json:"mountPoints,omitzero"`
	VolumesFrom            []VolumeFrom            `json:"volumesFrom,omitzero"`
	Links                  []string                `json:"links,omitzero"`
	DockerConfig           *DockerConfig           `json:"dockerConfig,omitempty"`
	HealthCheckType        string                  `json:"healthCheckType,omitempty"`
	RegistryAuthentication *RegistryAuthentication `json:"registryAuthentication,omitempty"`
	LogsAuthStrategy       string                  `json:"logsAuthStrategy,omitempty"`
	DependsOn              []Dependency            `json:"dependsOn,omitzero"`
	// StartTimeout and StopTimeout are in seconds; 0 is the agent's default.
	StartTimeout          int64                  `json:"startTimeout,omitempty"`
	StopTimeout           int64                  `json:"stopTimeout,omitempty"`
	RestartPolicy         *RestartPolicy         `json:"restartPolicy,omitempty"`
	FirelensConfiguration *FirelensConfiguration `json:"firelensConfiguration,omitempty"`
	ManagedAgents         []ManagedAgent         `json:"managedAgents,omitzero"`
	CredentialSpecs       []string               `json:"credentialSpecs,omitzero"`
	// Overrides is parsed by ParseOverrides.
	Overrides             JSONText `json:"overrides,omitempty"`
	NetworkInterfaceNames []string `json:"networkInterfaceNames,omitzero"`
	// Privileged and LinuxParameters are on the wire and never acted on: what
	// counts is in DockerConfig.HostConfig.
	Privileged      bool            `json:"privileged,omitempty"`
	LinuxParameters json.RawMessage `json:"linuxParameters,omitempty"`
}

// HealthCheckDocker is the HealthCheckType of a container with a health check.
const HealthCheckDocker = "docker"

// LogsAuthExecutionRole is the LogsAuthStrategy that makes awslogs use the
// execution role.
const LogsAuthExecutionRole = "ExecutionRole"

// EnvironmentFile is a file of variables; Type is "s3", Value an object's ARN.
type EnvironmentFile struct {
	Type  string `json:"type,omitempty"`
	Value string `json:"value,omitempty"`
}

// Secret is a value fetched with the execution role.
type Secret struct {
	Name          string `json:"name,omitempty"`
	ValueFrom     string `json:"valueFrom,omitempty"`
	Type          string `json:"type,omitempty"`
	Provider      string `json:"provider,omitempty"`
	Target        string `json:"target,omitempty"`
	Region        string `json:"region,omitempty"`
	ContainerPath string `json:"containerPath,omitempty"`
}

// PortMapping publishes ContainerPort, or ContainerPortRange ("a-b"); a
// HostPort of 0 is chosen by the agent. Protocol is "tcp" (also when absent) or
// "udp".
type PortMapping struct {
	ContainerPort      int    `json:"containerPort,omitempty"`
	HostPort           int    `json:"hostPort,omitempty"`
	ContainerPortRange string `json:"containerPortRange,omitempty"`
	Protocol           string `json:"protocol,omitempty"`
}

// MountPoint mounts a volume of the task.
type MountPoint struct {
	SourceVolume  string `json:"sourceVolume,omitempty"`
	ContainerPath string `json:"containerPath,omitempty"`
	ReadOnly      bool   `json:"readOnly,omitempty"`
}

// VolumeFrom mounts all volumes of another container of the task.
type VolumeFrom struct {
	SourceContainer string `json:"sourceContainer,omitempty"`
	ReadOnly        bool   `json:"readOnly,omitempty"`
}

// DockerConfig carries two JSON documents as text: Config and HostConfig of the
// Docker Engine API. See ContainerConfig.Merge and HostConfig.Merge.
type DockerConfig struct {
	Version    string `json:"version,omitempty"`
	Config     string `json:"config,omitempty"`
	HostConfig string `json:"hostConfig,omitempty"`
}

// RegistryAuthentication says how the image is pulled: Type is "ecr" or "asm".
type RegistryAuthentication struct {
	Type string   `json:"type,omitempty"`
	ECR  *ECRAuth `json:"ecrAuthData,omitempty"`
	ASM  *ASMAuth `json:"asmAuthData,omitempty"`
}

// ECRAuth is for an image in Amazon ECR.
type ECRAuth struct {
	RegistryID       string `json:"registryId,omitempty"`
	Region           string `json:"region,omitempty"`
	EndpointOverride string `json:"endpointOverride,omitempty"`
	UseExecutionRole bool   `json:"useExecutionRole,omitempty"`
}

// ASMAuth is a user name and password in Secrets Manager.
type ASMAuth struct {
	CredentialsParameter string `json:"credentialsParameter,omitempty"`
	Region               string `json:"region,omitempty"`
}

// Dependency holds a container back until another fulfils Condition: START,
// COMPLETE, SUCCESS or HEALTHY.
type Dependency struct {
	ContainerName string `json:"containerName,omitempty"`
	Condition     string `json:"condition,omitempty"`
}

// RestartPolicy restarts a container in place; RestartAttemptPeriod is in
// seconds.
type RestartPolicy struct {
	Enabled              bool  `json:"enabled,omitempty"`
	IgnoredExitCodes     []int `json:"ignoredExitCodes,omitzero"`
	RestartAttemptPeriod int64 `json:"restartAttemptPeriod,omitempty"`
}

// FirelensConfiguration makes the container a log router.
type FirelensConfiguration struct {
	Type    string            `json:"type,omitempty"`
	Options map[string]string `json:"options,omitzero"`
}

// ManagedAgent is an agent that runs beside the container's process.
type ManagedAgent struct {
	Name       string            `json:"name,omitempty"`
	Properties map[string]string `json:"properties,omitzero"`
}

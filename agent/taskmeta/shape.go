package taskmeta

import (
	"time"
)

// version is that of the metadata's shape.
type version int

// The versions, spec/host.md §1.6.
const (
	v2 version = 2
	v3 version = 3
	v4 version = 4
)

// taskShape is a task, spec/host.md §1.7. What only version 4 has is empty in
// the others and left out.
type taskShape struct {
	Cluster               string
	TaskARN               string
	Family                string
	Revision              string
	DesiredStatus         string `json:",omitempty"`
	KnownStatus           string
	Limits                *taskLimits       `json:",omitempty"`
	PullStartedAt         *time.Time        `json:",omitempty"`
	PullStoppedAt         *time.Time        `json:",omitempty"`
	ExecutionStoppedAt    *time.Time        `json:",omitempty"`
	AvailabilityZone      string            `json:",omitempty"`
	TaskTags              map[string]string `json:",omitempty"`
	ContainerInstanceTags map[string]string `json:",omitempty"`
	Containers            []containerShape  `json:",omitempty"`
	LaunchType            string            `json:",omitempty"`
	Errors                []tagError        `json:",omitempty"`
	VPCID                 string            `json:",omitempty"`
	ServiceName           string            `json:",omitempty"`
	// FaultInjectionEnabled is always there in version 4, and never before.
	FaultInjectionEnabled *bool  `json:",omitempty"`
	AvailabilityZoneID    string `json:",omitempty"`
}

// taskLimits are vCPU and MiB.
type taskLimits struct {
	CPU    float64 `json:",omitempty"`
	Memory int64   `json:",omitempty"`
}

// containerShape is a container, spec/host.md §1.9.
type containerShape struct {
	DockerID      string `json:"DockerId"`
	Name          string
	DockerName    string
	Image         string
	ImageID       string
	Ports         []portShape       `json:",omitempty"`
	Labels        map[string]string `json:",omitempty"`
	DesiredStatus string
	KnownStatus   string
	ExitCode      *int `json:",omitempty"`
	Limits        containerLimits
	CreatedAt     *time.Time `json:",omitempty"`
	StartedAt     *time.Time `json:",omitempty"`
	FinishedAt    *time.Time `json:",omitempty"`
	Type          string
	Health        *healthShape      `json:",omitempty"`
	Volumes       []Volume          `json:",omitempty"`
	LogDriver     string            `json:",omitempty"`
	LogOptions    map[string]string `json:",omitempty"`
	ContainerARN  string            `json:",omitempty"`
	Networks      []networkShape    `json:",omitempty"`
	RestartCount  *int              `json:",omitempty"`
}

// containerLimits are CPU units and MiB.
type containerLimits struct {
	CPU    int64
	Memory int64
}

// portShape is a published port.
type portShape struct {
	ContainerPort uint16
	Protocol      string
	HostPort      uint16 `json:",omitempty"`
	HostIP        string `json:"HostIp,omitempty"`
}

// healthShape is what a container's check says.
type healthShape struct {
	Status      string     `json:"status,omitempty"`
	StatusSince *time.Time `json:"statusSince,omitempty"`
	ExitCode    int        `json:"exitCode,omitempty"`
	Output      string     `json:"output,omitempty"`
}

// Volume is a mount of a container as it is shown. DockerName is that of a named
// volume.
type Volume struct {
	DockerName  string `json:",omitempty"`
	Source      string `json:",omitempty"`
	Destination string `json:",omitempty"`
}

// networkShape is a network of a container, spec/host.md §1.10.
type networkShape struct {
	NetworkMode              string   `json:",omitempty"`
	IPv4Addresses            []string `json:",omitempty"`
	IPv6Addresses            []string `json:",omitempty"`
	AttachmentIndex          *int     `json:",omitempty"`
	MACAddress               string   `json:",omitempty"`
	IPv4SubnetCIDRBlock      string   `json:",omitempty"`
	IPv6SubnetCIDRBlock      string   `json:",omitempty"`
	DomainNameServers        []string `json:",omitempty"`
	DomainNameSearchList     []string `json:",omitempty"`
	PrivateDNSName           string   `json:",omitempty"`
	SubnetGatewayIPv4Address string   `json:"SubnetGatewayIpv4Address,omitempty"`
	SubnetGatewayIPv6Address string   `json:"SubnetGatewayIpv6Address,omitempty"`
}

// tagError says why tags are missing, spec/host.md §1.8.
type tagError struct {
	ErrorField   string `json:",omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
	StatusCode   int    `json:",omitempty"`
	RequestID    string `json:"RequestId,omitempty"`
	ResourceARN  string `json:",omitempty"`
}

// associations lists the names of one type.
type associations struct{ Associations []string }

// utc is nil for the zero time.
func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}

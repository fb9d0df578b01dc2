package hostapi

import (
	"time"

	"github.com/berthd/berth/agent/health"
)

// StatusView is the agent as a whole.
type StatusView struct {
	Version string `json:"version"`
	// AgentVersion is the line of the introspection API, "Berth - v1.2.3 (hash)".
	AgentVersion string `json:"agentVersion"`
	Cluster      string `json:"cluster"`
	// ContainerInstanceARN is empty before registration.
	ContainerInstanceARN string           `json:"containerInstanceArn,omitempty"`
	Region               string           `json:"region,omitempty"`
	StartedAt            time.Time        `json:"startedAt"`
	Health               health.Verdict   `json:"health"`
	Connections          []ConnectionView `json:"connections"`
	Containerd           string           `json:"containerd,omitempty"` // version, empty while it is away
	Drain                *DrainView       `json:"drain,omitempty"`
}

// ConnectionView is one line to ECS.
type ConnectionView struct {
	Name      string    `json:"name"` // ecs, acs or tcs
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Reason    string    `json:"reason,omitempty"` // why it is down
}

// TaskView is a task and its containers.
type TaskView struct {
	ID            string          `json:"id"`
	ARN           string          `json:"arn"`
	Family        string          `json:"family"`
	Revision      string          `json:"revision"`
	KnownStatus   string          `json:"knownStatus"`       // PENDING, RUNNING or STOPPED
	DesiredStatus string          `json:"desiredStatus"`     // RUNNING or STOPPED
	Origin        string          `json:"origin"`            // ecs, or local for `berth run`
	Service       string          `json:"service,omitempty"` // that started it
	NetworkMode   string          `json:"networkMode,omitempty"`
	StopCode      string          `json:"stopCode,omitempty"`
	Reason        string          `json:"reason,omitempty"` // why it stopped
	CreatedAt     *time.Time      `json:"createdAt,omitempty"`
	StartedAt     *time.Time      `json:"startedAt,omitempty"`
	StoppedAt     *time.Time      `json:"stoppedAt,omitempty"`
	Containers    []ContainerView `json:"containers"`
}

// ContainerView is one container of a task.
type ContainerView struct {
	ID           string        `json:"id,omitempty"` // in containerd; empty before it is created
	Name         string        `json:"name"`         // in the task definition
	RuntimeName  string        `json:"runtimeName,omitempty"`
	Image        string        `json:"image"`
	ImageID      string        `json:"imageId,omitempty"`
	Digest       string        `json:"digest,omitempty"`
	Status       string        `json:"status"`
	Health       string        `json:"health,omitempty"` // HEALTHY, UNHEALTHY or UNKNOWN, if it has a check
	Essential    bool          `json:"essential"`
	Internal     bool          `json:"internal,omitempty"` // made by the agent, not in the task definition
	ExitCode     *int          `json:"exitCode,omitempty"`
	Reason       string        `json:"reason,omitempty"`
	RestartCount *int          `json:"restartCount,omitempty"` // only with a restart policy
	Ports        []PortView    `json:"ports,omitempty"`
	Asked        []PortView    `json:"-"` // the task definition's, which the introspection API shows until there are others
	Addresses    []string      `json:"addresses,omitempty"`
	Networks     []NetworkView `json:"networks,omitempty"` // awsvpc only
	Volumes      []VolumeView  `json:"volumes,omitempty"`
	Log          *LogView      `json:"log,omitempty"` // while the log process has it open, or lines to deliver
	CreatedAt    *time.Time    `json:"createdAt,omitempty"`
	StartedAt    *time.Time    `json:"startedAt,omitempty"`
	FinishedAt   *time.Time    `json:"finishedAt,omitempty"`
}

// LogView is how a container's log fares.
type LogView struct {
	Driver        string     `json:"driver"`
	DroppedLines  int64      `json:"droppedLines,omitempty"`  // for want of room
	RejectedLines int64      `json:"rejectedLines,omitempty"` // the log service will never take them
	WaitingBytes  int64      `json:"waitingBytes,omitempty"`  // on disk, for the log service
	StuckSince    *time.Time `json:"stuckSince,omitempty"`    // the driver fails since then
	Reason        string     `json:"reason,omitempty"`        // of that
}

// PortView is one published port.
type PortView struct {
	ContainerPort uint16 `json:"containerPort"`
	HostPort      uint16 `json:"hostPort,omitempty"`
	Protocol      string `json:"protocol"` // tcp or udp
	HostIP        string `json:"hostIp,omitempty"`
}

// NetworkView is one interface of an awsvpc task.
type NetworkView struct {
	Mode          string   `json:"mode"`
	IPv4Addresses []string `json:"ipv4Addresses,omitempty"`
	IPv6Addresses []string `json:"ipv6Addresses,omitempty"`
}

// VolumeView is one mount of a container.
type VolumeView struct {
	Name        string `json:"name,omitempty"` // of a named volume
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination"`
}

// Wait is one thing a task waits for, in plain words. The first of a list is what to look at.
type Wait struct {
	Container string     `json:"container,omitempty"` // empty: the task itself
	What      string     `json:"what"`                // "image nginx:1 is being pulled"
	Since     *time.Time `json:"since,omitempty"`
	Hint      string     `json:"hint,omitempty"` // what a person can do about it
}

// StatsView is the latest sample of one running container.
type StatsView struct {
	Task      string    `json:"task"` // task id
	Container string    `json:"container"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	// CPUPercent is of the whole host, as ECS counts; CPULimitPercent is of the container's limit and 0 without one.
	CPUPercent      float64 `json:"cpuPercent"`
	CPULimitPercent float64 `json:"cpuLimitPercent,omitempty"`
	// ThrottledPercent is the share of scheduling periods that ran into the limit.
	ThrottledPercent float64 `json:"throttledPercent"`
	// MemoryBytes is what ECS reports as used; MemoryLimitBytes is 0 without a limit.
	MemoryBytes      uint64 `json:"memoryBytes"`
	MemoryLimitBytes uint64 `json:"memoryLimitBytes,omitempty"`
	NetRxBytes       uint64 `json:"netRxBytes"`
	NetTxBytes       uint64 `json:"netTxBytes"`
	BlockReadBytes   uint64 `json:"blockReadBytes"`
	BlockWriteBytes  uint64 `json:"blockWriteBytes"`
	Pids             uint64 `json:"pids"`
	PidsLimit        uint64 `json:"pidsLimit,omitempty"`
	OOMKills         uint64 `json:"oomKills,omitempty"`
}

// Event is something that happened.
type Event struct {
	Time      time.Time `json:"time"`
	Task      string    `json:"task,omitempty"` // task id
	Container string    `json:"container,omitempty"`
	What      string    `json:"what"` // one word or two: "started", "image pulled"
	Detail    string    `json:"detail,omitempty"`
}

// ImageView is one image in containerd's namespace of ours.
type ImageView struct {
	Name     string     `json:"name"`
	Digest   string     `json:"digest"`
	Size     int64      `json:"size"` // bytes on disk
	PulledAt *time.Time `json:"pulledAt,omitempty"`
	LastUsed *time.Time `json:"lastUsed,omitempty"`
	InUse    int        `json:"inUse"` // containers that refer to it
	// Stays says why the next clean-up does not remove it; "" when it may.
	Stays string `json:"stays,omitempty"`
}

// PullView is the state of one pull.
type PullView struct {
	Image      string `json:"image"`
	Phase      string `json:"phase,omitempty"` // resolving, downloading, unpacking
	BytesDone  int64  `json:"bytesDone"`
	BytesTotal int64  `json:"bytesTotal,omitempty"` // 0 while unknown
	Layers     int    `json:"layers,omitempty"`
	LayersDone int    `json:"layersDone,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Done       bool   `json:"done,omitempty"`
	Error      string `json:"error,omitempty"`
}

// LogLine is one line a container wrote.
type LogLine struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // stdout or stderr
	Log    string    `json:"log"`    // without the line end
}

package acs

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ContainerConfig is Docker's Config: the members that mean something to a
// container. Keys are matched without regard to case, so both "Healthcheck" and
// the service's "HealthCheck" are read; unknown keys are ignored.
type ContainerConfig struct {
	Hostname     string              `json:"Hostname,omitempty"`
	Domainname   string              `json:"Domainname,omitempty"`
	User         string              `json:"User,omitempty"`
	Tty          bool                `json:"Tty,omitempty"`
	OpenStdin    bool                `json:"OpenStdin,omitempty"`
	StdinOnce    bool                `json:"StdinOnce,omitempty"`
	Env          []string            `json:"Env,omitzero"`
	Cmd          StrSlice            `json:"Cmd,omitzero"`
	Entrypoint   StrSlice            `json:"Entrypoint,omitzero"`
	Healthcheck  *HealthConfig       `json:"Healthcheck,omitempty"`
	Image        string              `json:"Image,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitzero"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitzero"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	// StopTimeout is in seconds.
	StopTimeout     *int `json:"StopTimeout,omitempty"`
	NetworkDisabled bool `json:"NetworkDisabled,omitempty"`
}

// HealthConfig is a health check; the durations are nanoseconds on the wire.
type HealthConfig struct {
	Test          StrSlice      `json:"Test,omitzero"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// HostConfig is Docker's HostConfig. Memory sizes are bytes.
type HostConfig struct {
	Binds             []string          `json:"Binds,omitzero"`
	LogConfig         LogConfig         `json:"LogConfig,omitzero"`
	NetworkMode       string            `json:"NetworkMode,omitempty"`
	VolumesFrom       []string          `json:"VolumesFrom,omitzero"`
	CapAdd            StrSlice          `json:"CapAdd,omitzero"`
	CapDrop           StrSlice          `json:"CapDrop,omitzero"`
	CgroupnsMode      string            `json:"CgroupnsMode,omitempty"`
	DNS               []string          `json:"Dns,omitzero"`
	DNSOptions        []string          `json:"DnsOptions,omitzero"`
	DNSSearch         []string          `json:"DnsSearch,omitzero"`
	ExtraHosts        []string          `json:"ExtraHosts,omitzero"`
	GroupAdd          []string          `json:"GroupAdd,omitzero"`
	IPCMode           string            `json:"IpcMode,omitempty"`
	Links             []string          `json:"Links,omitzero"`
	OOMScoreAdj       int               `json:"OomScoreAdj,omitempty"`
	PIDMode           string            `json:"PidMode,omitempty"`
	Privileged        bool              `json:"Privileged,omitempty"`
	ReadonlyRootfs    bool              `json:"ReadonlyRootfs,omitempty"`
	SecurityOpt       []string          `json:"SecurityOpt,omitzero"`
	Tmpfs             map[string]string `json:"Tmpfs,omitzero"`
	UsernsMode        string            `json:"UsernsMode,omitempty"`
	ShmSize           int64             `json:"ShmSize,omitempty"`
	Sysctls           map[string]string `json:"Sysctls,omitzero"`
	Runtime           string            `json:"Runtime,omitempty"`
	CPUShares         int64             `json:"CpuShares,omitempty"`
	Memory            int64             `json:"Memory,omitempty"`
	NanoCPUs          int64             `json:"NanoCpus,omitempty"`
	CPUPeriod         int64             `json:"CpuPeriod,omitempty"`
	CPUQuota          int64             `json:"CpuQuota,omitempty"`
	CpusetCpus        string            `json:"CpusetCpus,omitempty"`
	Devices           []DeviceMapping   `json:"Devices,omitzero"`
	MemoryReservation int64             `json:"MemoryReservation,omitempty"`
	// MemorySwap is memory plus swap; -1 is unlimited.
	MemorySwap       int64    `json:"MemorySwap,omitempty"`
	MemorySwappiness *int64   `json:"MemorySwappiness,omitempty"`
	OOMKillDisable   *bool    `json:"OomKillDisable,omitempty"`
	PidsLimit        *int64   `json:"PidsLimit,omitempty"`
	Ulimits          []Ulimit `json:"Ulimits,omitzero"`
	Mounts           []Mount  `json:"Mounts,omitzero"`
	Init             *bool    `json:"Init,omitempty"`
}

// LogConfig is the log driver and its options.
type LogConfig struct {
	Type   string            `json:"Type,omitempty"`
	Config map[string]string `json:"Config,omitzero"`
}

// DeviceMapping gives a device of the host to the container.
type DeviceMapping struct {
	PathOnHost        string `json:"PathOnHost,omitempty"`
	PathInContainer   string `json:"PathInContainer,omitempty"`
	CgroupPermissions string `json:"CgroupPermissions,omitempty"`
}

// Ulimit is one resource limit; -1 is unlimited.
type Ulimit struct {
	Name string `json:"Name,omitempty"`
	Soft int64  `json:"Soft"`
	Hard int64  `json:"Hard"`
}

// Mount is Docker's long form of a mount: Type is "bind", "tmpfs" or "volume".
type Mount struct {
	Type     string `json:"Type,omitempty"`
	Source   string `json:"Source,omitempty"`
	Target   string `json:"Target,omitempty"`
	ReadOnly bool   `json:"ReadOnly,omitempty"`
}

// StrSlice is a list of strings; a single string is accepted in its place, as
// Docker does.
type StrSlice []string

// UnmarshalJSON accepts null, a string or a list of strings.
func (s *StrSlice) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*s = StrSlice{one}
		return nil
	}
	var list []string
	if json.Unmarshal(data, &list) != nil {
		return errors.New("neither a string nor a list of strings")
	}
	*s = list
	return nil
}

// Merge decodes a JSON text over c: the keys it has win, the others stay. An
// empty text changes nothing.
func (c *ContainerConfig) Merge(text string) error { return merge(text, c) }

// Merge decodes a JSON text over c: the keys it has win, the others stay. An
// empty text changes nothing.
func (c *HostConfig) Merge(text string) error { return merge(text, c) }

// Text is the document as it travels in DockerConfig.
func (c ContainerConfig) Text() (string, error) { return text(c) }

// Text is the document as it travels in DockerConfig.
func (c HostConfig) Text() (string, error) { return text(c) }

func merge(text string, into any) error {
	if text == "" {
		return nil
	}
	return unmarshal([]byte(text), into, "")
}

func text(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot encode docker configuration: %w", err)
	}
	return string(b), nil
}

// Overrides is what Container.Overrides may say.
type Overrides struct {
	// Command replaces the container's when not nil.
	Command []string `json:"command,omitzero"`
}

// ParseOverrides reads the overrides of a container. A key other than command
// makes the task invalid.
func ParseOverrides(t JSONText) (Overrides, error) {
	if t == "" {
		return Overrides{}, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(t), &members); err != nil {
		return Overrides{}, fmt.Errorf("is not a JSON object: %w", err)
	}
	var o Overrides
	for key, raw := range members {
		if key != "command" {
			return Overrides{}, fmt.Errorf("has the unknown key %q", key)
		}
		if err := json.Unmarshal(raw, &o.Command); err != nil {
			return Overrides{}, errors.New("command is not a list of strings")
		}
	}
	return o, nil
}

// Text is the overrides as they travel in Container.Overrides.
func (o Overrides) Text() (JSONText, error) {
	s, err := text(o)
	return JSONText(s), err
}

package acs

import (
	"bytes"
	"encoding/json"
)

// PayloadMessage brings tasks to run and to stop (§4.7). It is acknowledged
// only when every task was accepted.
type PayloadMessage struct {
	MessageID            string `json:"messageId,omitempty"`
	ClusterARN           string `json:"clusterArn,omitempty"`
	ContainerInstanceARN string `json:"containerInstanceArn,omitempty"`
	// Tasks may hold nil for a JSON null, which keeps the payload from being
	// acknowledged.
	Tasks       []*Task `json:"tasks,omitzero"`
	GeneratedAt int64   `json:"generatedAt,omitempty"`
	SeqNum      int64   `json:"seqNum,omitempty"`
	Timeline    int64   `json:"timeline,omitempty"`
}

// MessageType is TypePayload.
func (*PayloadMessage) MessageType() string { return TypePayload }

// UnmarshalJSON reads task by task, so that one that cannot be read is marked
// Malformed and the others are kept.
func (m *PayloadMessage) UnmarshalJSON(data []byte) error {
	type plain PayloadMessage
	outer := struct {
		*plain
		Tasks []json.RawMessage `json:"tasks"`
	}{plain: (*plain)(m)}
	if err := unmarshal(data, &outer, ""); err != nil {
		return err
	}
	m.Tasks = nil
	if outer.Tasks != nil {
		m.Tasks = make([]*Task, 0, len(outer.Tasks))
	}
	for i, raw := range outer.Tasks {
		if string(raw) == "null" {
			m.Tasks = append(m.Tasks, nil)
			continue
		}
		t := new(Task)
		t.Malformed = unmarshal(raw, t, at("tasks", i))
		m.Tasks = append(m.Tasks, t)
	}
	return nil
}

// The values of Task.DesiredStatus that are acted on.
const (
	DesiredRunning = "RUNNING"
	DesiredStopped = "STOPPED"
)

// Task is one task of a payload (§4.6).
type Task struct {
	// Malformed is set by Decode when a member has the wrong JSON type; the
	// others are still there, ARN among them if it could be read.
	Malformed error `json:"-"`

	ARN           string       `json:"arn,omitempty"`
	ClusterARN    string       `json:"taskClusterArn,omitempty"`
	Family        string       `json:"family,omitempty"`
	Version       string       `json:"version,omitempty"`
	DesiredStatus string       `json:"desiredStatus,omitempty"`
	Containers    []*Container `json:"containers,omitzero"`
	Volumes       []Volume     `json:"volumes,omitzero"`
	// CPU is the task's limit in vCPU, Memory in MiB; 0 is none.
	CPU                      float64             `json:"cpu,omitempty"`
	Memory                   int64               `json:"memory,omitempty"`
	NetworkMode              string              `json:"networkMode,omitempty"`
	PIDMode                  string              `json:"pidMode,omitempty"`
	IPCMode                  string              `json:"ipcMode,omitempty"`
	ElasticNetworkInterfaces []ENI               `json:"elasticNetworkInterfaces,omitzero"`
	RoleCredentials          *IAMRoleCredentials `json:"roleCredentials,omitempty"`
	ExecutionRoleCredentials *IAMRoleCredentials `json:"executionRoleCredentials,omitempty"`
	Attachments              []Attachment        `json:"attachments,omitzero"`
	Associations             []Association       `json:"associations,omitzero"`
	ProxyConfiguration       *ProxyConfiguration `json:"proxyConfiguration,omitempty"`
	LaunchType               string              `json:"launchType,omitempty"`
	ServiceName              string              `json:"serviceName,omitempty"`
	Group                    string              `json:"group,omitempty"`
	EnableFaultInjection     bool                `json:"enableFaultInjection,omitempty"`
	// Overrides of the task are ignored.
	Overrides               JSONText `json:"overrides,omitempty"`
	Zone                    string   `json:"zone,omitempty"`
	TaskDefinitionAccountID string   `json:"taskDefinitionAccountId,omitempty"`
}

// JSONText is JSON that travels as the text of a JSON string; the value itself
// in place of its text is accepted too. The zero value is no text.
type JSONText string

// UnmarshalJSON takes a string's content, or the compact text of anything else.
func (t *JSONText) UnmarshalJSON(data []byte) error {
	switch {
	case string(data) == "null":
		return nil
	case data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*t = JSONText(s)
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return err
	}
	*t = JSONText(b.String())
	return nil
}

// Volume is a volume of a task; an absent Type means "host".
type Volume struct {
	Name   string        `json:"name,omitempty"`
	Type   string        `json:"type,omitempty"`
	Host   *HostVolume   `json:"host,omitempty"`
	Docker *DockerVolume `json:"dockerVolumeConfiguration,omitempty"`
	EFS    *EFSVolume    `json:"efsVolumeConfiguration,omitempty"`
	FSx    *FSxVolume    `json:"fsxWindowsFileServerVolumeConfiguration,omitempty"`
	// EBS and LogDriver make the task invalid.
	EBS       json.RawMessage `json:"ebsVolumeConfiguration,omitempty"`
	LogDriver json.RawMessage `json:"logDriverVolumeConfiguration,omitempty"`
}

// The types of Volume.
const (
	VolumeHost       = "host"
	VolumeDocker     = "docker"
	VolumeEFS        = "efs"
	VolumeFSx        = "fsxWindowsFileServer"
	VolumeEBS        = "ebs"
	VolumeLogDriver  = "logDriverOutput"
	VolumeS3Files    = "s3files"
	VolumeAttachment = "attachment"
)

// HostVolume is a path on the host; an empty one asks for a volume of the
// task's own.
type HostVolume struct {
	SourcePath string `json:"sourcePath,omitempty"`
}

// DockerVolume is a named volume: Scope is "task" (the default) or "shared".
type DockerVolume struct {
	Scope         string            `json:"scope,omitempty"`
	Autoprovision bool              `json:"autoprovision,omitempty"`
	Driver        string            `json:"driver,omitempty"`
	DriverOpts    map[string]string `json:"driverOpts,omitzero"`
	Labels        map[string]string `json:"labels,omitzero"`
}

// EFSVolume is an EFS file system.
type EFSVolume struct {
	FileSystemID          string            `json:"fileSystemId,omitempty"`
	RootDirectory         string            `json:"rootDirectory,omitempty"`
	TransitEncryption     string            `json:"transitEncryption,omitempty"`
	TransitEncryptionPort int               `json:"transitEncryptionPort,omitempty"`
	Authorization         *EFSAuthorization `json:"authorizationConfig,omitempty"`
}

// EFSAuthorization says how an EFS file system is mounted: IAM is "ENABLED" or
// "DISABLED".
type EFSAuthorization struct {
	AccessPointID string `json:"accessPointId,omitempty"`
	IAM           string `json:"iam,omitempty"`
}

// FSxVolume is for Windows and is not acted on.
type FSxVolume struct {
	FileSystemID  string `json:"fileSystemId,omitempty"`
	RootDirectory string `json:"rootDirectory,omitempty"`
}

// Association gives a container a GPU or an inference accelerator.
type Association struct {
	Name       string              `json:"name,omitempty"`
	Type       string              `json:"type,omitempty"`
	Content    *AssociationContent `json:"content,omitempty"`
	Containers []string            `json:"containers,omitzero"`
}

// AssociationContent is encoded as "identity" or "base64".
type AssociationContent struct {
	Value    string `json:"value,omitempty"`
	Encoding string `json:"encoding,omitempty"`
}

// ProxyConfiguration is App Mesh's.
type ProxyConfiguration struct {
	Type          string            `json:"type,omitempty"`
	ContainerName string            `json:"containerName,omitempty"`
	Properties    map[string]string `json:"properties,omitzero"`
}

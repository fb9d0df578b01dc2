package tcs

import "math"

// PublishMetricsRequest carries what containers used (§5.5). All messages of
// one cycle share their MessageID.
type PublishMetricsRequest struct {
	Metadata    MetricsMetadata `json:"metadata"`
	TaskMetrics []TaskMetric    `json:"taskMetrics,omitzero"`
	// InstanceMetrics is not sent by an EC2 host.
	InstanceMetrics *InstanceMetrics `json:"instanceMetrics,omitempty"`
	Timestamp       Timestamp        `json:"timestamp,omitzero"`
}

// MessageType is TypePublishMetrics.
func (*PublishMetricsRequest) MessageType() string { return TypePublishMetrics }

// MetricsMetadata says whose metrics they are. Idle is true when no container
// is tracked, Fin on the last message of a cycle.
type MetricsMetadata struct {
	Cluster           string `json:"cluster,omitempty"`
	ContainerInstance string `json:"containerInstance,omitempty"`
	Fin               bool   `json:"fin"`
	Idle              bool   `json:"idle"`
	MessageID         string `json:"messageId,omitempty"`
}

// InstanceMetrics is about the host's file systems.
type InstanceMetrics struct {
	Storage *InstanceStorage `json:"storage,omitempty"`
}

// InstanceStorage is in percent used.
type InstanceStorage struct {
	RootFilesystem float64 `json:"rootFilesystem"`
	DataFilesystem float64 `json:"dataFilesystem"`
}

// TaskMetric is what the containers of one task used.
type TaskMetric struct {
	TaskARN               string            `json:"taskArn,omitempty"`
	TaskDefinitionFamily  string            `json:"taskDefinitionFamily,omitempty"`
	TaskDefinitionVersion string            `json:"taskDefinitionVersion,omitempty"`
	ClusterARN            string            `json:"clusterArn,omitempty"`
	ContainerMetrics      []ContainerMetric `json:"containerMetrics,omitzero"`
	VolumeMetrics         []VolumeMetric    `json:"volumeMetrics,omitzero"`
}

// VolumeMetric is the fill of an EBS volume, in bytes.
type VolumeMetric struct {
	VolumeID   string   `json:"volumeId,omitempty"`
	VolumeName string   `json:"volumeName,omitempty"`
	Utilized   *Doubles `json:"utilized,omitempty"`
	Size       *Doubles `json:"size,omitempty"`
}

// ContainerMetric is what one container used. CPU and memory are mandatory.
type ContainerMetric struct {
	ContainerName string `json:"containerName,omitempty"`
	ContainerARN  string `json:"containerArn,omitempty"`
	// CPU is percent of the whole host, Memory MiB.
	CPU     *Doubles  `json:"cpuStatsSet,omitempty"`
	Memory  *Doubles  `json:"memoryStatsSet,omitempty"`
	Storage *Storage  `json:"storageStatsSet,omitempty"`
	Network *Network  `json:"networkStatsSet,omitempty"`
	Restart *Restarts `json:"restartStatsSet,omitempty"`
}

// Storage is bytes since the container started.
type Storage struct {
	ReadSizeBytes  *Counters `json:"readSizeBytes,omitempty"`
	WriteSizeBytes *Counters `json:"writeSizeBytes,omitempty"`
}

// Network is counters since the container started, summed over interfaces, and
// rates between samples.
type Network struct {
	RxBytes          *Counters `json:"rxBytes,omitempty"`
	RxPackets        *Counters `json:"rxPackets,omitempty"`
	RxErrors         *Counters `json:"rxErrors,omitempty"`
	RxDropped        *Counters `json:"rxDropped,omitempty"`
	TxBytes          *Counters `json:"txBytes,omitempty"`
	TxPackets        *Counters `json:"txPackets,omitempty"`
	TxErrors         *Counters `json:"txErrors,omitempty"`
	TxDropped        *Counters `json:"txDropped,omitempty"`
	RxBytesPerSecond *Doubles  `json:"rxBytesPerSecond,omitempty"`
	TxBytesPerSecond *Doubles  `json:"txBytesPerSecond,omitempty"`
}

// Restarts is how often a container was restarted since the last report.
type Restarts struct {
	RestartCount int64 `json:"restartCount"`
}

// Doubles is a statistic set of floating point readings.
type Doubles struct {
	Max         float64 `json:"max"`
	Min         float64 `json:"min"`
	SampleCount int64   `json:"sampleCount"`
	Sum         float64 `json:"sum"`
}

// Counters is a statistic set of unsigned readings. The wire knows signed
// integers only: what does not fit is in the overflow members.
type Counters struct {
	Max         int64 `json:"max"`
	Min         int64 `json:"min"`
	OverflowMax int64 `json:"overflowMax"`
	OverflowMin int64 `json:"overflowMin"`
	OverflowSum int64 `json:"overflowSum"`
	SampleCount int64 `json:"sampleCount"`
	Sum         int64 `json:"sum"`
}

// NewCounters makes a set out of unsigned readings. A value above the largest
// signed integer is sent as that integer and, as overflow, the value modulo it.
func NewCounters(minimum, maximum, sum uint64, samples int64) *Counters {
	c := &Counters{SampleCount: samples}
	c.Min, c.OverflowMin = split(minimum)
	c.Max, c.OverflowMax = split(maximum)
	c.Sum, c.OverflowSum = split(sum)
	return c
}

func split(v uint64) (base, overflow int64) {
	if v <= math.MaxInt64 {
		return int64(v), 0
	}
	return math.MaxInt64, int64(v % math.MaxInt64)
}

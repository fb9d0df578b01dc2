package ctrd

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/berthd/berth/runtime/container"
)

const (
	// recordName and recordType name our extension of a containerd container.
	recordName = "io.berth.record"
	recordType = "io.berth/record/v1"

	// labelStarted marks a container whose init was started once, with the time;
	// labelExit one whose exit was recorded.
	labelStarted = "io.berth/started"
	labelExit    = "io.berth/exit"

	// labelRoot keeps containerd's garbage collector from a snapshot that has
	// no container record yet; labelContainer says whose it is.
	labelRoot      = "containerd.io/gc.root"
	labelContainer = "io.berth/container"

	// groupAnnotation has containers of one value share a shim.
	groupAnnotation = "io.containerd.runc.v2.group"

	// maxLabel is the longest label, key and value, that containerd takes.
	maxLabel = 4096
)

// record is what we keep with a containerd container, beside the OCI spec: what
// Status gives back and what starting again needs.
type record struct {
	// Labels are all of Spec.Labels. Those that containerd takes are its labels
	// too, for people who look with other tools.
	Labels map[string]string `json:"labels,omitempty"`
	// Image is the reference as Spec had it, Digest what it was created from.
	Image  string       `json:"image"`
	Digest string       `json:"digest"`
	Group  string       `json:"group"`
	IO     container.IO `json:"io"`
	// PIDOf and IPCOf are containers whose namespaces are joined; their paths
	// are known at the start only.
	PIDOf string `json:"pidOf,omitempty"`
	IPCOf string `json:"ipcOf,omitempty"`
	// Holder says that there is no snapshot: the container holds namespaces only.
	Holder bool `json:"holder,omitempty"`
	// Shm is the size of a /dev/shm that others may join; zero has none.
	Shm int64 `json:"shm,omitempty"`
	// Secret says that the container has secret variables, which are not here.
	Secret bool `json:"secret,omitempty"`
	// Volumes are those that images declare, the container's own and others'.
	Volumes []imageVolume `json:"volumes,omitempty"`
}

// mark is the recorded exit of a container, the value of labelExit.
type mark struct {
	Code int       `json:"code"`
	At   time.Time `json:"at"`
	OOM  bool      `json:"oom,omitempty"`
}

// stored is a container as containerd gives it back.
type stored struct {
	containers.Container

	record  record
	started time.Time // zero: never
	exit    *container.Exit
}

func (r record) any() (typeurl.Any, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode container record: %w", err)
	}
	// It is no registered type: containerd need not know it.
	return &anypb.Any{TypeUrl: recordType, Value: value}, nil
}

// load reads what containerd has of a container.
func load(c containers.Container) (stored, error) {
	s := stored{Container: c}
	ext, ok := c.Extensions[recordName]
	if !ok {
		return s, fmt.Errorf("container %s was not made by berth", c.ID)
	}
	if err := json.Unmarshal(ext.GetValue(), &s.record); err != nil {
		return s, fmt.Errorf("cannot decode record of container %s: %w", c.ID, err)
	}
	if text := c.Labels[labelStarted]; text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return s, fmt.Errorf("cannot decode start time of container %s: %w", c.ID, err)
		}
		s.started = at
	}
	if text := c.Labels[labelExit]; text != "" {
		var m mark
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return s, fmt.Errorf("cannot decode exit of container %s: %w", c.ID, err)
		}
		s.exit = &container.Exit{Code: m.Code, Known: true, At: m.At, OOMKilled: m.OOM}
	}
	return s, nil
}

// spec decodes the container's OCI spec.
func (s stored) spec() (*specs.Spec, error) {
	var spec specs.Spec
	if err := json.Unmarshal(s.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("cannot decode OCI spec of container %s: %w", s.ID, err)
	}
	return &spec, nil
}

// process decodes the process of the container's OCI spec alone: most of a spec is
// its seccomp profile, and health checks ask for this all the time.
func (s stored) process() (*specs.Process, error) {
	spec := struct {
		Process *specs.Process `json:"process"`
	}{Process: new(specs.Process)}
	if err := json.Unmarshal(s.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("cannot decode OCI spec of container %s: %w", s.ID, err)
	}
	return spec.Process, nil
}

// visible are the labels that containerd takes.
func visible(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		if k != "" && len(k)+len(v) <= maxLabel {
			out[k] = v
		}
	}
	return out
}

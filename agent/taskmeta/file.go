package taskmeta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/durable"
)

// FileName is the name of a container's metadata file in its directory.
const FileName = "ecs-container-metadata.json"

// fileShape is what the file holds, spec/host.md §1.18.
type fileShape struct {
	Cluster                string         `json:",omitempty"`
	ContainerInstanceARN   string         `json:",omitempty"`
	TaskARN                string         `json:",omitempty"`
	TaskDefinitionFamily   string         `json:",omitempty"`
	TaskDefinitionRevision string         `json:",omitempty"`
	ContainerID            string         `json:",omitempty"`
	ContainerName          string         `json:",omitempty"`
	DockerContainerName    string         `json:",omitempty"`
	ImageID                string         `json:",omitempty"`
	ImageName              string         `json:",omitempty"`
	PortMappings           []filePort     `json:",omitempty"`
	Networks               []networkShape `json:",omitempty"`
	MetadataFileStatus     string         `json:",omitempty"`
	AvailabilityZone       string         `json:",omitempty"`
	HostPrivateIPv4Address string         `json:",omitempty"`
	HostPublicIPv4Address  string         `json:",omitempty"`
	HostIPv6Address        string         `json:",omitempty"`
}

type filePort struct {
	ContainerPort uint16 `json:",omitempty"`
	HostPort      uint16 `json:",omitempty"`
	BindIP        string `json:"BindIp,omitempty"`
	Protocol      string `json:",omitempty"`
}

// Addresses are those of the host as instance metadata has them; "" where it has
// none.
type Addresses struct{ PrivateIPv4, PublicIPv4, IPv6 string }

// FilesConfig is what Files are made of. Dir, Host and Log are needed.
type FilesConfig struct {
	// Dir holds a directory for each task.
	Dir  string
	Host func() Host
	// Addresses are asked for each time a file is written: they change.
	Addresses func(ctx context.Context) Addresses
	Log       *zap.Logger
}

// Files writes a metadata file for each container (ECS_ENABLE_CONTAINER_METADATA):
// what is known before it is created, and all of it once it runs. A file is
// replaced in one step. Its methods may be called at once.
type Files struct {
	cfg FilesConfig

	mu sync.Mutex // guards pending
	// pending are the tasks whose files are to be looked at, the newest view of
	// each.
	pending map[string]*Task
	// more has room for one: that there is something is news only once.
	more chan struct{}
}

// NewFiles makes one; Run writes what Changed tells.
func NewFiles(c FilesConfig) *Files {
	return &Files{cfg: c, pending: map[string]*Task{}, more: make(chan struct{}, 1)}
}

// Prepare writes the file of a container that is to be created, and answers with
// the directory that holds it.
func (f *Files) Prepare(ctx context.Context, d *task.Definition, name string) (dir string, err error) {
	dir = f.dir(d, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make directory for the container metadata file: %w", err)
	}
	return dir, f.write(dir, f.describe(ctx, d, name))
}

// Remove deletes the files of a task.
func (f *Files) Remove(d *task.Definition) error {
	if err := os.RemoveAll(filepath.Join(f.cfg.Dir, d.ID)); err != nil {
		return fmt.Errorf("cannot remove container metadata files: %w", err)
	}
	return nil
}

// SweepFiles deletes below dir the files of tasks that are not known: those whose
// clean-up came while no files were wanted. No directory is no error.
func SweepFiles(dir string, known func(taskID string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for container metadata files: %w", err)
	}
	for _, e := range entries {
		if known(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot remove container metadata files: %w", err)
		}
	}
	return nil
}

// Changed tells of a task. It does not block.
func (f *Files) Changed(t *Task) {
	f.mu.Lock()
	f.pending[t.definition().ID] = t
	f.mu.Unlock()
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// Run writes the files of containers that run, until ctx ends.
func (f *Files) Run(ctx context.Context) error {
	for {
		select {
		case <-f.more:
		case <-ctx.Done():
			return nil
		}
		f.mu.Lock()
		pending := f.pending
		f.pending = map[string]*Task{}
		f.mu.Unlock()
		for _, t := range pending {
			f.complete(ctx, t)
		}
	}
}

// complete writes the files of the task's containers that run. A container whose
// directory is gone has none any more.
func (f *Files) complete(ctx context.Context, t *Task) {
	for i := range t.State.Containers {
		s := &t.State.Containers[i]
		if s.Phase != task.PhaseRunning {
			continue
		}
		shape := f.describe(ctx, t.definition(), s.Name)
		shape.ContainerID, shape.ImageID, shape.MetadataFileStatus = s.RuntimeID, s.ImageID, "READY"
		shape.Networks = describer{version: v3}.networks(t, s.Name)
		for _, p := range (describer{version: v4}).ports(s.Bindings) {
			shape.PortMappings = append(shape.PortMappings, filePort{p.ContainerPort, p.HostPort, p.HostIP, p.Protocol})
		}
		err := f.write(f.dir(t.definition(), s.Name), shape)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.cfg.Log.Warn("cannot write container metadata file", zap.String("task", t.definition().ID), zap.String("container", s.Name), zap.Error(err))
		}
	}
}

// describe is what is known of a container before it is created.
func (f *Files) describe(ctx context.Context, d *task.Definition, name string) fileShape {
	host := f.cfg.Host()
	out := fileShape{
		Cluster: host.Cluster, ContainerInstanceARN: host.ContainerInstanceARN, TaskARN: d.ARN,
		TaskDefinitionFamily: d.Family, TaskDefinitionRevision: d.Version, ContainerName: name, DockerContainerName: d.RuntimeName(name),
		AvailabilityZone: host.Zone,
	}
	if i := slices.IndexFunc(d.Containers, func(c task.Container) bool { return c.Name == name }); i >= 0 {
		out.ImageName = d.Containers[i].Image
	}
	if f.cfg.Addresses != nil {
		a := f.cfg.Addresses(ctx)
		out.HostPrivateIPv4Address, out.HostPublicIPv4Address, out.HostIPv6Address = a.PrivateIPv4, a.PublicIPv4, a.IPv6
	}
	return out
}

// dir is the directory of a container's file: both names are single elements of
// a path.
func (f *Files) dir(d *task.Definition, name string) string {
	return filepath.Join(f.cfg.Dir, d.ID, name)
}

// write replaces the file in a directory, unless it says this already.
func (f *Files) write(dir string, shape fileShape) error {
	text, err := json.MarshalIndent(shape, "", "\t")
	if err != nil {
		return fmt.Errorf("cannot encode container metadata: %w", err)
	}
	path := filepath.Join(dir, FileName)
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, text) {
		return nil
	}
	if err := durable.ReplaceWhole(path, text, 0o644); err != nil {
		return fmt.Errorf("cannot write container metadata file: %w", err)
	}
	return nil
}

package resources

import (
	"context"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// MetadataFiles writes a file for each container that tells it who it is.
type MetadataFiles interface {
	// Prepare writes the file of a container that is to be created and answers with
	// the directory it is in.
	Prepare(ctx context.Context, d *task.Definition, name string) (dir string, err error)
	Remove(d *task.Definition) error
}

// metadataFiles shows each container the directory with its metadata file, under
// the path of its metadata id (spec/host.md §1.18). It is read-only: with the ECS
// agent a container could write to it.
type metadataFiles struct {
	files MetadataFiles
	// name is that of the file in its directory.
	name string
}

var _ part = metadataFiles{}

func (metadataFiles) wants(*task.Definition) bool { return true }

func (m metadataFiles) provision(ctx context.Context, t *Task) (outfits, error) {
	out := outfits{}
	for i := range t.Definition.Containers {
		c := &t.Definition.Containers[i]
		if c.MetadataID == "" {
			continue
		}
		dir, err := m.files.Prepare(ctx, t.Definition, c.Name)
		if err != nil {
			return nil, err
		}
		inside := "/opt/ecs/metadata/" + c.MetadataID
		outfit := out.of(c.Name)
		outfit.Env = []string{"ECS_CONTAINER_METADATA_FILE=" + inside + "/" + m.name}
		outfit.Mounts = []container.Mount{{
			Type: "bind", Source: dir, Destination: inside, Options: []string{"rbind", "ro", "rprivate", "nosuid", "nodev", "noexec"},
		}}
	}
	return out, nil
}

func (metadataFiles) release(context.Context, *task.Definition) error { return nil }

func (m metadataFiles) remove(_ context.Context, d *task.Definition) error { return m.files.Remove(d) }

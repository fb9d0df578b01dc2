package acs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// visibleGPUs is the variable by which containers are told, and may ask for, GPUs.
const visibleGPUs = "NVIDIA_VISIBLE_DEVICES"

// associations are what the task's containers get of the host
// (spec/task-engine.md §5.14).
func (b *builder) associations(path string) error {
	for i, a := range b.task.Associations {
		at := fmt.Sprintf("%s.associations[%d]", path, i)
		switch a.Type {
		case task.AssociationInference:
		case task.AssociationGPU:
			if err := b.association(a, at); err != nil {
				return err
			}
		default:
			return &UnsupportedError{at, "an association of type " + a.Type}
		}
		out := task.Association{Type: a.Type, Name: a.Name, Containers: a.Containers}
		if a.Content != nil {
			out.Content = a.Content.Value
		}
		b.definition.Associations = append(b.definition.Associations, out)
	}
	return nil
}

// association checks that of a GPU.
func (b *builder) association(a wire.Association, at string) error {
	refuse := func(format string, args ...any) error {
		return setUp(at, "resource cannot be initialized for task %s: %s", b.task.ARN, fmt.Sprintf(format, args...))
	}
	if !b.GPUs {
		return &UnsupportedError{at, "a GPU without ECS_ENABLE_GPU_SUPPORT"}
	}
	if len(a.Containers) != 1 {
		return refuse("could not associate multiple containers to GPU %s", a.Name)
	}
	if !slices.ContainsFunc(b.task.Containers, func(c *wire.Container) bool { return c.Name == a.Containers[0] }) {
		return refuse("could not find container with name %s for associating GPU %s", a.Containers[0], a.Name)
	}
	return nil
}

// gpus gives the container those that it is associated with; one that is with
// none and names some in its own environment gets these, as with the runtime that
// ECS has for GPUs.
func (b *builder) gpus(out *task.Container, _ *wire.Container, _ documents, _ string) error {
	if !b.GPUs {
		return nil
	}
	for _, a := range b.definition.Associations {
		if a.Type == task.AssociationGPU && slices.Contains(a.Containers, out.Name) {
			out.Spec.GPUs = append(out.Spec.GPUs, a.Name)
		}
	}
	if len(out.Spec.GPUs) > 0 {
		return nil
	}
	for _, kv := range out.Spec.Process.Env {
		if value, ok := strings.CutPrefix(kv, visibleGPUs+"="); ok {
			out.Spec.GPUs = named(value)
		}
	}
	return nil
}

// named are the GPUs that a value of the variable names.
func named(value string) []string {
	var ids []string
	for id := range strings.SplitSeq(value, ",") {
		switch id = strings.TrimSpace(id); id {
		case "", "none", "void":
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

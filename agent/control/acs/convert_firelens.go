package acs

import (
	"fmt"
	"maps"
	"slices"

	"github.com/berthd/berth/agent/firelens"
	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// firelens makes the container the task's log router. What its options say is
// looked at when it is made: they are wrong in words of their own
// (spec/task-engine.md §5.11).
func (b *builder) firelens(out *task.Container, c *wire.Container, _ documents, _ string) error {
	if f := c.FirelensConfiguration; f != nil {
		out.Firelens = &task.Firelens{Type: f.Type, Options: maps.Clone(f.Options)}
	}
	return nil
}

// routed makes containers whose lines go through the log router wait for its
// start, unless it waits for others itself: it might be for them. It is called
// when all containers are known.
func (b *builder) routed(path string) error {
	all := b.definition.Containers
	router := slices.IndexFunc(all, func(c task.Container) bool { return c.Firelens != nil })
	for i := range all {
		c := &all[i]
		at := fmt.Sprintf("%s.containers[%d]", path, i)
		if c.Firelens != nil && i != router {
			return field(at+".firelensConfiguration", "there is one already, in container %s", all[router].Name)
		}
		if c.Log.Driver != firelens.LogDriver {
			continue
		}
		switch {
		case router < 0:
			return field(at+".dockerConfig.hostConfig.LogConfig.Type", "%s needs a container with a firelensConfiguration", firelens.LogDriver)
		case router == i:
			return field(at+".dockerConfig.hostConfig.LogConfig.Type", "a log router cannot send its own lines to %s", firelens.LogDriver)
		case len(all[router].DependsOn) > 0 || slices.ContainsFunc(c.DependsOn, func(d task.Dependency) bool { return d.Container == all[router].Name }):
		default:
			depend(c, all[router].Name, task.ConditionStart)
		}
	}
	return nil
}

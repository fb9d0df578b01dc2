package engine

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/firelens"
	"github.com/berthd/berth/agent/task"
)

// routerPatience bounds the wait for a log router to take the last lines of its
// task's containers before it is stopped itself.
const routerPatience = 5 * time.Second

// feedRouter waits, before a log router is stopped, until it has the last lines of
// the containers that log to it: they have ended by now, and nobody takes their
// lines after it.
func (r *runner) feedRouter(ctx context.Context, name string) {
	if r.definition(name).Firelens == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, routerPatience, errors.New("the log router does not take them in time"))
	defer cancel()
	t := r.view.Load()
	d := &t.State.Definition
	for i := range d.Containers {
		c := &d.Containers[i]
		if c.Log.Driver != firelens.LogDriver || t.container(c.Name).Phase != task.PhaseStopped {
			continue
		}
		id := t.ContainerID(c.Name)
		err := r.engine.config.Logs.Close(ctx, id)
		if err == nil {
			err = r.engine.config.Logs.Delivered(ctx, id)
		}
		if err != nil && r.engine.ctx().Err() == nil {
			r.log.Warn("the log router is stopped before it has the container's last lines", zap.String("container", c.Name), zap.Error(err))
		}
	}
}

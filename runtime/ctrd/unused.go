package ctrd

import (
	"context"
	"fmt"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"

	"github.com/berthd/berth/runtime/container"
)

// Normalise completes a reference as Docker does, and as ImageRecord.Names are;
// one that cannot be read stays as it is.
func (r *Runtime) Normalise(ref string) string {
	named, err := normalise(ref)
	if err != nil {
		return ref
	}
	return named.String()
}

// RemoveUnused takes all of an image's names away, and so the image, if no pull
// of any of them is under way and inUse, which is asked while none can begin,
// says no. It says whether it did, and returns when containerd has freed the
// space. Containers made from the image keep their root file systems.
func (r *Runtime) RemoveUnused(ctx context.Context, names []string, inUse func() bool) (bool, error) {
	ctx = r.ns(ctx)
	for _, name := range names {
		leave, alone := r.pulling.tryAlone(name)
		if !alone {
			return false, nil
		}
		defer leave()
	}
	if inUse() {
		return false, nil
	}
	store := r.client.ImageService()
	for i, name := range names {
		var options []images.DeleteOpt
		if i == len(names)-1 {
			options = append(options, images.SynchronousDelete())
		}
		img, err := store.Get(ctx, name)
		if err == nil {
			r.forget(img)
			err = store.Delete(ctx, name, options...)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return false, r.fail(ctx, container.KindRemove, "remove image "+name, err)
		}
	}
	return true, nil
}

// forget drops what is remembered of an image.
func (r *Runtime) forget(img images.Image) {
	r.images.mu.Lock()
	defer r.images.mu.Unlock()
	delete(r.images.used, img.Name)
	if info, ok := r.images.infos[img.Target.Digest]; ok {
		delete(r.images.accounts, info.chainID)
	}
	delete(r.images.infos, img.Target.Digest)
}

// MarkUsed notes that the image of that name was in use at a time.
func (r *Runtime) MarkUsed(ctx context.Context, name string, at time.Time) error {
	ctx = r.ns(ctx)
	_, err := r.client.ImageService().Update(ctx, images.Image{
		Name:   name,
		Labels: map[string]string{labelUsedAt: at.UTC().Format(time.RFC3339Nano)},
	}, "labels."+labelUsedAt)
	if err != nil && !errdefs.IsNotFound(err) {
		return r.fail(ctx, container.KindInspect, "mark image "+name, err)
	}
	return nil
}

// Strangers are the containers in our namespace that Berth has not made.
func (r *Runtime) Strangers(ctx context.Context) ([]container.Stranger, error) {
	ctx = r.ns(ctx)
	all, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, r.fail(ctx, container.KindInspect, "list containers", err)
	}
	var out []container.Stranger
	for _, c := range all {
		if _, ours := c.Extensions[recordName]; ours {
			continue
		}
		stranger := container.Stranger{ID: c.ID, Image: c.Image, EndedAt: c.UpdatedAt}
		p, err := r.task(ctx, c.ID)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return nil, r.fail(ctx, container.KindInspect, "look at container "+c.ID, err)
		case p.GetStatus() == tasktypes.Status_STOPPED:
			stranger.EndedAt = p.GetExitedAt().AsTime()
		default:
			stranger.Running, stranger.EndedAt = true, time.Time{}
		}
		out = append(out, stranger)
	}
	return out, nil
}

// RemoveStranger removes a container that Berth has not made and that does not
// run: its task, its root file system and its record.
func (r *Runtime) RemoveStranger(ctx context.Context, id string) error {
	ctx = r.ns(ctx)
	return r.fail(ctx, container.KindRemove, "remove container "+id, r.removeStranger(ctx, id))
}

func (r *Runtime) removeStranger(ctx context.Context, id string) error {
	c, err := r.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, ours := c.Extensions[recordName]; ours {
		return fmt.Errorf("container %s is Berth's", id)
	}
	// containerd refuses to delete the task of one that runs.
	_, err = r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if c.SnapshotKey != "" {
		err := r.client.SnapshotService(c.Snapshotter).Remove(ctx, c.SnapshotKey)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

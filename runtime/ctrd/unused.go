package ctrd

import (
	"context"
	"time"

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

// Space is how many bytes are free of how many where images are kept.
func (r *Runtime) Space() (free, total uint64, err error) { return r.space(r.cfg.ContentDir) }

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

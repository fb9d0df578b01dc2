package ctrd

import (
	"context"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"github.com/berthd/berth/runtime/container"
)

// Sweep removes what no container has: root file systems of a Create that was cut
// short and never called again, and its secret variables and volumes; and what an
// agent that was killed has left mounted or running. Call it when no Create runs.
func (r *Runtime) Sweep(ctx context.Context) (removed []string, err error) {
	ctx = r.ns(ctx)
	kept := make(map[string]bool)
	all, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, r.fail(ctx, container.KindRemove, "list containers", err)
	}
	for _, c := range all {
		kept[c.SnapshotKey] = true
	}
	// What runs is not in the way of anybody; the caller need not wait.
	r.background.Go(func() { r.sweepExecs(r.life) })
	sn := r.client.SnapshotService(r.cfg.Snapshotter)
	err = sn.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Labels[labelContainer] != "" && !kept[info.Name] {
			removed = append(removed, info.Name)
		}
		return nil
	})
	if err != nil {
		return nil, r.fail(ctx, container.KindRemove, "list snapshots", err)
	}
	for what, sweep := range map[string]func() error{
		"root file systems": r.sweepRoots,
		"secret variables":  func() error { return r.sweepSecrets(kept) },
		"volumes of images": func() error { return r.sweepVolumes(kept) },
	} {
		if err := r.cfg.OnHost(sweep); err != nil {
			return nil, r.fail(ctx, container.KindRemove, "sweep "+what, err)
		}
	}
	for _, key := range removed {
		if err := sn.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			return nil, r.fail(ctx, container.KindRemove, "remove snapshot "+key, err)
		}
	}
	return removed, nil
}

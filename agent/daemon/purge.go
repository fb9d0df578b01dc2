package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/agent/engine"
)

// Purge removes from the host what an agent with these settings made there:
// containers, which are killed if they run, their network with the bridge, the
// tasks' cgroups, and the directories of state, sockets and logs. ECS is not
// told. Images stay in containerd. Neither an agent nor a log process may run
// with the settings. What is not there is no error; what cannot be removed
// leaves the directories standing, so that Purge can be called again.
func Purge(ctx context.Context, o Options) error {
	if err := purgeHost(ctx, &o); err != nil {
		return err
	}
	for _, dir := range []string{o.Config.Paths.Run, o.Config.Paths.Data} {
		// Whatever were mounted below would be emptied with the directory.
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return fmt.Errorf("cannot list mounts: %w", err)
		}
		if len(mounts) > 0 {
			return fmt.Errorf("cannot remove %s: %s is mounted", dir, mounts[0].Mountpoint)
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove directory: %w", err)
		}
	}
	return nil
}

// purgeHost removes what is no directory.
func purgeHost(ctx context.Context, o *Options) (err error) {
	h, err := openHost(o, o.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	records, err := h.store.Tasks()
	if err != nil {
		return fmt.Errorf("cannot read task records: %w", err)
	}
	statuses, err := h.runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot list containers: %w", err)
	}
	tasks := map[string]bool{}
	for id := range records {
		tasks[id] = true
	}
	var errs []error
	for _, s := range statuses {
		tasks[s.Labels[engine.LabelTask]] = true
		errs = append(errs, h.runtime.Remove(ctx, s.ID))
	}
	errs = append(errs, h.network.Teardown(ctx))
	errs = append(errs, h.volumes.Sweep(ctx, func(string) bool { return false }))
	delete(tasks, "") // A container that is not the engine's names no task.
	for id := range tasks {
		errs = append(errs, h.cgroups.Remove(ctx, id))
	}
	return errors.Join(errs...)
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/volume"
)

// Removed is what PurgeAll took from the host.
type Removed struct {
	Containers  int      `json:"containers"`
	Images      []string `json:"images"`
	Directories []string `json:"directories"` // and files
	// Unknown says what could not be looked for; "" is nothing.
	Unknown string `json:"unknown,omitempty"`
}

// Purge removes from the host what an agent with these settings made there:
// containers, which are killed if they run, their network with the bridge, the
// tasks' cgroups, and the directories of state, sockets and logs. ECS is not
// told. Images stay in containerd. Neither an agent nor a log process may run
// with the settings. What is not there is no error; what cannot be removed
// leaves the directories standing, so that Purge can be called again.
func Purge(ctx context.Context, o Options) error {
	_, err := purgeHost(ctx, &o, purging{})
	if err != nil {
		return err
	}
	_, err = removeDirectories(o.Config.Paths.Run, o.Config.Paths.Data)
	return err
}

// PurgeAll is Purge for a host that Berth leaves for good: the images go too,
// those baked in as well, and the cache and the audit log. Where there is no
// containerd any more, nothing is removed from it.
func PurgeAll(ctx context.Context, o Options) (Removed, error) {
	p := o.Config.Paths
	removed, err := purgeHost(ctx, &o, purging{images: true, gone: true})
	if err != nil {
		return removed, err
	}
	doomed := []string{p.Run, p.Data, p.Updates}
	if p.AuditLog != "" {
		logs, err := filepath.Glob(p.AuditLog + "*")
		if err != nil {
			return removed, fmt.Errorf("cannot look for audit logs: %w", err)
		}
		doomed = append(doomed, logs...)
	}
	removed.Directories, err = removeDirectories(doomed...)
	return removed, err
}

// removeDirectories removes what there is of them, with all that is in them, and
// says which there were. A link is followed no further.
func removeDirectories(dirs ...string) (removed []string, err error) {
	for _, dir := range dirs {
		// Whoever keeps the state in /var has more than the state there.
		if dir = filepath.Clean(dir); filepath.Dir(dir) == "/" || !filepath.IsAbs(dir) {
			return removed, fmt.Errorf("cannot remove %s: it is not a directory of our own", dir)
		}
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// Whatever were mounted below would be emptied with the directory.
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return removed, fmt.Errorf("cannot list mounts: %w", err)
		}
		if len(mounts) > 0 {
			return removed, fmt.Errorf("cannot remove %s: %s is mounted", dir, mounts[0].Mountpoint)
		}
		if err := os.RemoveAll(dir); err != nil {
			return removed, fmt.Errorf("cannot remove directory: %w", err)
		}
		removed = append(removed, dir)
	}
	return removed, nil
}

// purging says how much is removed, and on what conditions.
type purging struct {
	images bool // remove all images as well
	gone   bool // a containerd that is not there has taken its containers along; otherwise it is an error
	// allowed looks at the host before anything is removed; nil allows it. The store is open and thus locked, and statuses are nil when
	// there is no containerd.
	allowed func(s *store.Store, statuses []container.Status) error
}

// purgeHost removes what is no directory.
func purgeHost(ctx context.Context, o *Options, p purging) (removed Removed, err error) {
	h, err := openHost(o, o.Log)
	if err != nil {
		return removed, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	records, err := h.store.Tasks()
	if err != nil {
		return removed, fmt.Errorf("cannot read task records: %w", err)
	}
	tasks := map[string]bool{}
	for id := range records {
		tasks[id] = true
	}
	var statuses []container.Status
	if _, err := os.Stat(o.Config.Containerd.Address); p.gone && errors.Is(err, fs.ErrNotExist) {
		removed.Unknown = "no containerd at " + o.Config.Containerd.Address + ": what it knew of containers and images is left to it"
	} else if statuses, err = h.runtime.List(ctx); err != nil {
		return removed, fmt.Errorf("cannot list containers: %w", err)
	}
	if p.allowed != nil {
		if err := p.allowed(h.store, statuses); err != nil {
			return removed, err
		}
	}
	var errs []error
	for _, s := range statuses {
		tasks[s.Labels[engine.LabelTask]] = true
		errs = append(errs, h.runtime.Remove(ctx, s.ID))
	}
	removed.Containers = len(statuses)
	if p.images && removed.Unknown == "" {
		removed.Images, err = removeImages(ctx, h.runtime)
		errs = append(errs, err)
	}
	errs = append(errs, h.faults.Sweep(ctx, func(string) bool { return false }), h.network.Teardown(ctx))
	errs = append(errs, h.volumes.Sweep(ctx, func(string) bool { return false }), h.unstage(ctx, records))
	delete(tasks, "") // A container that is not the engine's names no task.
	for id := range tasks {
		errs = append(errs, h.cgroups.Remove(ctx, id))
	}
	return removed, errors.Join(errs...)
}

// unstage unmounts the EBS volumes of all tasks. They are below no directory of
// ours alone, so the records say which they are.
func (h *host) unstage(ctx context.Context, records map[string][]byte) error {
	var errs []error
	for _, record := range records {
		d, err := engine.Definition(record)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, v := range d.Volumes {
			if v.Kind == task.VolumeEBS && v.EBS != nil {
				errs = append(errs, h.volumes.UnstageEBS(ctx, volume.EBS{VolumeID: v.EBS.VolumeID, DeviceName: v.EBS.DeviceName, Directory: v.Source}))
			}
		}
	}
	return errors.Join(errs...)
}

// removeImages removes every image, by all of its names.
func removeImages(ctx context.Context, r *ctrd.Runtime) (removed []string, err error) {
	images, err := r.Images(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	var errs []error
	for _, i := range images {
		for _, name := range i.Names {
			errs = append(errs, r.RemoveImage(ctx, name))
		}
		removed = append(removed, i.Ref)
	}
	return removed, errors.Join(errs...)
}

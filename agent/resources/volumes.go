package resources

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/volume"
)

// Volumes makes volumes on the host; *volumes.Volumes of runtime/volumes does.
type Volumes interface {
	Acquire(ctx context.Context, user string, w volume.Volume) (volume.Place, error)
	Release(ctx context.Context, user string) error
	Remove(ctx context.Context, user string) error
	Path(w volume.Volume) string
	AwaitEBS(ctx context.Context, e volume.EBS) error
	StageEBS(ctx context.Context, user string, e volume.EBS) error
	UnstageEBS(ctx context.Context, e volume.EBS) error
	EBSPath(e volume.EBS) string
}

// attachWait is how long a task waits for an EBS volume to be attached, as long as
// ECS lets an attachment take.
const attachWait = 5 * time.Minute

// taskVolumes is the part that makes the volumes of tasks, but for paths of the
// host, which the runtime binds by itself.
type taskVolumes struct {
	store Volumes
	netns func(d *task.Definition) string
}

func (v *taskVolumes) wants(d *task.Definition) bool {
	return slices.ContainsFunc(d.Volumes, func(w task.Volume) bool { return !isPath(&w) })
}

// isPath says whether a volume is a path of the host and nothing else.
func isPath(w *task.Volume) bool { return w.Kind == task.VolumeHost && w.Source != "" }

// provision makes all volumes of the task at once, whether or not a container
// mounts them (spec/task-engine.md §5.5).
func (v *taskVolumes) provision(ctx context.Context, t *Task) (outfits, error) {
	d := t.Definition
	places := make([]volume.Place, len(d.Volumes))
	group, at := errgroup.WithContext(ctx)
	for i := range d.Volumes {
		w := &d.Volumes[i]
		switch {
		case isPath(w):
		case w.Kind == task.VolumeEBS:
			group.Go(func() (err error) {
				places[i].Path = v.store.EBSPath(ebs(w))
				return v.attach(at, d.ID, w)
			})
		case w.Kind == task.VolumeDocker && !w.Shared && w.Autoprovision:
			return nil, fmt.Errorf("volume [%s] : task scoped volume could not be autoprovisioned", w.Name)
		default:
			group.Go(func() (err error) {
				places[i], err = v.store.Acquire(at, d.ID, v.wanted(d, w))
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return dressed(d, places), nil
}

// dressed are the mounts that containers get of their task's volumes.
func dressed(d *task.Definition, places []volume.Place) outfits {
	made := outfits{}
	for i := range d.Containers {
		c := &d.Containers[i]
		for _, m := range c.VolumeMounts {
			at := slices.IndexFunc(d.Volumes, func(w task.Volume) bool { return w.Name == m.Volume })
			if at < 0 || isPath(&d.Volumes[at]) {
				continue
			}
			o, w := made.of(c.Name), &d.Volumes[at]
			mount := container.Mount{
				Type: "bind", Source: places[at].Path, Destination: m.Destination, Options: []string{"rbind"},
				CopyUp: places[at].CopyUp && !slices.Contains(m.Options, "nocopy"),
			}
			if m.ReadOnly {
				mount.Options = append(mount.Options, "ro")
			}
			for _, option := range m.Options {
				if option != "nocopy" {
					mount.Options = append(mount.Options, option)
				}
			}
			o.Mounts = append(o.Mounts, mount)
			if w.Kind != task.VolumeEBS {
				continue
			}
			e := ebs(w)
			if gid := strconv.Itoa(e.GID()); !slices.Contains(o.Groups, gid) {
				o.Groups = append(o.Groups, gid)
			}
		}
	}
	return made
}

// attach waits for an EBS volume to appear, and mounts it for the user.
func (v *taskVolumes) attach(ctx context.Context, user string, w *task.Volume) error {
	ctx, cancel := context.WithTimeoutCause(ctx, attachWait, errors.New("it was not attached in time"))
	defer cancel()
	if err := v.store.AwaitEBS(ctx, ebs(w)); err != nil {
		return err
	}
	return v.store.StageEBS(ctx, user, ebs(w))
}

// wanted is a volume in the words of runtime/volumes.
func (v *taskVolumes) wanted(d *task.Definition, w *task.Volume) volume.Volume {
	out := volume.Volume{
		Name: VolumeName(d, w), Shared: w.Shared, Autoprovision: w.Autoprovision,
		Driver: w.Driver, Options: w.DriverOptions, Labels: w.Labels,
	}
	if w.Kind == task.VolumeEFS && w.EFS != nil {
		out.EFS = &volume.EFS{
			FileSystemID: w.EFS.FileSystemID, RootDirectory: w.EFS.RootDirectory, AccessPointID: w.EFS.AccessPointID,
			TLS: w.EFS.TLS, IAM: w.EFS.IAM, TLSPort: w.EFS.TLSPort,
		}
		if w.EFS.IAM && d.RoleID != "" {
			out.EFS.CredentialsURI = "/v2/credentials/" + d.RoleID
		}
		if d.Network == task.NetworkAWSVPC && v.netns != nil {
			// The server is reached through the task's own interface.
			out.EFS.NetNS = v.netns(d)
		}
	}
	return out
}

func ebs(w *task.Volume) volume.EBS {
	return volume.EBS{
		VolumeID: w.EBS.VolumeID, DeviceName: w.EBS.DeviceName, FileSystem: w.EBS.FileSystem, Directory: w.Source,
	}
}

// release unmounts what only this task had mounted. Nothing of a file system that
// needs the task's role may outlive the role's credentials.
func (v *taskVolumes) release(ctx context.Context, d *task.Definition) error {
	errs := []error{v.store.Release(ctx, d.ID)}
	for i := range d.Volumes {
		if w := &d.Volumes[i]; w.Kind == task.VolumeEBS {
			errs = append(errs, v.store.UnstageEBS(ctx, ebs(w)))
		}
	}
	return errors.Join(errs...)
}

func (v *taskVolumes) remove(ctx context.Context, d *task.Definition) error {
	return errors.Join(v.release(ctx, d), v.store.Remove(ctx, d.ID))
}

// notInName are the characters that the name of a volume on the host cannot have.
var notInName = regexp.MustCompile(`[^a-zA-Z0-9_.-]`)

// VolumeName is what a volume is called on the host, "DockerName" in metadata: its
// own name if it is shared, else ecs-<family>-<version>-<volume>-<20 hex>. The hex
// is the task's, so that the volume is found again by whoever knows the task.
func VolumeName(d *task.Definition, w *task.Volume) string {
	if w.Kind == task.VolumeDocker && w.Shared {
		return w.Name
	}
	sum := sha256.Sum256([]byte(d.ARN + "/" + w.Name))
	// The name is a directory's and has to fit.
	const room = 90
	part := func(s string) string {
		s = notInName.ReplaceAllString(s, "")
		return s[:min(len(s), room)]
	}
	return strings.Join([]string{"ecs", part(d.Family), part(d.Version), part(w.Name), hex.EncodeToString(sum[:10])}, "-")
}

// VolumeView is a mount of a container as metadata shows it: Name is "" for a path
// of the host.
type VolumeView struct{ Name, Source, Destination string }

// VolumeViews are the mounts of a container of the task, for metadata and for
// people.
func (r *Resources) VolumeViews(d *task.Definition, c *task.Container) []VolumeView {
	var views []VolumeView
	for _, m := range c.Spec.Mounts {
		if m.Type == "bind" {
			views = append(views, VolumeView{Source: m.Source, Destination: m.Destination})
		}
	}
	if r.volumes == nil {
		return views
	}
	for _, m := range c.VolumeMounts {
		at := slices.IndexFunc(d.Volumes, func(w task.Volume) bool { return w.Name == m.Volume })
		if at < 0 {
			continue
		}
		w := &d.Volumes[at]
		view := VolumeView{Destination: m.Destination}
		if w.Kind == task.VolumeEBS {
			view.Source = r.volumes.store.EBSPath(ebs(w))
		} else {
			view.Name = VolumeName(d, w)
			view.Source = r.volumes.store.Path(r.volumes.wanted(d, w))
		}
		views = append(views, view)
	}
	return views
}

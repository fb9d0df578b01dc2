package ctrd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd/ocifront"
)

const (
	runtimeName     = "io.containerd.runc.v2"
	apparmorDefault = "berth-default"
	apparmorDocker  = "docker-default"
)

// Create implements container.Runtime. It makes snapshot, spec and record; the
// process is made in Start, because it needs the network namespace, which the
// caller may set up meanwhile.
func (r *Runtime) Create(ctx context.Context, spec container.Spec) error {
	ctx = r.ns(ctx)
	unlock, err := r.ids.lock(ctx, spec.ID)
	if err != nil {
		return err
	}
	defer unlock()
	err = r.cfg.OnHost(func() error { return r.create(ctx, spec) })
	return r.fail(ctx, container.KindCreate, "create container "+spec.ID, err)
}

func (r *Runtime) create(ctx context.Context, spec container.Spec) error {
	store := r.client.ContainerService()
	if _, err := store.Get(ctx, spec.ID); err == nil {
		return r.keepSecrets(spec) // a reboot may have taken them
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	if spec.Holder {
		return r.createHolder(ctx, spec)
	}
	named, err := normalise(spec.Image)
	if err != nil {
		return err
	}
	img, info, err := r.local(ctx, named, digest.Digest(spec.Digest))
	if errdefs.IsNotFound(err) {
		return &cause{words: fmt.Sprintf("No such image: %s", spec.Image), kinds: []error{container.ErrNotFound}}
	}
	if err != nil {
		return err
	}
	var root []mount.Mount
	var wait errgroup.Group
	wait.Go(func() error { return r.touch(ctx, img) })
	wait.Go(func() (err error) {
		root, err = r.prepare(ctx, spec.ID, img, info)
		return err
	})
	if err := wait.Wait(); err != nil {
		return err
	}
	err = r.finish(ctx, spec, info, root)
	if err == nil || errdefs.IsAlreadyExists(err) {
		return nil
	}
	if serr := r.dropSecrets(spec.ID); serr != nil {
		r.log.Warn("cannot forget the secrets of a container that was not created", zap.String("container", spec.ID), zap.Error(serr))
	}
	if verr := r.dropVolumes(spec.ID); verr != nil {
		r.log.Warn("cannot remove the volumes of a container that was not created", zap.String("container", spec.ID), zap.Error(verr))
	}
	// What is left would be found by the next Create, but there may be none.
	if rerr := r.client.SnapshotService(r.cfg.Snapshotter).Remove(context.WithoutCancel(ctx), spec.ID); rerr != nil {
		r.log.Warn("cannot remove snapshot of a container that was not created", zap.String("container", spec.ID), zap.Error(rerr))
	}
	return err
}

// prepare makes the root file system, or finds the one that a Create which was
// cut short has made.
func (r *Runtime) prepare(ctx context.Context, id string, img images.Image, info imageInfo) ([]mount.Mount, error) {
	sn := r.client.SnapshotService(r.cfg.Snapshotter)
	snapshot := func() ([]mount.Mount, error) {
		return sn.Prepare(ctx, id, info.chainID, snapshots.WithLabels(map[string]string{
			labelRoot:      "berth",
			labelContainer: id,
		}))
	}
	root, err := snapshot()
	switch {
	case errdefs.IsAlreadyExists(err):
		if err := sn.Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		return snapshot()
	case errdefs.IsNotFound(err):
		// The image is known and not unpacked, or only partly: another
		// snapshotter pulled it, or its snapshots were removed.
		if err := r.unpack(ctx, img); err != nil {
			return nil, err
		}
		return snapshot()
	}
	return root, err
}

// finish makes spec and record.
func (r *Runtime) finish(ctx context.Context, spec container.Spec, info imageInfo, root []mount.Mount) error {
	volumes, err := r.imageVolumes(ctx, &spec, info)
	if err != nil {
		return err
	}
	if err := r.prepareMounts(ctx, spec, root); err != nil {
		return err
	}
	names, err := r.names(ctx, info, root)
	if err != nil {
		return err
	}
	oci, err := ociSpec(specInput{
		Spec: spec, image: info.imageConfig, accounts: names,
		host: r.host, driver: r.cfg.CgroupDriver,
		init: r.init(), hostname: hostHostname(),
		apparmor: r.apparmor(spec), shm: r.shmPath,
	})
	if err != nil {
		return err
	}
	if err := r.giveGPUs(oci, spec.GPUs); err != nil {
		return err
	}
	rec := record{
		Labels: spec.Labels, Image: spec.Image, Digest: info.digest.String(),
		Group: group(spec), IO: spec.IO, Secret: len(spec.Process.SecretEnv) > 0,
		Volumes: volumes,
	}
	if spec.PID.Mode == "container" {
		rec.PIDOf = spec.PID.Of
	}
	switch spec.IPC.Mode {
	case "container":
		rec.IPCOf = spec.IPC.Of
	case "shareable":
		rec.Shm = spec.Limits.ShmSize
		if rec.Shm == 0 {
			rec.Shm = defaultShmSize
		}
	}
	if err := r.keepSecrets(spec); err != nil {
		return err
	}
	return r.store(ctx, spec.ID, rec, oci)
}

// store writes the container's record.
func (r *Runtime) store(ctx context.Context, id string, rec record, oci *specs.Spec) error {
	specAny, err := typeurl.MarshalAny(oci)
	if err != nil {
		return fmt.Errorf("cannot encode OCI spec: %w", err)
	}
	recordAny, err := rec.any()
	if err != nil {
		return err
	}
	binary := r.cfg.RuntimeBinary
	if rec.Secret {
		binary = filepath.Join(r.cfg.StateDir, ocifront.Name)
	}
	runtimeOptions, err := typeurl.MarshalAny(&options.Options{
		BinaryName:    binary,
		SystemdCgroup: r.cfg.CgroupDriver == Systemd,
	})
	if err != nil {
		return fmt.Errorf("cannot encode runtime options: %w", err)
	}
	c := containers.Container{
		ID:          id,
		Labels:      visible(rec.Labels),
		Image:       rec.Image,
		Runtime:     containers.RuntimeInfo{Name: runtimeName, Options: runtimeOptions},
		Spec:        specAny,
		SnapshotKey: id,
		Snapshotter: r.cfg.Snapshotter,
		Extensions:  map[string]typeurl.Any{recordName: recordAny},
	}
	if rec.Holder {
		c.SnapshotKey, c.Snapshotter = "", ""
	}
	_, err = r.client.ContainerService().Create(ctx, c)
	return err
}

// prepareMounts makes the sources of bind mounts that are to be made, and fills
// those that are to have the image's content.
func (r *Runtime) prepareMounts(ctx context.Context, spec container.Spec, root []mount.Mount) error {
	for _, m := range spec.Mounts {
		if m.Type != "bind" {
			continue
		}
		if m.CreateSource {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return fmt.Errorf("cannot make mount source %s: %w", m.Source, err)
			}
		}
		if m.CopyUp {
			if err := r.copyUp(ctx, root, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// inside is the place of a container's path below root, links followed as the
// container would.
func inside(root, path string) (string, error) { return fs.RootPath(root, cleanPath(path)) }

// init is the command that runs as PID 1, nil when there is none.
func (r *Runtime) init() []string {
	for _, path := range []string{
		"/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/bin/tini-static",
		"/usr/libexec/podman/catatonit", "/usr/bin/catatonit",
	} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return []string{path}
		}
	}
	return r.cfg.Init
}

// apparmor is the profile of containers that name none, loaded when the first
// of them is created; "" where the host has no AppArmor.
func (r *Runtime) apparmor(spec container.Spec) string {
	wanted := spec.Rights.AppArmor == apparmorDocker || spec.Rights.AppArmor == "" && !spec.Rights.Privileged
	if !r.host.apparmor || !wanted {
		return ""
	}
	if _, err := exec.LookPath("apparmor_parser"); err != nil {
		return ""
	}
	if err := apparmor.LoadDefaultProfile(apparmorDefault); err != nil {
		r.log.Warn("cannot load AppArmor profile: container runs without", zap.String("container", spec.ID), zap.Error(err))
		return ""
	}
	return apparmorDefault
}

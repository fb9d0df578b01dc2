package ctrd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// A holder is a container without an image: our own init, bound into an empty
// directory of the host that all holders share, read-only. It may do nothing, and
// where the host lets us it is about the last process that the kernel kills for
// want of memory.

// holderOOMScore is that of a holder: with it dies whatever shares its PID
// namespace.
const holderOOMScore = -998

// holdFlag has Config.Init hold namespaces instead of running a command.
const holdFlag = "--hold"

// holderRootDir is where the root of all holders is.
func (r *Runtime) holderRootDir() string { return filepath.Join(r.cfg.StateDir, "holder") }

// holderRoot makes it, with the places of what is mounted inside: a reboot takes
// it.
func (r *Runtime) holderRoot() error {
	root := r.holderRootDir()
	for _, dir := range []string{"proc", "dev", filepath.Dir(initPath)} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("cannot make the root of namespace holders: %w", err)
		}
	}
	f, err := os.OpenFile(filepath.Join(root, initPath), os.O_CREATE|os.O_RDONLY, 0o755)
	if err != nil {
		return fmt.Errorf("cannot make the root of namespace holders: %w", err)
	}
	return f.Close()
}

// createHolder makes the record of a holder.
func (r *Runtime) createHolder(ctx context.Context, spec container.Spec) error {
	if len(r.cfg.Init) == 0 {
		return errors.New("cannot hold namespaces: no init is configured")
	}
	oci, err := r.holderSpec(spec)
	if err != nil {
		return err
	}
	rec := record{Labels: spec.Labels, Group: group(spec), Holder: true}
	if spec.IPC.Mode == "shareable" {
		rec.Shm = spec.Limits.ShmSize
		if rec.Shm == 0 {
			rec.Shm = defaultShmSize
		}
	}
	err = r.store(ctx, spec.ID, rec, oci)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// holderSpec is the OCI spec of a holder. It sees nothing but itself.
func (r *Runtime) holderSpec(spec container.Spec) (*specs.Spec, error) {
	caps, err := allCaps()
	if err != nil {
		return nil, err
	}
	spec.Process = container.Process{Command: slices.Concat([]string{initPath}, r.cfg.Init[1:], []string{holdFlag})}
	spec.Rights = container.Rights{CapDrop: []string{"ALL"}, NoNewPrivileges: true, ReadonlyRootfs: true, Seccomp: "unconfined"}
	if score := holderOOMScore; slices.Contains(caps, "CAP_SYS_RESOURCE") { // Without it a score cannot be lowered.
		spec.Limits.OOMScoreAdj = &score
	}
	spec.Mounts = []container.Mount{{
		Type: "bind", Source: r.cfg.Init[0], Destination: initPath, Options: []string{"rbind", "ro", "nosuid", "nodev"},
	}}
	oci, err := ociSpec(specInput{
		Spec: spec, host: r.host, driver: r.cfg.CgroupDriver, hostname: hostHostname(), shm: r.shmPath,
	})
	if err != nil {
		return nil, err
	}
	oci.Root.Path = r.holderRootDir()
	oci.Mounts = slices.DeleteFunc(oci.Mounts, func(m specs.Mount) bool {
		return !slices.Contains([]string{"/proc", "/dev", initPath}, m.Destination)
	})
	return oci, nil
}

package ctrd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd/ocifront"
)

// Secret variables are kept in memory, below StateDir, and join the process in
// front of the OCI runtime: see package ocifront. A container without any has
// nothing of all this.

// keepSecrets keeps the secret variables of a container that is to be created.
func (r *Runtime) keepSecrets(spec container.Spec) error {
	if len(spec.Process.SecretEnv) == 0 {
		return nil
	}
	if r.cfg.Front == "" {
		return errors.New("cannot keep secret variables off the disk: no front of the OCI runtime is configured")
	}
	r.secrets.Lock()
	defer r.secrets.Unlock()
	if err := r.secretMemory(); err != nil {
		return err
	}
	runtime := r.cfg.RuntimeBinary
	if runtime == "" {
		runtime = "runc"
	}
	runtime, err := exec.LookPath(runtime)
	if err != nil {
		return fmt.Errorf("cannot find the OCI runtime: %w", err)
	}
	if _, err := ocifront.Install(r.cfg.StateDir, r.cfg.Front, runtime); err != nil {
		return err
	}
	return ocifront.Write(r.cfg.StateDir, spec.ID, spec.Process.SecretEnv)
}

// secretMemory makes the directory of secret variables, and where the state
// directory is on a disk mounts a file system in memory there.
func (r *Runtime) secretMemory() error {
	dir := ocifront.Dir(r.cfg.StateDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make directory for secret variables: %w", err)
	}
	in, err := inMemory(dir)
	if err != nil || in {
		return err
	}
	const flags, options = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, "mode=0700,size=64m"
	err = unix.Mount("berth-secrets", dir, "tmpfs", flags, options+",noswap")
	if err != nil { // noswap is newer than many kernels
		err = unix.Mount("berth-secrets", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return fmt.Errorf("cannot keep secret variables off the disk: cannot mount tmpfs at %s: %w", dir, err)
	}
	return nil
}

// inMemory says whether a directory's file system is in memory.
func inMemory(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, fmt.Errorf("cannot look at the file system of %s: %w", dir, err)
	}
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC, nil
}

// dropSecrets forgets a container's secret variables, and with the last one the
// file system that was mounted for them.
func (r *Runtime) dropSecrets(id string) error {
	dir := ocifront.Dir(r.cfg.StateDir)
	if _, err := os.Lstat(filepath.Join(dir, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.secrets.Lock()
	defer r.secrets.Unlock()
	if err := ocifront.Remove(r.cfg.StateDir, id); err != nil {
		return err
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return err
	}
	if mounted, err := mountinfo.Mounted(dir); err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cannot unmount %s: %w", dir, err)
	}
	return nil
}

// sweepSecrets forgets the variables of containers that no longer exist.
func (r *Runtime) sweepSecrets(kept map[string]bool) error {
	ids, err := ocifront.Containers(r.cfg.StateDir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !kept[id] {
			if err := r.dropSecrets(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// secretNames are the names of a container's secret variables; nil for one that
// has none. It fails when they are gone.
func (r *Runtime) secretNames(s stored) ([]string, error) {
	if !s.record.Secret {
		return nil, nil
	}
	names, err := ocifront.Names(r.cfg.StateDir, s.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the container's secrets were kept in memory only and went with the host's last boot")
	}
	return names, err
}

// without leaves out the variables of those names.
func without(env, names []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(names, name)
	})
}

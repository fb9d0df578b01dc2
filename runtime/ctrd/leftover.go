package ctrd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

// A containerd that is restarted while a shim makes a process leaves one of two
// things behind: a task that has no process, of which it says nothing but that it
// exists; or no task at all, while the OCI runtime goes on to have the container,
// refuses to make it again, and its process may wait in the cgroup for ever.

// ociState is where containerd's shim has the OCI runtime keep its state, a
// directory for each namespace.
const ociState = "/run/containerd/runc"

// bury deletes a task whose process was never started. Unlike deleteTask it may
// be called by whoever is in the group already.
func (r *Runtime) bury(ctx context.Context, id string) {
	_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		r.log.Debug("cannot delete what a start that was cut short left", zap.String("container", id), zap.Error(err))
	}
}

// isLeftover says whether the OCI runtime refused a container because it has one
// of that ID.
func isLeftover(err error) bool {
	return strings.Contains(err.Error(), "container with given ID already exists")
}

// clearLeftover has the OCI runtime delete a container that has no task, and kill
// what is in it. An absent one is no error.
func (r *Runtime) clearLeftover(ctx context.Context, s stored) error {
	id := s.ID
	root := filepath.Join(ociState, r.cfg.Namespace)
	if _, err := os.Stat(filepath.Join(root, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	binary := r.cfg.RuntimeBinary
	if binary == "" {
		binary = "runc"
	}
	var said []byte
	err := r.cfg.OnHost(func() (err error) {
		if spec, serr := s.spec(); serr == nil && spec.Linux != nil && spec.Linux.CgroupsPath != "" {
			// The OCI runtime will say what is left where this did nothing.
			_ = r.host.killGroup(cgroupDir(spec.Linux.CgroupsPath))
		}
		said, err = exec.CommandContext(ctx, binary, "--root", root, "delete", "--force", id).CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot clear what a start that was cut short left: %s delete: %w: %s", binary, err, bytes.TrimSpace(said))
	}
	return nil
}

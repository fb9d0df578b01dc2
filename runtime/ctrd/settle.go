package ctrd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

// settleLater moves the exit of a stopped container from its task to its
// record, in the background, and so gives its shim back.
func (r *Runtime) settleLater(id string) {
	if _, busy := r.settling.LoadOrStore(id, struct{}{}); busy {
		return
	}
	r.background.Go(func() {
		defer r.settling.Delete(id)
		if err := r.settle(r.life, id); err != nil && r.life.Err() == nil {
			// The task goes on to answer; the next look tries again.
			r.log.Warn("cannot settle a stopped container", zap.String("container", id), zap.Error(err))
		}
	})
}

func (r *Runtime) settle(ctx context.Context, id string) error {
	unlock, err := r.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := r.task(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil || p.GetStatus() != tasktypes.Status_STOPPED {
		return err
	}
	s, err := r.load(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	exit := r.exit(s, p)
	text, err := json.Marshal(mark{Code: exit.Code, At: exit.At, OOM: exit.OOMKilled})
	if err != nil {
		return fmt.Errorf("cannot encode exit: %w", err)
	}
	_, err = r.client.ContainerService().Update(ctx, containers.Container{
		ID: id, Labels: map[string]string{labelExit: string(text)},
	}, "labels."+labelExit)
	if err != nil {
		return err
	}
	return r.deleteTask(ctx, s)
}

// deleteTask deletes a task that has stopped, alone in its group. An absent one
// is no error.
func (r *Runtime) deleteTask(ctx context.Context, s stored) error {
	leave := r.groups.enterAlone(s.record.Group)
	defer leave()
	_, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: s.ID})
	if err = native(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// oomKilled says whether the kernel has killed a process of the container for
// want of memory. Its cgroup counts them, and lives as long as the task; but
// systemd removes a scope with its last process, and then the shim's event tells.
func (r *Runtime) oomKilled(s stored) bool {
	if _, told := r.ooms.Load(s.ID); told {
		return true
	}
	spec, err := s.spec()
	if err != nil || spec.Linux == nil {
		return false
	}
	dir := cgroupDir(spec.Linux.CgroupsPath)
	file := filepath.Join(r.host.cgroups, "memory", dir, "memory.oom_control")
	if r.host.unified {
		file = filepath.Join(r.host.cgroups, dir, "memory.events")
	}
	return counter(file, "oom_kill") > 0
}

// cgroupDir is the directory of a container's cgroup below the mount of its
// controller, from the path in its spec.
func cgroupDir(path string) string {
	parts := strings.SplitN(path, ":", 3)
	if len(parts) != 3 {
		return path
	}
	// systemd nests a-b.slice in a.slice.
	slice := strings.TrimSuffix(parts[0], ".slice")
	dir := "/"
	for i, r := range slice {
		if r == '-' && i > 0 {
			dir = filepath.Join(dir, slice[:i]+".slice")
		}
	}
	if slice != "" && slice != "-" {
		dir = filepath.Join(dir, slice+".slice")
	}
	return filepath.Join(dir, parts[1]+"-"+parts[2]+".scope")
}

// counter reads the value of a key in a file of "key value" lines; zero when it
// is not there.
func counter(file, key string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var value int64
		if name, rest, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			if _, err := fmt.Sscan(rest, &value); err == nil {
				return value
			}
		}
	}
	return 0
}

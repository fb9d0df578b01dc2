package ctrd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// killedExit is the exit code of a process that was killed, as a shell says it.
const killedExit = 128 + int(unix.SIGKILL)

// memoryKills knows what the kernel's kills for want of memory were put down to.
type memoryKills struct {
	mu sync.Mutex // guards the rest
	// counts has of each slice with kills how many of them some container has answered for.
	counts map[string]int64
	// blamed has the containers that answered for one that only their slice has counted.
	blamed map[string]bool
}

// forget says that a container has begun anew, or is gone.
func (k *memoryKills) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.blamed, id)
}

// killedForMemory says whether the kernel has killed a process of a container
// that has exited for want of memory. Of cgroup v2 the slice of the task counts
// too, and outlives the container's scope, which systemd removes with its last
// process: often before anybody has read it, the shim included. Such a kill
// was of the container of the task that was killed and has no scope any more.
func (r *Runtime) killedForMemory(s stored, code int) bool {
	killed := r.oomKilled(s)
	spec, err := s.spec()
	if !r.host.unified || err != nil || spec.Linux == nil {
		return killed
	}
	scope := filepath.Join(r.host.cgroups, cgroupDir(spec.Linux.CgroupsPath))
	slice := filepath.Dir(scope)
	// Slices like system.slice are of many.
	if parent, _, ok := strings.Cut(filepath.Base(slice), "-"); !ok || filepath.Base(filepath.Dir(slice)) != parent+".slice" {
		return killed
	}
	k := &r.memoryKills
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.blamed[s.ID] {
		return true
	}
	if k.counts == nil {
		k.counts, k.blamed = map[string]int64{}, map[string]bool{}
	}
	count := counter(filepath.Join(slice, "memory.events"), "oom_kill")
	_, err = os.Lstat(scope)
	if gone := errors.Is(err, fs.ErrNotExist); !killed && gone && code == killedExit && count > k.counts[slice] {
		killed, k.blamed[s.ID] = true, true
	}
	if killed {
		for known := range k.counts {
			if _, err := os.Lstat(known); errors.Is(err, fs.ErrNotExist) {
				delete(k.counts, known)
			}
		}
		k.counts[slice] = count
	}
	return killed
}

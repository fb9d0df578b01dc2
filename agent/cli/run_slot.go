package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/config"
)

// maxSlots is how many runs with an agent of their own fit on a host at once.
const maxSlots = 15

// slot is a place on this host for a run with an agent of its own. The number decides what the agent's things are called, so that
// runs at the same time keep out of each other's way, and one that comes after another finds its images in containerd, and whatever
// it left if it was killed. Holding the lock is holding the slot; the kernel lets go of it however the process ends.
type slot struct {
	number int
	lock   *os.File
	run    string // for sockets and whatever may vanish with a reboot
	data   string // for state and logs
	// left says that the last holder did not tidy up.
	left bool
}

// takeSlot takes a free slot below the directories of the host's settings, one that needs tidying up if there is one.
func takeSlot(paths config.Paths) (*slot, error) {
	dir := filepath.Join(paths.Run, "runs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make directory: %w", err)
	}
	for _, untidy := range []bool{true, false} {
		for n := 1; n <= maxSlots; n++ {
			s := &slot{
				number: n, run: filepath.Join(dir, strconv.Itoa(n)), data: filepath.Join(paths.Data, "runs", strconv.Itoa(n)),
			}
			if untidy && !s.untidy() {
				continue
			}
			got, err := s.take()
			if err != nil {
				return nil, err
			}
			if got {
				s.left = s.untidy()
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("%d runs are under way on this host, and there is no room for more", maxSlots)
}

// take locks the slot, unless somebody has it.
func (s *slot) take() (bool, error) {
	f, err := os.OpenFile(s.run+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, fmt.Errorf("cannot lock a place for the run: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		s.lock = f
		return true, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, f.Close()
	}
	return false, errors.Join(fmt.Errorf("cannot lock a place for the run: %w", err), f.Close())
}

// release gives the slot back. The lock's file stays: removing it would let two hold the same slot.
func (s *slot) release() error { return s.lock.Close() }

// untidy says whether there is something of an earlier run.
func (s *slot) untidy() bool {
	for _, dir := range []string{s.run, s.data} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// environ is what the agent of the slot is told beside the host's own settings, which hold for all else: containerd, registries,
// proxies, limits. The subnet is the slot's try-th choice, in case the host has a route that overlaps; ok is false when there are no
// more.
func (s *slot) environ(host *config.Config, endpoint string, try int) (settings []string, ok bool) {
	const each = maxSlots // subnets in each of the networks
	networks := []string{"172.29", "10.229", "192.168"}
	if try >= each*len(networks) {
		return nil, false
	}
	third := 16 * (1 + (s.number-1+try)%each)
	region := host.Region
	if region == "" {
		region = "us-east-1"
	}
	number := strconv.Itoa(s.number)
	return []string{
		"ECS_CLUSTER=default",
		"ECS_BACKEND_HOST=" + endpoint,
		"ECS_EXTERNAL=false",
		"AWS_DEFAULT_REGION=" + region,
		// The host's own have no business with a cluster on loopback: the run makes up a pair.
		"AWS_ACCESS_KEY_ID=berth-run", "AWS_SECRET_ACCESS_KEY=berth-run", "AWS_SESSION_TOKEN=",
		"AWS_EC2_METADATA_DISABLED=true",
		"ECS_DATADIR=" + s.data,
		"BERTH_RUN_DIR=" + s.run,
		"BERTH_SOCKET=" + filepath.Join(s.run, "berth.sock"),
		"BERTH_LOG_SOCKET=" + filepath.Join(s.run, "logs.sock"),
		"BERTH_CONTAINERD_NAMESPACE=" + host.Containerd.Namespace + "-run-" + number,
		"BERTH_BRIDGE=berthr" + number,
		fmt.Sprintf("BERTH_BRIDGE_SUBNET=%s.%d.0/20", networks[try/each], third),
		fmt.Sprintf("BERTH_BRIDGE_SUBNET_IPV6=fdb7:2e74:be27:%x::/64", s.number+16*try),
		"BERTH_INTROSPECTION_ADDRESS=127.0.0.1:0",
		"BERTH_TASK_METADATA_ADDRESS=127.0.0.1:0",
		"ECS_AUDIT_LOGFILE_DISABLED=true",
		`ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","none"]`,
		"ECS_UPDATES_ENABLED=false",
		// Its logs are wanted until they are read, however slow the reader; the run itself removes what is left.
		"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=720h",
	}, true
}

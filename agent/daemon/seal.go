package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/runtime/container"
)

// ErrInUse is why a host is not sealed: its agent, its log process or tasks run.
var ErrInUse = errors.New("the host is in use")

// Sealed is what Seal took from the host.
type Sealed struct {
	// ContainerInstanceARN and EC2InstanceID are whom the host was; "" when it never joined.
	ContainerInstanceARN string `json:"containerInstanceArn,omitempty"`
	EC2InstanceID        string `json:"ec2InstanceId,omitempty"`
	Containers           int    `json:"containers"` // that had stopped
	// Removed are directories and files, each with all that was in it; Emptied are files that stay, without what was in them.
	Removed []string `json:"removed"`
	Emptied []string `json:"emptied"`
	// Unknown says what could not be looked for; "" is nothing.
	Unknown string `json:"unknown,omitempty"`
}

// Seal makes of this host what an image may be made of: it forgets who it is to
// ECS, all tasks and what they left, and logs; and below root, an absolute
// path and "/" but in tests, the machine's own identity: its id, its keys and its journal. What
// an image is made for stays: the program, the settings, the images in
// containerd, and which release metadata are known, without which the next
// update could be one to an older version.
//
// It fails with ErrInUse, and has then changed nothing, while an agent, a log
// process or a container runs. A Seal that was interrupted is finished by the next.
func Seal(ctx context.Context, o Options, root string) (sealed Sealed, err error) {
	p := o.Config.Paths
	sealed.Removed, sealed.Emptied = []string{}, []string{}
	if c, err := (&net.Dialer{}).DialContext(ctx, "unix", p.LogSocket); err == nil {
		return sealed, errors.Join(fmt.Errorf("%w: a log process answers at %s", ErrInUse, p.LogSocket), c.Close())
	}
	// Whether there was state is known before the host is opened, which begins one.
	_, fresh := os.Lstat(filepath.Join(p.Data, "agent.db"))
	purged, err := purgeHost(ctx, &o, purging{gone: true, allowed: func(s *store.Store, statuses []container.Status) error {
		meta := s.Meta()
		sealed.ContainerInstanceARN, sealed.EC2InstanceID = meta.ContainerInstanceARN, meta.EC2InstanceID
		return unused(s, statuses)
	}})
	if errors.Is(err, store.ErrLocked) {
		return sealed, fmt.Errorf("%w: %w", ErrInUse, err)
	}
	sealed.Containers, sealed.Unknown = purged.Containers, purged.Unknown
	if err != nil {
		return sealed, err
	}
	doomed, err := sealDirectories(&o)
	if err != nil {
		return sealed, err
	}
	removed, err := removeDirectories(doomed...)
	if errors.Is(fresh, fs.ErrNotExist) { // What was made just now is not worth a word.
		removed = slices.DeleteFunc(removed, func(path string) bool { return path == filepath.Join(p.Data, "agent.db") })
	}
	sealed.Removed = append(sealed.Removed, removed...)
	if err != nil {
		return sealed, err
	}
	return sealed, sealMachine(root, &sealed)
}

// unused finds out whether anything runs. statuses are nil without a containerd:
// then tasks that are on record cannot be asked about.
func unused(s *store.Store, statuses []container.Status) error {
	var running []string
	for _, c := range statuses {
		if c.Phase == container.Running {
			running = append(running, c.Labels[engine.LabelTask]+"/"+c.Labels[engine.LabelContainer])
		}
	}
	if len(running) > 0 {
		slices.Sort(running)
		return fmt.Errorf("%w: containers run: %s", ErrInUse, strings.Join(running, ", "))
	}
	if statuses != nil {
		return nil
	}
	records, err := s.Tasks()
	if err != nil {
		return fmt.Errorf("cannot read task records: %w", err)
	}
	if len(records) > 0 {
		return fmt.Errorf("%w: %d tasks are on record, and no containerd can say whether they run", ErrInUse, len(records))
	}
	return nil
}

// sealDirectories lists what goes of our own directories. The release metadata
// that are known stay, and their directories with them.
func sealDirectories(o *Options) (doomed []string, err error) {
	p := o.Config.Paths
	doomed = []string{p.Run}
	updates := UpdateState(&o.Config)
	for _, dir := range []string{p.Data, updates, p.Updates, p.ExecLogs} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read directory: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if path != updates && path != filepath.Join(updates, "tuf") {
				doomed = append(doomed, path)
			}
		}
	}
	if p.AuditLog != "" {
		logs, err := filepath.Glob(p.AuditLog + "*")
		if err != nil {
			return nil, fmt.Errorf("cannot look for audit logs: %w", err)
		}
		doomed = append(doomed, logs...)
	}
	return doomed, nil
}

// sealMachine takes the machine's identity from it. systemd makes a new id where
// the file is empty; sshd's unit or cloud-init makes new host keys.
func sealMachine(root string, sealed *Sealed) error {
	for _, pattern := range []string{
		"etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
		"var/lib/amazon/ssm/registration", "var/lib/amazon/ssm/Vault/Store/*", "var/log/journal/*",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("cannot look for %s: %w", pattern, err)
		}
		removed, err := removeDirectories(found...)
		sealed.Removed = append(sealed.Removed, removed...)
		if err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/machine-id", "var/lib/dbus/machine-id"} {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		// A link leads to the other one, and what is empty needs no word.
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() == 0) {
			continue
		}
		if err == nil {
			err = os.Truncate(path, 0)
		}
		if err != nil {
			return fmt.Errorf("cannot empty machine id: %w", err)
		}
		sealed.Emptied = append(sealed.Emptied, path)
	}
	return nil
}

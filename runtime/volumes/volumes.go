package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/durable"
	"github.com/berthd/berth/runtime/volume"
)

// Config is what Volumes are made of; Dir is needed.
type Config struct {
	// Dir holds the volumes. It is made when it does not exist.
	Dir string
	// EBSDir is where EBS volumes are mounted; "" is /mnt/ecs/ebs.
	EBSDir string
	// SysDir and DevDir are where the kernel shows block devices; "" are /sys and
	// /dev.
	SysDir, DevDir string
	// Region and DNSSuffix make the names of EFS file systems for hosts without
	// mount.efs; "" for the suffix is that of the region's partition.
	Region, DNSSuffix string
	// MatchFull compares labels and options of a shared volume that exists
	// (ECS_SHARED_VOLUME_MATCH_FULL_CONFIG).
	MatchFull bool
	// MountTimeout bounds each child process; zero is five minutes
	// (spec/task-engine.md §1.9).
	MountTimeout time.Duration
	// UnmountPause is the time between two attempts to unmount an EBS volume; zero
	// is five seconds.
	UnmountPause time.Duration
	// Resolve looks up the addresses of file servers; nil asks the host's resolver.
	Resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// OnHost calls a function where the host's mounts and disks are, and programs that
	// it starts there, for a process that is shut in; nil calls it.
	OnHost func(fn func() error) error
	Log    *zap.Logger
}

// Volumes makes and unmakes volumes. Its methods may be called at once.
type Volumes struct {
	cfg   Config
	names *locks // one change of a volume at a time
	log   *zap.Logger
}

const (
	dataName   = "_data"
	usersName  = "users"
	recordName = "volume.json"
	newPrefix  = durable.Leftover
	gonePrefix = ".gone-"
)

// validName is Docker's rule for the names of local volumes.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,239}$`)

// validUser keeps the names of users inside their directory.
var validUser = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// New prepares Config.Dir. It touches no volume.
func New(c Config) (*Volumes, error) {
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("cannot make directory of volumes: %w", err)
	}
	// The kernel lists mount points by their real paths.
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find directory of volumes: %w", err)
	}
	c.Dir = dir
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&c.EBSDir, volume.DefaultEBSDir)
	set(&c.SysDir, "/sys")
	set(&c.DevDir, "/dev")
	set(&c.DNSSuffix, dnsSuffix(c.Region))
	if c.MountTimeout <= 0 {
		c.MountTimeout = 5 * time.Minute
	}
	if c.UnmountPause <= 0 {
		c.UnmountPause = 5 * time.Second
	}
	if c.Resolve == nil {
		c.Resolve = net.DefaultResolver.LookupNetIP
	}
	if c.OnHost == nil {
		c.OnHost = func(fn func() error) error { return fn() }
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return &Volumes{cfg: c, names: newLocks(), log: c.Log}, nil
}

// Path is where the content of a volume is once it was acquired.
func (v *Volumes) Path(w volume.Volume) string {
	return filepath.Join(v.cfg.Dir, nameOf(&w), dataName)
}

// nameOf is the volume's directory: that of an EFS file system is for all volumes
// with the same one.
func nameOf(w *volume.Volume) string {
	if w.EFS != nil {
		return efsName(w.EFS)
	}
	return w.Name
}

// Acquire makes the volume for a user: made if need be, used, mounted. It may be
// called again with the same arguments. The words of its errors are those of
// spec/task-engine.md §5.5.
func (v *Volumes) Acquire(ctx context.Context, user string, w volume.Volume) (place volume.Place, err error) {
	err = v.cfg.OnHost(func() (err error) {
		place, err = v.acquire(ctx, user, w)
		return err
	})
	return place, err
}

func (v *Volumes) acquire(ctx context.Context, user string, w volume.Volume) (volume.Place, error) {
	name := nameOf(&w)
	if !validName.MatchString(name) {
		return volume.Place{}, fmt.Errorf("create %s: %q includes invalid characters for a local volume name, only %q are allowed", name, name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	if !validUser.MatchString(user) {
		return volume.Place{}, fmt.Errorf("cannot use volume %s: %q is not the id of a task", name, user)
	}
	mount, err := v.request(&w)
	if err != nil {
		return volume.Place{}, err
	}
	unlock, err := v.names.lock(ctx, name)
	if err != nil {
		return volume.Place{}, err
	}
	defer unlock()
	rec, err := v.find(&w, name)
	if errors.Is(err, fs.ErrNotExist) {
		rec = record{
			Name: name, Driver: w.Driver, Options: w.Options, Labels: w.Labels,
			Keep: w.Shared, Mounted: mount != nil, Created: time.Now().UTC(),
		}
		err = v.create(rec)
	}
	if err != nil {
		return volume.Place{}, err
	}
	if rec.Keep && rec.Mounted {
		// A shared volume is what it was made as, whatever the next task says.
		existing := w
		existing.Driver, existing.Options = rec.Driver, rec.Options
		if mount, err = v.request(&existing); err != nil {
			return volume.Place{}, err
		}
	}
	if err := v.use(name, user); err != nil {
		return volume.Place{}, err
	}
	place := volume.Place{Path: v.data(name), CopyUp: true}
	if !rec.Mounted || mount == nil {
		return place, nil
	}
	if err := v.mount(ctx, place.Path, mount); err != nil {
		return volume.Place{}, errors.Join(err, v.leave(context.WithoutCancel(ctx), name, user))
	}
	if mount.remote {
		place.CopyUp, err = v.empty(ctx, place.Path)
	}
	return place, err
}

// find looks for the volume, and whether it may be taken for the one wanted. What
// is not there and may be made is fs.ErrNotExist.
func (v *Volumes) find(w *volume.Volume, name string) (record, error) {
	rec, err := v.read(name)
	if !w.Shared {
		return rec, err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !w.Autoprovision:
		return rec, fmt.Errorf("initialize volume: volume detection failed, volume '%s' does not exist and autoprovision is set to false: get %s: no such volume", name, name)
	case err != nil || !w.Autoprovision || !v.cfg.MatchFull:
		return rec, err
	case !maps.Equal(rec.Labels, w.Labels):
		return rec, fmt.Errorf("intialize volume: non-autoprovisioned volume does not match existing volume labels: existing: %v, expected: %v", rec.Labels, w.Labels) //nolint:misspell // ECS writes it so
	case !maps.Equal(rec.Options, w.Options):
		return rec, fmt.Errorf("initialize volume: non-autoprovisioned volume does not match existing volume options: existing: %v, expected: %v", rec.Options, w.Options)
	}
	return rec, nil
}

// Release unmounts what only the user had mounted. Directories stay until Remove.
func (v *Volumes) Release(ctx context.Context, user string) error {
	return v.cfg.OnHost(func() error { return v.part(ctx, user, func(r record) bool { return r.Mounted }) })
}

// Remove ends every use of the user's, and deletes the volumes that nobody else
// uses and that are not kept.
func (v *Volumes) Remove(ctx context.Context, user string) error {
	return v.cfg.OnHost(func() error { return v.part(ctx, user, func(record) bool { return true }) })
}

// part ends the user's use of the volumes that which chooses.
func (v *Volumes) part(ctx context.Context, user string, which func(record) bool) error {
	if !validUser.MatchString(user) {
		return nil
	}
	names, err := v.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if _, err := os.Lstat(v.user(name, user)); err != nil {
			continue
		}
		errs = append(errs, v.partWith(ctx, name, user, which))
	}
	return errors.Join(errs...)
}

func (v *Volumes) partWith(ctx context.Context, name, user string, which func(record) bool) error {
	unlock, err := v.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := v.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !which(rec) {
		return err
	}
	return v.leave(ctx, name, user)
}

// leave ends one use: unmounted first if it is the last one, then the user goes,
// then what nobody uses. The volume is locked.
func (v *Volumes) leave(ctx context.Context, name, user string) error {
	users, err := v.users(name)
	if err != nil {
		return err
	}
	last := len(users) == 0 || len(users) == 1 && users[0] == user
	rec, err := v.read(name)
	if err != nil {
		return err
	}
	if last && rec.Mounted {
		if err := v.unmount(ctx, v.data(name)); err != nil {
			return err
		}
	}
	if last && !rec.Keep {
		return v.delete(ctx, rec)
	}
	return v.unuse(name, user)
}

// Sweep ends the uses of users that are not known, be it of EBS volumes, and
// removes what a crash has left half made or half deleted. It is for the start, before anything is
// acquired.
func (v *Volumes) Sweep(ctx context.Context, known func(user string) bool) error {
	return v.cfg.OnHost(func() error { return v.sweep(ctx, known) })
}

func (v *Volumes) sweep(ctx context.Context, known func(user string) bool) error {
	errs := []error{v.sweepRemains(ctx), v.sweepStaged(ctx, known)}
	names, err := v.list()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, name := range names {
		users, err := v.users(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rec, err := v.read(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(users) == 0 && (!rec.Keep || rec.Mounted) {
			users = []string{"nobody"}
		}
		for _, user := range users {
			if known(user) {
				continue
			}
			if user != "nobody" {
				v.log.Info("a volume was used by a task that is gone", zap.String("volume", name), zap.String("task", user))
			}
			errs = append(errs, v.partWith(ctx, name, user, func(record) bool { return true }))
		}
	}
	return errors.Join(errs...)
}

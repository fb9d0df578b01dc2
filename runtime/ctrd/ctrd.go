package ctrd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/berthd/berth/runtime/container"
)

var _ container.Runtime = (*Runtime)(nil)

// CgroupDriver says who makes the cgroups of containers.
type CgroupDriver string

// The cgroup drivers.
const (
	// Cgroupfs: the OCI runtime makes directories; CgroupParent is a path.
	Cgroupfs CgroupDriver = "cgroupfs"
	// Systemd: systemd makes scopes; CgroupParent is a slice.
	Systemd CgroupDriver = "systemd"
)

// Config is what New needs. The zero value is right for a host set up by
// Berth's packages.
type Config struct {
	// Address is the path of containerd's socket; "" is
	// /run/containerd/containerd.sock.
	Address string
	// Namespace is containerd's namespace; "" is berth.
	Namespace string
	// Snapshotter keeps the root file systems; "" is overlayfs.
	Snapshotter string
	// StateDir holds the pipes of processes run by Exec, on a file system that
	// a reboot empties; "" is /run/berth/ctrd.
	StateDir string
	// VolumesDir has the volumes that images declare, a directory for each
	// container, on a disk that a reboot does not empty; "" makes none: what is
	// written there stays in the container's own file system.
	VolumesDir string
	// ContentDir is on the disk that containerd keeps images on, whose free space is
	// looked at before a pull; "" asks containerd.
	ContentDir string
	// CertsDir has the registries' hosts.toml and certificates, as containerd's
	// documentation describes; "" is /etc/containerd/certs.d.
	CertsDir string
	// CDIDirs have the files that describe the host's GPUs, the last one first; nil
	// is /etc/cdi and /var/run/cdi.
	CDIDirs []string
	// CgroupDriver is "" for Cgroupfs.
	CgroupDriver CgroupDriver
	// RuntimeBinary is the OCI runtime's name or path; "" is runc.
	RuntimeBinary string
	// Init is the command that runs as PID 1 of containers with Process.Init
	// where the host has no docker-init, tini-static or catatonit, which need
	// less memory: a static binary and its arguments, which "--" and the
	// container's own command follow. With "--hold" alone it does nothing but reap
	// until SIGTERM: the containers that hold namespaces run that, whatever the host
	// has. Package initproc is such an init.
	Init []string
	// Front is the path of a program that calls ocifront.Run when it is called as
	// the front of the OCI runtime. Containers with secret variables need one; ""
	// refuses them.
	Front string
	// Downloads and Unpacks bound how many layers of all pulls together are
	// fetched and unpacked at once; zero is 6 and 2.
	Downloads, Unpacks int64
	// Space answers how many bytes are free of how many on a directory's file
	// system; nil asks the kernel.
	Space func(dir string) (free, total uint64, err error)
	// OnHost calls a function where the host's mounts are, for a process that is shut
	// in and has others; nil calls it. What it returns is the function's error.
	OnHost func(fn func() error) error
	// Log is told what cannot be returned to anybody; nil is silence.
	Log *zap.Logger
}

func (c Config) withDefaults() Config {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Address, "/run/containerd/containerd.sock")
	set(&c.Namespace, "berth")
	set(&c.Snapshotter, "overlayfs")
	set(&c.StateDir, "/run/berth/ctrd")
	set(&c.CertsDir, "/etc/containerd/certs.d")
	if c.CDIDirs == nil {
		c.CDIDirs = []string{"/etc/cdi", "/var/run/cdi"}
	}
	if c.CgroupDriver == "" {
		c.CgroupDriver = Cgroupfs
	}
	if c.Downloads == 0 {
		c.Downloads = 6
	}
	if c.Unpacks == 0 {
		c.Unpacks = 2
	}
	if c.Space == nil {
		c.Space = diskSpace
	}
	if c.OnHost == nil {
		c.OnHost = func(fn func() error) error { return fn() }
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Runtime is a container.Runtime on containerd. Use New, and Close it.
type Runtime struct {
	cfg    Config
	client *containerd.Client
	host   host
	log    *zap.Logger
	opened time.Time

	ids     *keyed  // one holder for each container ID
	pulling *groups // pulls of an image's name go together, its removal alone
	groups  *groups
	images  *imageCache
	flights *flights

	downloads, unpacks *semaphore.Weighted
	disks              disks

	secrets sync.Mutex // held where the directory of secret variables changes

	// settling has the containers that settleLater works on.
	settling sync.Map
	// ooms has the containers of which the shim said that the kernel killed a
	// process for want of memory.
	ooms sync.Map
	// memoryKills has what the shim did not say.
	memoryKills memoryKills

	// life ends with Close; background counts the goroutines that need it.
	life       context.Context //nolint:containedctx // the life of background work
	end        context.CancelCauseFunc
	background sync.WaitGroup
}

// errClosed is why background work ends.
var errClosed = errors.New("runtime closed")

// New makes a Runtime. containerd need not run yet: calls answer
// container.ErrUnavailable until it does, and find it again by themselves when
// it was restarted.
func New(cfg Config) (*Runtime, error) {
	cfg = cfg.withDefaults()
	if !filepath.IsAbs(cfg.Address) {
		return nil, fmt.Errorf("cannot use containerd address %q: not an absolute path", cfg.Address)
	}
	client, err := containerd.New(cfg.Address,
		containerd.WithDefaultNamespace(cfg.Namespace),
		containerd.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(dial),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second,
				},
				MinConnectTimeout: 5 * time.Second,
			}),
		}))
	if err != nil {
		return nil, fmt.Errorf("cannot make a containerd client for %s: %w", cfg.Address, err)
	}
	// containerd's client logs in passing to a logger of its own package; whatever
	// matters comes back as an error too.
	if err := log.SetLevel("fatal"); err != nil {
		return nil, fmt.Errorf("cannot silence containerd's client: %w", err)
	}
	r := &Runtime{
		cfg:       cfg,
		client:    client,
		host:      detectHost("/"),
		log:       cfg.Log,
		opened:    time.Now(),
		ids:       newKeyed(),
		pulling:   newGroups(),
		groups:    newGroups(),
		images:    newImageCache(),
		flights:   newFlights(),
		downloads: semaphore.NewWeighted(cfg.Downloads),
		unpacks:   semaphore.NewWeighted(cfg.Unpacks),
	}
	r.life, r.end = context.WithCancelCause(r.ns(context.Background()))
	return r, nil
}

// Close ends background work and the connection. Containers run on.
func (r *Runtime) Close() error {
	r.end(errClosed)
	r.background.Wait()
	if err := r.client.Close(); err != nil {
		return fmt.Errorf("cannot close the connection to containerd: %w", err)
	}
	return nil
}

// Config is the configuration in force, defaults filled in.
func (r *Runtime) Config() Config { return r.cfg }

// Version is containerd's version.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(r.ns(ctx))
	if err != nil {
		return "", r.fail(ctx, container.KindInspect, "ask containerd for its version", err)
	}
	return v.Version, nil
}

// ns adds the namespace to a context and hides its deadline from gRPC, which
// would let containerd end the call a moment before the context does: whoever
// waits must see the context's own cause. The call still ends with the context.
func (r *Runtime) ns(ctx context.Context) context.Context {
	return namespaces.WithNamespace(undated{ctx}, r.cfg.Namespace)
}

// undated is a context whose deadline cannot be seen.
type undated struct{ context.Context } //nolint:containedctx // it is a context

// Deadline implements context.Context.
func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// tasks is containerd's task service.
func (r *Runtime) tasks() tasks.TasksClient { return r.client.TaskService() }

// dial connects to the socket at once or fails at once: waiting is gRPC's part.
func dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
}

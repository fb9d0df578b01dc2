package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/ipam/ports"
	"github.com/berthd/berth/runtime/cgroups"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/logs"
	"github.com/berthd/berth/runtime/network"
	"github.com/berthd/berth/runtime/volumes"
)

// host is everything of the agent that is about this host and not about ECS.
type host struct {
	store   *store.Store
	runtime *ctrd.Runtime
	network *network.Network
	cgroups *cgroups.Manager
	logs    *logs.Client
	leases  *ipam.Leases
	imds    *imdsGuard
	// metadata is where 169.254.170.2 leads to.
	metadata metadataAddress
	// linkLocal has the addresses from which awsvpc tasks reach the agent.
	linkLocal *ipam.Leases
	ports     *ports.Table
	volumes   *volumes.Volumes
	faults    *hostFaults
}

// openHost builds the host's parts, without changing the host's network. What it
// opened is closed when it fails.
func openHost(o *Options, log *zap.Logger) (h *host, err error) {
	c := &o.Config
	h = &host{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	for _, dir := range []string{c.Paths.Data, c.Paths.Run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return h, fmt.Errorf("cannot make directory: %w", err)
		}
	}
	if h.store, err = store.Open(filepath.Join(c.Paths.Data, "agent.db")); err != nil {
		return h, err
	}
	if what := h.store.Recovered(); what != "" {
		log.Error("the state file was damaged and has been put aside", zap.String("what", what))
	}
	wanted := cgroups.Driver(c.Cgroup.Driver)
	if wanted == "auto" {
		wanted = ""
	}
	if h.cgroups, err = cgroups.New(cgroups.Config{
		Driver: wanted, Root: c.Cgroup.Root, Period: uint64(c.Cgroup.CPUPeriod.Microseconds()), OnHost: o.Mounts.Do,
	}); err != nil {
		return h, err
	}
	driver := ctrd.Cgroupfs
	if h.cgroups.Driver() == cgroups.Systemd {
		driver = ctrd.Systemd
	}
	if h.runtime, err = ctrd.New(ctrd.Config{
		Address: c.Containerd.Address, Namespace: c.Containerd.Namespace, Snapshotter: c.Containerd.Snapshotter,
		StateDir: filepath.Join(c.Paths.Run, "ctrd"), VolumesDir: filepath.Join(c.Paths.Data, "image-volumes"), CgroupDriver: driver, Init: o.Init, Front: front(o),
		CDIDirs: cdiDirs(c), OnHost: o.Mounts.Do, Log: log.Named("ctrd"),
	}); err != nil {
		return h, err
	}
	if err := h.openNetwork(o, log); err != nil {
		return h, err
	}
	if h.volumes, err = volumes.New(volumes.Config{
		Dir: filepath.Join(c.Paths.Data, "volumes"), EBSDir: c.Paths.EBS, Region: c.Region,
		MatchFull: c.Task.SharedVolumeFullMatch, OnHost: o.Mounts.Do, Log: log.Named("volumes"),
	}); err != nil {
		return h, err
	}
	h.logs = logs.NewClient(logs.ClientConfig{
		Socket: c.Paths.LogSocket, Dir: filepath.Join(c.Paths.Run, "logs"), DataDir: filepath.Join(c.Paths.Data, "logs"),
		Spawn: o.SpawnLogs, Log: log.Named("logs"),
	})
	return h, nil
}

// front is this program, which is the front of the OCI runtime too.
func front(o *Options) string {
	if len(o.Init) == 0 {
		return ""
	}
	return o.Init[0]
}

// cdiDirs are where the files that describe GPUs are; nil is where they always are.
func cdiDirs(c *config.Config) []string {
	if c.Paths.CDI == "" {
		return nil
	}
	return []string{c.Paths.CDI}
}

// openNetwork opens the network, and the pools beside it.
func (h *host) openNetwork(o *Options, log *zap.Logger) error {
	c := &o.Config
	pool, err := poolOf(c)
	if err != nil {
		return err
	}
	table := "berth"
	if c.Network.Bridge != "berth0" {
		table = c.Network.Bridge
	}
	if h.metadata, err = openMetadataAddress(c); err != nil {
		return err
	}
	if h.network, err = network.New(network.Config{
		TMDS: h.metadata.address, TMDSBeside: h.metadata.beside(),
		Pool: pool, Bridge: c.Network.Bridge, Table: table, BlockIMDS: c.Network.BlockIMDS,
		NetNSDir: filepath.Join(c.Paths.Run, "netns"), FilesDir: filepath.Join(c.Paths.Run, "net"), Log: log.Named("network"),
		LocalRoutes: localRoutes(c), BlockTaskIMDS: c.Network.AWSVPCBlockIMDS, OnHost: o.Mounts.Do,
	}); err != nil {
		return err
	}
	h.imds = newIMDSGuard(h, o)
	h.faults = newHostFaults(table, h.metadata.address, log.Named("network"))
	if h.linkLocal, err = ipam.New(ipam.DefaultLinkLocal()); err != nil {
		return err
	}
	if h.leases, err = ipam.New(pool); err != nil {
		return err
	}
	h.ports, err = ports.New(ports.Config{
		Dynamic: dynamicPorts(c), ReservedTCP: c.Instance.ReservedPorts, ReservedUDP: c.Instance.ReservedPortsUDP,
		Binder: ports.HostBinder{},
	})
	return err
}

// localRoutes are the destinations that awsvpc tasks reach through the host; the
// link to it is IPv4.
func localRoutes(c *config.Config) []netip.Prefix {
	var routes []netip.Prefix
	for _, text := range c.Network.AWSVPCLocalRoutes {
		if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() { // Checked with the settings.
			routes = append(routes, p.Masked())
		}
	}
	return routes
}

// poolOf is the bridge's address pool.
func poolOf(c *config.Config) (ipam.Pool, error) {
	pool := ipam.DefaultPool()
	for _, p := range []struct {
		name, text string
		to         *netip.Prefix
	}{
		{"BERTH_BRIDGE_SUBNET", c.Network.Subnet, &pool.IPv4},
		{"BERTH_BRIDGE_SUBNET_IPV6", c.Network.SubnetIPv6, &pool.IPv6},
	} {
		if p.text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(p.text)
		if err != nil {
			return pool, fmt.Errorf("cannot use %s=%q: write a prefix such as 172.29.0.0/20: %w", p.name, p.text, err)
		}
		*p.to = prefix
	}
	return pool, pool.Validate()
}

// dynamicPorts is the range that host ports are picked from: the setting, else
// the kernel's (spec/task-engine.md §12).
func dynamicPorts(c *config.Config) ports.Range {
	if r := c.Network.DynamicPorts; r != (config.PortRange{}) {
		return ports.Range{First: r.First, Last: r.Last}
	}
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return ports.Fallback()
	}
	r, err := ports.ParseRange(strings.Join(strings.Fields(string(data)), "-"))
	if err != nil {
		return ports.Fallback()
	}
	return r
}

// containerdPatience is how long containerd may take for one answer at the start.
const containerdPatience = 10 * time.Second

// awaitContainerd waits until containerd answers. It may start after the agent,
// and the unit does not order the two.
func (h *host) awaitContainerd(ctx context.Context, address string, log *zap.Logger) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for first := true; ; first = false {
		err := h.knock(ctx, containerdPatience)
		if err == nil {
			return nil
		}
		if !errors.Is(err, container.ErrUnavailable) && ctx.Err() == nil {
			return fmt.Errorf("cannot use containerd at %s: %w", address, err)
		}
		if first {
			log.Warn("containerd does not answer; waiting for it", zap.String("address", address), zap.Error(err))
			tell(log, systemd.Status("waiting for containerd at "+address))
		}
		tell(log, systemd.ExtendTimeout(30*time.Second))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// knock asks containerd for an answer. One that hangs is unavailable, like one
// that is not there.
func (h *host) knock(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	_, err := h.runtime.List(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", container.ErrUnavailable, context.Cause(ctx))
	}
	return err
}

// engineConfig is the engine's configuration on this host.
func (h *host) engineConfig(o *Options, capacity engine.Capacity, log *zap.Logger) engine.Config {
	c := &o.Config
	agents := execAgentOf(c)
	agents.mounts = o.Mounts
	return engine.Config{
		Agents:  agents,
		Runtime: h.runtime, Network: hostNetwork{h.network, log.Named("network")}, Cgroups: hostCgroups{h.cgroups, h.imds},
		Logs: hostLogs{h.logs}, Store: h.store, Addresses: h.leases, LinkLocal: h.linkLocal, Ports: h.ports, Log: log.Named("engine"),
		Capacity:       capacity,
		Machine:        task.Options{StopTimeout: c.Task.StopTimeout, PullUpfront: c.Image.PullUpfront},
		PullPolicy:     container.PullPolicy(c.Image.PullBehavior),
		PullInactivity: c.Image.InactivityTimeout, PullResolve: c.Image.ManifestTimeout, PullTotal: c.Image.PullTimeout,
		CreateTimeout: c.Task.CreateTimeout, StartTimeout: c.Task.StartTimeout,
		CleanupWait: c.Task.CleanupWait, CleanupJitter: c.Task.CleanupJitter,
		Region: c.Region, PidsLimit: int64(c.Cgroup.TaskPidsLimit), NoTaskLimits: !c.Cgroup.TaskLimits,
		TaskMemoryLimitInContainers: c.Cgroup.PropagateMemoryLimit,
	}
}

// close lets go of everything; the tasks and their network stay.
func (h *host) close() error {
	errs := []error{h.metadata.close()}
	if h.faults != nil {
		h.faults.close()
	}
	if h.ports != nil {
		errs = append(errs, h.ports.Close())
	}
	if h.logs != nil {
		errs = append(errs, h.logs.Detach())
	}
	if h.network != nil {
		errs = append(errs, h.network.Close())
	}
	if h.runtime != nil {
		errs = append(errs, h.runtime.Close())
	}
	if h.store != nil {
		errs = append(errs, h.store.Close())
	}
	return errors.Join(errs...)
}

// tell logs that systemd could not be told something; it is never a reason to
// stop.
func tell(log *zap.Logger, err error) {
	if err != nil {
		log.Debug("cannot notify systemd", zap.Error(err))
	}
}

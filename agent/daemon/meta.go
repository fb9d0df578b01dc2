package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control/ecsapi"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/taskmeta"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/metrics/cgroup"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/cgroups"
)

// meta is what the agent tells containers about themselves.
type meta struct {
	agent *agent
	index *taskmeta.Index
	// files are written if the host wants them; else nil.
	files *taskmeta.Files
	// server is made once there is a line to ECS.
	server *taskmeta.Server

	mu sync.Mutex // guards place
	// place is what instance metadata says of where the host is.
	place struct{ vpc, zoneID string }
}

func newMeta(a *agent) *meta {
	m := &meta{agent: a, index: taskmeta.NewIndex()}
	if c := &a.options.Config; c.Metadata.ContainerFile {
		m.files = taskmeta.NewFiles(taskmeta.FilesConfig{
			Dir: m.dir(), Host: m.host, Addresses: m.addresses, Log: a.log.Named("metadata"),
		})
	}
	return m
}

// changed is told of every view of a task, before anything is done for it.
func (m *meta) changed(t engine.Task) {
	if t.Forgotten {
		m.index.Drop(t.State.Definition.ARN)
		return
	}
	view := &taskmeta.Task{State: t.State, Endpoints: t.Endpoints, Desired: t.Desired, Settled: t.Settled}
	m.index.Put(view)
	if m.files != nil {
		m.files.Changed(view)
	}
}

// host is what is said of this host.
func (m *meta) host() taskmeta.Host {
	c, known := &m.agent.options.Config, m.agent.host.store.Meta()
	m.mu.Lock()
	defer m.mu.Unlock()
	h := taskmeta.Host{
		Cluster: c.Cluster, ContainerInstanceARN: known.ContainerInstanceARN,
		Zone: known.AvailabilityZone, ZoneID: m.place.zoneID, VPC: m.place.vpc,
	}
	if c.Metadata.HideZone {
		h.Zone, h.ZoneID = "", ""
	}
	return h
}

// addresses are the host's as they are now.
func (m *meta) addresses(ctx context.Context) taskmeta.Addresses {
	get := func(path string) string {
		v, err := m.agent.metadata.Get(ctx, path)
		if err != nil {
			return "" // Left out: not every host has each of them.
		}
		return v
	}
	a := taskmeta.Addresses{PrivateIPv4: get("local-ipv4"), PublicIPv4: get("public-ipv4")}
	if m.agent.options.Config.IPCompatibility == "ipv6" {
		a.IPv6 = get("ipv6")
	}
	return a
}

// prepare makes the server, once everything that it asks is there.
func (m *meta) prepare(layout cgroup.Layout, memoryMiB int64) {
	a := m.agent
	c := &a.options.Config
	config := taskmeta.Config{
		Index: m.index, Host: m.host, Credentials: a.aws.roles, Log: a.log.Named("metadata"),
		Peers: peers(layout, a.host.cgroups), HostMemory: uint64(memoryMiB) << 20,
		Tags: tagLister{a.sessions.api}, Protection: protection{a.sessions.api, c.Region},
		Audit: taskmeta.AuditConfig{
			Path: c.Paths.AuditLog, Hourly: c.Metadata.AuditRollover == "hourly",
			MaxBytes: int64(c.Metadata.AuditMaxMB) * 1_000_000, Keep: c.Metadata.AuditKeep,
		},
		Rate: c.Metadata.Rate, Burst: c.Metadata.Burst, Volumes: a.metadataVolumes,
		Faults: taskFaults{a},
	}
	if !c.Metrics.Disabled {
		config.Stats = a.observer.sampler
	}
	m.server = taskmeta.New(config)
	tasks := map[string]bool{}
	for _, t := range a.engine.Tasks() {
		tasks[t.ID()] = true
	}
	if err := taskmeta.SweepFiles(m.dir(), func(id string) bool { return tasks[id] }); err != nil {
		a.log.Warn("files of tasks that are gone stay", zap.Error(err))
	}
}

// dir holds the metadata files.
func (m *meta) dir() string { return filepath.Join(m.agent.options.Config.Paths.Data, "metadata") }

// peers knows callers from the host's own network namespace.
func peers(layout cgroup.Layout, tasks *cgroups.Manager) *taskmeta.HostPeers {
	p := &taskmeta.HostPeers{Unified: layout.Unified, Task: tasks.TaskPath, Tasks: filepath.Dir(tasks.TaskPath("0"))}
	if layout.Version == metrics.V1 {
		p.Legacy = layout.Controllers["memory"]
	}
	return p
}

// run serves until ctx ends. A port that is taken is no reason to run no tasks:
// it is tried again, for as long as it takes (spec/host.md §1.1).
func (m *meta) run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { m.learn(ctx) })
	if m.files != nil {
		beside.Go(func() { _ = m.files.Run(ctx) }) // It ends with ctx alone.
	}
	ladder := backoff.Ladder{First: time.Second, Last: time.Minute, Factor: 2, Jitter: 0.2}
	for first := true; ; first = false {
		listener, err := m.listen(ctx)
		if err == nil {
			if err = m.server.Serve(ctx, listener); ctx.Err() != nil {
				return err
			}
		}
		if first {
			m.agent.log.Error("cannot serve task metadata and credentials; trying again",
				zap.String("address", m.agent.options.Config.Metadata.Listen), zap.Error(err))
		}
		if !backoff.Wait(ctx, ladder.Next()) {
			return nil
		}
	}
}

func (m *meta) listen(ctx context.Context) (net.Listener, error) {
	if l := m.agent.host.metadata.listener; l != nil {
		return l, nil
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp4", m.agent.options.Config.Metadata.Listen)
}

// learn asks instance metadata where the host is, until it knows or there is
// nobody to ask.
func (m *meta) learn(ctx context.Context) {
	metadata := m.agent.metadata
	ladder := backoff.Ladder{First: time.Second, Last: time.Minute, Factor: 2, Jitter: 0.2}
	for {
		vpc, _, err := metadata.VPC(ctx)
		zone, zoneErr := metadata.Get(ctx, "placement/availability-zone-id")
		m.mu.Lock()
		m.place.vpc, m.place.zoneID = vpc, zone
		m.mu.Unlock()
		settled := func(err error) bool { return err == nil || errors.Is(err, awsapi.ErrNotSet) }
		if settled(err) && settled(zoneErr) || !metadata.MayAppear() || !backoff.Wait(ctx, ladder.Next()) {
			return
		}
	}
}

// metadataAddress is where 169.254.170.2 leads to.
type metadataAddress struct {
	address netip.AddrPort
	// listener is open already where the port was to be a free one: such an agent
	// runs beside the host's own, and leaves it what comes from the host's network
	// namespace.
	listener net.Listener
}

// beside says whether the agent runs beside the host's own.
func (m *metadataAddress) beside() bool { return m.listener != nil }

// forHostMode is the address and port that containers in host network mode are
// told; "" is 169.254.170.2.
func (m *metadataAddress) forHostMode() string {
	if m.beside() {
		return m.address.String()
	}
	return ""
}

func openMetadataAddress(c *config.Config) (m metadataAddress, err error) {
	if m.address, err = netip.ParseAddrPort(c.Metadata.Listen); err != nil {
		return m, fmt.Errorf("cannot use BERTH_TASK_METADATA_ADDRESS=%q: %w", c.Metadata.Listen, err)
	}
	if m.address.Port() != 0 {
		return m, nil
	}
	var lc net.ListenConfig
	if m.listener, err = lc.Listen(context.Background(), "tcp4", c.Metadata.Listen); err != nil {
		return m, fmt.Errorf("cannot listen for task metadata: %w", err)
	}
	if m.address, err = netip.ParseAddrPort(m.listener.Addr().String()); err != nil {
		return m, errors.Join(fmt.Errorf("cannot listen for task metadata: %w", err), m.close())
	}
	return m, nil
}

func (m *metadataAddress) close() error {
	if m.listener == nil {
		return nil
	}
	if err := m.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot stop listening: %w", err)
	}
	return nil
}

// tagLister asks ECS for tags with the host's keys.
type tagLister struct{ api *ecsapi.Client }

// Tags are a resource's.
func (l tagLister) Tags(ctx context.Context, arn, container string) ([]ecs.Tag, error) {
	api := l.api
	if container != "" {
		api = api.For("container/" + container)
	}
	out, err := api.ListTagsForResource(ctx, &ecs.ListTagsForResourceRequest{ResourceARN: arn})
	if err != nil {
		return nil, err
	}
	return out.Tags, nil
}

// protection asks ECS about task protection with the keys of a task's role.
type protection struct {
	api    *ecsapi.Client
	region string
}

var _ taskmeta.Protection = protection{}

func (p protection) as(keys credentials.Set) *ecsapi.Client {
	own := awsapi.NewCredentials(awsapi.CredentialsConfig{
		AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey, SessionToken: keys.SessionToken,
	})
	return p.api.As(awsapi.NewSigner(own, p.region, "ecs").SignRequest)
}

// GetProtection asks for it.
func (p protection) GetProtection(ctx context.Context, keys credentials.Set, r *ecs.GetTaskProtectionRequest) (*ecs.GetTaskProtectionResponse, error) {
	return p.as(keys).GetTaskProtection(ctx, r)
}

// UpdateProtection sets or clears it.
func (p protection) UpdateProtection(ctx context.Context, keys credentials.Set, r *ecs.UpdateTaskProtectionRequest) (*ecs.UpdateTaskProtectionResponse, error) {
	return p.as(keys).UpdateTaskProtection(ctx, r)
}

// roleCredentials serves the log process, by way of the host API.
type roleCredentials struct{ meta *meta }

// ServeRoleCredentials answers with a role's keys.
func (c roleCredentials) ServeRoleCredentials(w http.ResponseWriter, r *http.Request, id string) {
	c.meta.server.ServeRoleCredentials(w, r, id)
}

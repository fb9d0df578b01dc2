package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/control"
	"github.com/berthd/berth/agent/control/acs"
	"github.com/berthd/berth/agent/control/ecsapi"
	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/network"
	"github.com/berthd/berth/runtime/volumes"
)

// ecsVersion is the version of the ECS agent whose protocol this is. ECS is told
// it where the ECS agent tells its own: the service may look at it
// (spec/control-plane.md §4.1).
const ecsVersion = "1.105.1"

// retryJoin is how long a host that could not join waits before it tries again.
// Its tasks run meanwhile.
const retryJoin = 15 * time.Second

// errNoTelemetry is why there is no line for it.
var errNoTelemetry = errors.New("telemetry is switched off (ECS_DISABLE_METRICS, ECS_DISABLE_DOCKER_HEALTH_CHECK)")

// sessions is the line to ECS: registration, reports, ACS and TCS.
type sessions struct {
	agent       *agent
	log         *zap.Logger
	api         *ecsapi.Client
	signer      *awsapi.Signer
	credentials *credentials.Store
	proxy       func(*http.Request) (*url.URL, error)
	acs, tcs    *control.Link
}

func newSessions(a *agent) *sessions {
	c := &a.options.Config
	signer := awsapi.NewSigner(a.aws.keys, c.Region, "ecs")
	a.aws.expect(a.engine.Tasks())
	return &sessions{
		agent: a, log: a.log.Named("ecs"), signer: signer, credentials: a.aws.roles, proxy: a.aws.proxy,
		api: ecsapi.New(ecsapi.Config{
			Endpoint: ecsapi.Endpoint(c.Endpoint, c.Region, c.IPCompatibility == "ipv6"),
			Sign:     signer.SignRequest, Version: ecsVersion, Hash: a.hash(), OSFamily: osFamily(a),
			Proxy: a.aws.proxy, Roots: a.aws.roots,
		}),
		acs: control.NewLink("acs", a.board), tcs: control.NewLink("tcs", a.board),
	}
}

// ended forgets the credentials of a task that has ended: its own role's when
// it stops, the execution role's when nothing of it is left (spec/host.md §4).
func (s *sessions) ended(t *engine.Task) {
	switch arn := t.State.Definition.ARN; {
	case t.Forgotten:
		s.credentials.RemoveTask(arn)
	case !t.State.StoppedAt.IsZero():
		s.credentials.Remove(arn, credentials.Application)
	}
}

// run joins the cluster and keeps the sessions until ctx ends.
func (s *sessions) run(ctx context.Context) error {
	defer s.api.Close()
	defer s.acs.Close()
	defer s.tcs.Close()
	if err := s.awaitService(ctx); err != nil {
		return err
	}
	identity, err := s.join(ctx)
	if err != nil {
		return err
	}
	s.agent.identity = identity
	endpoints := control.NewEndpoints(s.api, identity)
	c := &s.agent.options.Config
	telemetryClient := s.telemetry(identity, endpoints)
	parts := []control.Runner{
		control.NewReporter(identity.Cluster, s.agent.host.store, s.api,
			control.Addresses{WithoutIPv6: c.Network.ExcludeIPv6Bindings && c.IPCompatibility != "ipv6", WithoutIPv4: c.IPCompatibility == "ipv6"}, s.log),
		s.communication(identity, endpoints, telemetryClient),
	}
	if c.Metrics.Disabled && c.Task.DisableHealthChecks {
		s.tcs.Connected(false, errNoTelemetry)
		s.tcs.Close()
	} else {
		parts = append(parts, telemetryClient)
	}
	return control.Run(ctx, parts...)
}

// join registers until that works. A refusal for good ends the agent; anything
// else is tried again, because the tasks of this host must not depend on it.
func (s *sessions) join(ctx context.Context) (control.Identity, error) {
	a := s.agent
	cluster := a.options.Config.Cluster
	if !a.options.Config.Explicit("ECS_CLUSTER") {
		cluster = ""
	}
	for {
		tell(s.log, systemd.Status("joining cluster "+a.options.Config.Cluster))
		identity, err := s.register(ctx, cluster)
		if err == nil {
			if err := a.saveIdentity(identity); err != nil {
				return identity, err
			}
			s.log.Info("joined", zap.String("cluster", identity.Cluster), zap.String("instance", identity.ContainerInstanceARN))
			tell(s.log, systemd.Status("in cluster "+identity.Cluster))
			return identity, nil
		}
		if control.ExitCode(err) == control.ExitTerminal || ctx.Err() != nil {
			return identity, err
		}
		s.acs.Connected(false, err)
		s.log.Error("cannot join the cluster; trying again", zap.Duration("in", retryJoin), zap.Error(err))
		if !backoff.Wait(ctx, retryJoin) {
			return identity, context.Cause(ctx)
		}
	}
}

// register makes one attempt, which may take an hour while the service is in
// trouble.
func (s *sessions) register(ctx context.Context, cluster string) (control.Identity, error) {
	join, err := s.joining(ctx, cluster)
	if err != nil {
		return control.Identity{}, err
	}
	return control.Join(ctx, join, s.agent.identity)
}

// held is the status that ECS holds of this host, which is registered.
func (s *sessions) held(ctx context.Context) (string, error) {
	meta := s.agent.host.store.Meta()
	join, err := s.joining(ctx, meta.Cluster)
	if err != nil {
		return "", err
	}
	return control.Status(ctx, join, control.Identity{ContainerInstanceARN: meta.ContainerInstanceARN, Cluster: meta.Cluster})
}

// joining is a registration.
func (s *sessions) joining(ctx context.Context, cluster string) (control.JoinConfig, error) {
	a := s.agent
	host, err := s.describe(ctx)
	if err != nil {
		return control.JoinConfig{}, err
	}
	join := control.JoinConfig{API: s.api, Cluster: cluster, Host: host, Log: s.log}
	if !a.options.Config.Instance.NoInstanceDocument && !a.options.Config.External && a.metadata.Available(ctx) {
		join.Document = a.metadata
	}
	return join, nil
}

// describe is what this host says of itself when it registers.
func (s *sessions) describe(ctx context.Context) (control.Host, error) {
	a := s.agent
	c := &a.options.Config
	total, err := memoryMiB("/proc/meminfo")
	if err != nil {
		return control.Host{}, err
	}
	host := control.Host{
		CPUs: runtime.NumCPU(), MemoryMiB: total, ReservedMiB: int64(c.Instance.ReservedMemory),
		ReservedTCP: c.Instance.ReservedPorts, ReservedUDP: c.Instance.ReservedPortsUDP,
		OSFamily: osFamily(a), EC2InstanceID: a.identity.EC2InstanceID,
		CustomAttributes: c.Instance.Attributes,
		Features: control.Features{
			LogDrivers: logDrivers(&c.Capability), AWSLogsRole: c.Capability.AWSLogsExecutionRole, Privileged: !c.Capability.PrivilegedDisabled, TaskLimits: c.Cgroup.TaskLimits,
			HealthChecks: !c.Task.DisableHealthChecks, ExecuteCommand: len(execAgentOf(c).available()) > 0,
			External: c.External,
			TaskENI:  c.Network.TaskENI, TaskENITrunking: c.Network.TaskENI && c.Network.HighDensityENI && a.options.onHost(network.CanBranch),
			TaskENIBlocksIMDS: c.Network.AWSVPCBlockIMDS || c.Network.BlockIMDS, TaskENIVersion: ecsVersion,
			EFS: a.options.onHost(volumes.CanMountEFS), EFSAuth: efsAuth(c), EBS: a.options.ebsVolumes(),
			FaultInjection: a.host.faults.canAll(c),
			SELinux:        c.Capability.SELinux, AppArmor: c.Capability.AppArmor,
			TaskRoles: c.Capability.TaskIAMRole, TaskRolesHost: c.Capability.TaskIAMRoleHost && !a.host.metadata.beside(),
		},
	}
	if c.Capability.GPU {
		if host.GPUs, err = a.host.runtime.GPUs(); err != nil {
			return control.Host{}, err
		}
		if host.GPUDriver = gpuDriver("/"); len(host.GPUs) == 0 {
			s.log.Warn("ECS_ENABLE_GPU_SUPPORT is set and no CDI file of this host has a GPU: nvidia-ctk cdi generate makes one")
		}
	}
	if host.Tags, err = s.tags(ctx); err != nil {
		return control.Host{}, err
	}
	if c.External {
		host.Architecture = architecture()
	}
	if outpost, err := a.metadata.Get(ctx, "outpost-arn"); err == nil {
		host.OutpostARN = outpost
	}
	return host, nil
}

// tags are the ones that were set and, where that is wanted, the EC2 instance's
// below them (spec/control-plane.md §1.5).
func (s *sessions) tags(ctx context.Context) (map[string]string, error) {
	c := &s.agent.options.Config
	if !c.Instance.PropagateTags {
		return c.Instance.Tags, nil
	}
	tags, err := awsapi.InstanceTags(ctx, awsapi.InstanceTagsConfig{
		Credentials: s.signer.Credentials(), Region: c.Region, InstanceID: s.agent.identity.EC2InstanceID, Proxy: s.proxy,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot register with the tags of the EC2 instance (ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM): %w", err)
	}
	maps.Copy(tags, c.Instance.Tags)
	return tags, nil
}

// communication is the ACS session.
func (s *sessions) communication(id control.Identity, endpoints *control.Endpoints, t *tcs.Client) *acs.Client {
	a := s.agent
	return acs.New(acs.Config{
		Cluster: id.Cluster, ContainerInstanceARN: id.ContainerInstanceARN, AgentVersion: ecsVersion, AgentHash: a.hash(),
		Service: s.service(s.acs, "ACS", endpoints.ACS),
		Tasks:   a.engine, Sequence: manifests{a.host.store}, Credentials: s.credentials, Attachments: a.attachments,
		Conversion: acs.Conversion{
			Cluster: id.Cluster, LogDrivers: builtLogDrivers(), Region: a.options.Config.Region, IPv6Only: a.options.Config.IPCompatibility == "ipv6",
			PrivilegedDisabled: a.options.Config.Capability.PrivilegedDisabled,
			GPUs:               a.options.Config.Capability.GPU,
			ManagedAgents:      execAgentOf(&a.options.Config).available(),
			TaskRoles:          a.options.Config.Capability.TaskIAMRole, TaskRolesHost: a.options.Config.Capability.TaskIAMRoleHost,
			TaskENI: a.options.Config.Network.TaskENI, Metadata: true, MetadataHost: a.host.metadata.forHostMode(),
		},
		Updates:   a.orders,
		Heartbeat: t.Heartbeat, Inactive: t.Drop,
	})
}

// telemetry is the TCS session.
func (s *sessions) telemetry(id control.Identity, endpoints *control.Endpoints) *tcs.Client {
	a := s.agent
	c := tcs.Config{
		Cluster: id.Cluster, ContainerInstanceARN: id.ContainerInstanceARN, AgentVersion: ecsVersion, AgentHash: a.hash(),
		Service: s.service(s.tcs, "TCS", endpoints.TCS), SignFrame: s.signer.SignFrame,
		Health: func() []tcs.TaskHealth { return judged(a.engine.Tasks()) },
		Status: a.board.Instance,
	}
	if !a.options.Config.Metrics.Disabled {
		c.Metrics, c.Volumes = counted{telemetry{a.observer.sampler}, &a.updating.published}, a.volumeUsage
	}
	return tcs.New(c)
}

// service is how one of the sessions is reached, and who is told of it.
func (s *sessions) service(link *control.Link, name string, endpoint func(context.Context) (string, error)) ws.Service {
	return ws.Service{
		Endpoint: endpoint, Sign: s.signer.SignUpgrade, Proxy: s.proxy, Roots: s.agent.aws.roots,
		Connected: s.connected(link, name), Log: s.log.Named(strings.ToLower(name)),
	}
}

// connected passes a session's state on, and logs when it changes.
func (s *sessions) connected(link *control.Link, name string) func(bool, error) {
	return func(up bool, why error) {
		if was, _, _ := link.Status(); was != up {
			if up {
				s.log.Info("connected", zap.String("to", name))
			} else {
				s.log.Info("disconnected", zap.String("from", name), zap.Error(why))
			}
		}
		link.Connected(up, why)
	}
}

// link is the state of a session by name.
func (s *sessions) link(name string) *control.Link {
	if name == "acs" {
		return s.acs
	}
	return s.tcs
}

// manifests keeps the sequence number of task manifests in the store.
type manifests struct{ store *store.Store }

// ManifestSequence is the number of the last manifest acted on.
func (m manifests) ManifestSequence() int64 { return m.store.Meta().ManifestSequence }

// SaveManifestSequence keeps it.
func (m manifests) SaveManifestSequence(n int64) error {
	if err := m.store.Update(func(meta *store.Meta) { meta.ManifestSequence = n }); err != nil {
		return fmt.Errorf("cannot save the task manifest's sequence number: %w", err)
	}
	return nil
}

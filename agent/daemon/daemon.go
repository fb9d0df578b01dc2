package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/attachment"
	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/control"
	"github.com/berthd/berth/agent/drain"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/update"
	"github.com/berthd/berth/runtime/hostns"
)

// TerminalError is an error that starting the agent again cannot mend; its exit
// code is 5.
type TerminalError = control.TerminalError

// Options are what the agent is started with.
type Options struct {
	Config config.Config
	// ConfigFile and Environ are where Config came from, for reading it again once
	// instance metadata has said what was missing.
	ConfigFile string
	Environ    []string
	// Version and Revision say which build this is.
	Version, Revision string
	// SpawnLogs starts a log process where none answers; nil waits for one.
	SpawnLogs func() error
	// Updater knows the other versions of this program; nil when no package
	// installed it. Updates carries out what ECS orders; nil refuses.
	Updater *update.Updater
	Updates UpdateOrders
	// Init is the command that runs as PID 1 of containers that ask for one, when
	// the host has none of the usual programs.
	Init []string
	// Mounts is the host's mount namespace, when the agent was started in another
	// one: what containerd and the kernel are to see is done there.
	Mounts *hostns.Namespace
	Log    *zap.Logger
	// LogLevel changes what Log logs, in the words of ECS_LOGLEVEL; nil leaves it.
	LogLevel func(level string) error
	// Hangup has the settings read again each time something comes; nil never.
	Hangup <-chan os.Signal
	// Ready, if set, is called once the agent's tasks are adopted and its socket
	// answers.
	Ready func()
}

// onHost says whether something is true on the host, of whose disks and kernel
// modules an agent that is shut in sees nothing.
func (o *Options) onHost(is func() bool) (yes bool) {
	err := o.Mounts.Do(func() error {
		yes = is()
		return nil
	})
	return yes && err == nil
}

// agent is the running agent.
type agent struct {
	options     Options
	log         *zap.Logger
	host        *host
	metadata    *awsapi.Metadata
	aws         *aws
	identity    control.Identity
	board       *health.Board
	engine      *engine.Engine
	observer    *observer
	images      *imageCleaner
	settings    *liveSettings
	parts       *resources.Resources
	sessions    *sessions
	attachments *attachment.Manager
	started     time.Time
	meta        *meta
	drainer     *drain.Drainer
	goodbye     goodbye
	lock        *os.File // of logind, which the last agent had; nil for none
	shutdowns   *shutdowns
	updating    *updating
	orders      *orders
}

// Run is the agent, from start to stop. It returns nil when ctx ended it.
func Run(ctx context.Context, o Options) error {
	a := &agent{options: o, log: o.Log, board: health.NewBoard(), started: time.Now()}
	a.goodbye.agent = a
	a.lock = systemd.Kept()[lockName]
	err := a.run(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Cause(ctx))) {
		a.log.Info("the agent has stopped")
		return nil
	}
	return err
}

func (a *agent) run(ctx context.Context) (err error) {
	if err := FindECSAgent(ctx, &a.options.Config); err != nil {
		return &TerminalError{Err: err}
	}
	if err := a.settle(ctx); err != nil {
		return err
	}
	a.updating = beginUpdating(a)
	if a.host, err = openHost(&a.options, a.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.host.close()) }()
	if err := a.host.network.Ensure(ctx); err != nil {
		return err
	}
	a.host.faults.begin(&a.options.Config)
	if err := a.recognise(ctx); err != nil {
		return err
	}
	if err := a.host.awaitContainerd(ctx, a.options.Config.Containerd.Address, a.log); err != nil {
		return err
	}
	parts, err := a.build(ctx)
	if err != nil {
		return err
	}
	return runParts(ctx, parts, a.leave)
}

// recognise finds out whether the state on disk is this host's and this
// cluster's.
func (a *agent) recognise(ctx context.Context) error {
	instance, err := a.metadata.InstanceID(ctx)
	if err != nil {
		instance = ""
	}
	meta := a.host.store.Meta()
	saved := control.Identity{
		ContainerInstanceARN: meta.ContainerInstanceARN, Cluster: meta.Cluster,
		AvailabilityZone: meta.AvailabilityZone, EC2InstanceID: meta.EC2InstanceID,
	}
	keep, discard, err := control.Restore(saved, a.options.Config.Cluster, instance)
	if err != nil {
		return err
	}
	if discard {
		a.log.Warn("the state is that of another instance and is forgotten", zap.String("was", saved.EC2InstanceID), zap.String("is", instance))
		if err := a.host.store.Reset(); err != nil {
			return err
		}
	}
	a.identity = keep
	if a.identity.EC2InstanceID == "" {
		a.identity.EC2InstanceID = instance
	}
	return nil
}

// saveIdentity keeps who this host is to ECS.
func (a *agent) saveIdentity(id control.Identity) error {
	return a.host.store.Update(func(m *store.Meta) {
		m.ContainerInstanceARN, m.Cluster = id.ContainerInstanceARN, id.Cluster
		m.AvailabilityZone, m.EC2InstanceID = id.AvailabilityZone, id.EC2InstanceID
		m.AgentVersion = a.options.Version
	})
}

// build makes the parts in the order in which they are started. The tasks are
// adopted here; nothing new is begun for them before the parts run.
func (a *agent) build(ctx context.Context) ([]part, error) {
	now := time.Now()
	a.board.Declare("containerd", health.ContainerRuntime, 0, now)
	a.board.Declare("engine", health.Agent, time.Minute, now)
	a.board.Declare("acs", health.Agent, 0, now)
	a.board.Declare("tcs", health.Agent, 0, now)
	capacity, err := a.measure()
	if err != nil {
		return nil, err
	}
	measuring, err := newMeasuring(a.log)
	if err != nil {
		return nil, err
	}
	a.meta = newMeta(a)
	a.observer = &observer{
		meta:    a.meta,
		sampler: measuring.sampler, events: &hostapi.Events{}, cgroup: a.host.cgroups.ContainerPath, netns: a.host.network.NetNS,
		bases: newBases(a), tracked: map[string]time.Time{}, pulls: map[string]hostapi.PullView{},
	}
	c := a.host.engineConfig(&a.options, capacity, a.log)
	c.Observer, c.Reconciled = a.observer, a.reconciled
	if a.aws, err = newAWS(&a.options.Config, a.metadata); err != nil {
		return nil, err
	}
	a.parts = a.resources()
	c.Resources = taskResources{a.parts}
	a.images = newImageCleaner(a.cleaner(&a.options.Config))
	a.settings = &liveSettings{agent: a, config: a.options.Config}
	c.MakeRoom = a.images.MakeRoom
	a.engine = engine.New(c)
	if err := a.engine.Restore(ctx); err != nil {
		return nil, err
	}
	if err := a.host.imds.restore(ctx, a.engine.Tasks(), a.host.network.GuardsHostTasks(), a.log.Named("network")); err != nil {
		return nil, err
	}
	a.sweep(ctx)
	if a.attachments, err = a.openAttachments(); err != nil {
		return nil, err
	}
	a.orders = newOrders(a.options.Updates, a.updating.before, a.options.Config.Agent.UpdateSpread, a.log.Named("update"))
	a.sessions = newSessions(a)
	a.observer.ended = a.sessions.ended
	a.drainer = a.newDrainer(ctx)
	if a.shutdowns, err = newShutdowns(a, a.lock); err != nil {
		return nil, err
	}
	memory, err := memoryMiB("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	a.meta.prepare(measuring.layout, memory)
	parts := []part{
		{"the log process's client", a.host.logs.Keep},
		{"the metrics sampler", measuring.run},
		{"the task metadata server", a.meta.run},
		{"the task engine", a.engine.Run},
		{"the attachments", a.attachments.Run},
		{"the image clean-up", a.images.run},
		{"the host API", a.serveHost},
		{"the introspection API", a.serveIntrospection},
		{"the watchdog", a.watchdog},
		{"the proof of an update", a.updating.run},
		{"the orders to update", a.orders.run},
		{"the line to ECS", a.sessions.run},
		{"the drain", a.drainer.Run},
		{"the word of a shutdown", a.shutdowns.run},
		{"the settings", a.settings.run},
	}
	return parts, nil
}

// sweep removes what an agent that was killed while it created a container left
// in containerd, and what it left of volumes and network faults.
func (a *agent) sweep(ctx context.Context) {
	a.sweepVolumes(ctx)
	a.sweepBases()
	a.sweepFaults(ctx)
	swept, err := a.host.runtime.Sweep(ctx)
	if err != nil {
		a.log.Warn("cannot look for half-made containers", zap.Error(err))
	}
	if len(swept) > 0 {
		a.log.Warn("removed half-made containers", zap.Strings("removed", swept))
	}
}

// watchdog feeds systemd's while the agent's loops turn; without systemd it
// does nothing for as long as the agent runs.
func (a *agent) watchdog(ctx context.Context) error {
	if err := systemd.Watch(ctx, a.board.Alive); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// reconciled hears from the engine each time it has compared the runtime.
func (a *agent) reconciled(err error) {
	now := time.Now()
	a.board.Beat("engine", now)
	a.board.Report("engine", health.OK, "", now)
	status, reason := health.OK, ""
	if err != nil {
		status, reason = health.Impaired, err.Error()
	}
	if !a.board.Report("containerd", status, reason, now) {
		return
	}
	if err != nil {
		a.log.Error("containerd does not answer; running tasks are not affected", zap.Error(err))
	} else {
		a.log.Info("containerd answers")
	}
}

// measure is what the host has for tasks, the same that is registered.
func (a *agent) measure() (engine.Capacity, error) {
	total, err := memoryMiB("/proc/meminfo")
	if err != nil {
		return engine.Capacity{}, err
	}
	free := total - int64(a.options.Config.Instance.ReservedMemory)
	if free <= 0 {
		return engine.Capacity{}, &TerminalError{Err: fmt.Errorf(
			"ECS_RESERVED_MEMORY=%d leaves nothing of this host's %d MiB", a.options.Config.Instance.ReservedMemory, total)}
	}
	return engine.Capacity{CPU: int64(runtime.NumCPU()) * 1024, Memory: free}, nil
}

// memoryMiB reads the host's memory.
func memoryMiB(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the host's memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read MemTotal in %s: %w", path, err)
			}
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("cannot find MemTotal in %s", path)
}

package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/cgroups"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/logs"
	"github.com/berthd/berth/runtime/network"
)

var (
	_ engine.Network = hostNetwork{}
	_ engine.Cgroups = hostCgroups{}
	_ engine.Logs    = hostLogs{}
)

// hostNetwork is runtime/network in the engine's words.
type hostNetwork struct {
	*network.Network

	log *zap.Logger
}

// Attach makes the endpoint true.
func (n hostNetwork) Attach(ctx context.Context, e ipam.Endpoint) error {
	if err := n.Network.Attach(ctx, e); err != nil {
		return container.Errorf(container.KindNetwork, "container resource provisioning: failed to setup network namespace: %w", err)
	}
	return nil
}

// Sync makes the host's network what the plan says, and logs what it removed.
func (n hostNetwork) Sync(ctx context.Context, plan ipam.Plan) error {
	removed, err := n.Network.Sync(ctx, plan)
	if len(removed) > 0 {
		n.log.Warn("removed network pieces that belong to no task", zap.Strings("removed", removed))
	}
	return err
}

// Mend repairs the host's rules if somebody has deleted them.
func (n hostNetwork) Mend(ctx context.Context, plan func() ipam.Plan) error {
	mended, err := n.Network.Mend(ctx, plan)
	if mended {
		n.log.Warn("somebody deleted our nftables tables; they are written again")
	}
	return err
}

// Files writes a container's name files and answers with their mounts.
func (n hostNetwork) Files(ctx context.Context, f engine.Files) ([]container.Mount, error) {
	req := network.FilesRequest{
		ID: f.ID, HostNetwork: f.HostNetwork, Shared: f.Shared, Hostname: f.Hostname, Domain: f.Domainname,
		DNS: network.DNS{Search: f.DNS.Search, Options: f.DNS.Options},
	}
	if req.Hostname == "" && !f.HostNetwork {
		req.Hostname = f.ID[:12]
	}
	for _, a := range []netip.Addr{f.Addresses.IPv4, f.Addresses.IPv6} {
		if a.IsValid() {
			req.Addrs = append(req.Addrs, a)
		}
	}
	for _, h := range f.Hosts {
		addr, err := netip.ParseAddr(h.Address)
		if err != nil {
			return nil, container.Errorf(container.KindHost, "invalid address %q of extra host %q", h.Address, h.Name)
		}
		req.ExtraHosts = append(req.ExtraHosts, network.Host{Addr: addr, Names: []string{h.Name}})
	}
	for _, s := range f.DNS.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, container.Errorf(container.KindHost, "invalid DNS server %q", s)
		}
		req.DNS.Servers = append(req.DNS.Servers, addr)
	}
	files, err := n.Network.Files(ctx, req)
	if err != nil {
		return nil, &container.Error{Kind: container.KindHost, Err: err}
	}
	var mounts []container.Mount
	for _, m := range []struct{ from, to string }{
		{files.Hosts, "/etc/hosts"}, {files.ResolvConf, "/etc/resolv.conf"}, {files.Hostname, "/etc/hostname"},
	} {
		mounts = append(mounts, container.Mount{Type: "bind", Source: m.from, Destination: m.to, Options: []string{"rbind", "rw"}})
	}
	return mounts, nil
}

// hostCgroups is runtime/cgroups in the engine's words.
type hostCgroups struct {
	*cgroups.Manager

	imds *imdsGuard
}

// Create makes the task's cgroup.
func (c hostCgroups) Create(ctx context.Context, t engine.TaskCgroup) error {
	if _, err := c.Manager.Create(ctx, cgroups.Task{ID: t.ID, CPUs: t.CPU, Shares: t.Shares, MemoryBytes: t.MemoryBytes, Pids: t.Pids}); err != nil {
		return err
	}
	return c.imds.created(ctx, t)
}

// Remove removes it.
func (c hostCgroups) Remove(ctx context.Context, id string) error {
	if err := c.Manager.Remove(ctx, id); err != nil {
		return err
	}
	return c.imds.removed(ctx, id)
}

// hostLogs is the client of the log process in the engine's words.
type hostLogs struct{ *logs.Client }

// Open connects a container's streams.
func (l hostLogs) Open(ctx context.Context, s engine.LogStream) (container.IO, error) {
	io, err := l.Client.Open(ctx, logs.Container{
		ID: s.ID, Task: s.Task, Name: s.Name, RuntimeName: s.RuntimeName, Command: s.Command, Image: s.Image, ImageID: s.ImageID,
		Driver: s.Driver, Options: s.Options, Secrets: s.Secrets, Labels: s.Labels, Env: s.Env,
		Terminal: s.Terminal, Stdin: s.Stdin,
	})
	if err != nil {
		return io, &container.Error{Kind: container.KindCreate, Err: fmt.Errorf("failed to initialize logging driver: %w", err)}
	}
	return io, nil
}

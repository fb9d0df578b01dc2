package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
)

// An awsvpc task has one endpoint, which its containers share, instead of one
// for each: the interface that ECS attached for it. Its key among the task's
// endpoints is taskEndpoint, which is no name of a container.
const taskEndpoint = ""

// EndpointID is the id of the endpoint that a container of the task is
// connected by, and so that of its network namespace and of its addresses'
// lease. It is the container's own, but in awsvpc mode, where the task has one.
func EndpointID(d *task.Definition, name string) string {
	if d.Network == task.NetworkAWSVPC {
		name = taskEndpoint
	}
	return RuntimeID(d.ARN, name)
}

// Endpoint is what connects a container of the task; ok is false where that is
// the host's network.
func (t *Task) Endpoint(name string) (e ipam.Endpoint, ok bool) {
	return endpointOf(&t.State.Definition, name, t.Endpoints)
}

func endpointOf(d *task.Definition, name string, endpoints map[string]ipam.Endpoint) (e ipam.Endpoint, ok bool) {
	if d.Network == task.NetworkAWSVPC {
		name = taskEndpoint
	}
	e, ok = endpoints[name]
	return e, ok
}

// leaseTask takes the address that the containers of an awsvpc task reach the
// agent from. The other addresses ECS has chosen.
func (e *Engine) leaseTask(d *task.Definition) (map[string]ipam.Endpoint, error) {
	if e.config.LinkLocal == nil {
		return nil, errors.New("network mode awsvpc is not supported by this agent")
	}
	eni, err := interfaceOf(d)
	if err != nil {
		return nil, err
	}
	endpoint := ipam.Endpoint{ID: EndpointID(d, taskEndpoint), ENI: eni, AllowIMDS: d.AllowsIMDS()}
	if endpoint.Addresses, err = e.config.LinkLocal.Lease(endpoint.ID); err != nil {
		return nil, err
	}
	return map[string]ipam.Endpoint{taskEndpoint: endpoint}, nil
}

// restoreEndpoint takes the lease of an awsvpc task back.
func (e *Engine) restoreEndpoint(endpoint ipam.Endpoint) error {
	if e.config.LinkLocal == nil {
		return errors.New("network mode awsvpc is switched off (ECS_ENABLE_TASK_ENI)")
	}
	return e.config.LinkLocal.Restore(endpoint.ID, endpoint.Addresses)
}

// interfaceOf is the task's network interface in the words of the host's
// network.
func interfaceOf(d *task.Definition) (*ipam.ENI, error) {
	from := d.ENI
	if from == nil {
		return nil, errors.New("the task has no network interface")
	}
	eni := &ipam.ENI{
		IPv4: from.IPv4, IPv6: from.IPv6, GatewayIPv4: from.GatewayIPv4, GatewayIPv6: from.GatewayIPv6, VLAN: from.VLAN,
	}
	if err := eni.MAC.UnmarshalText([]byte(from.MAC)); err != nil {
		return nil, err
	}
	if from.TrunkMAC != "" {
		if err := eni.Trunk.UnmarshalText([]byte(from.TrunkMAC)); err != nil {
			return nil, fmt.Errorf("trunk: %w", err)
		}
	}
	var err error
	if d.Proxy != nil {
		eni.Proxy, err = proxyOf(d.Proxy)
	}
	return eni, err
}

// proxyOf is an App Mesh proxy in the words of the host's network.
func proxyOf(from *task.Proxy) (*ipam.Proxy, error) {
	p := &ipam.Proxy{
		IngressPort: from.IngressPort, EgressPort: from.EgressPort, AppPorts: from.AppPorts, EgressIgnoredPorts: from.EgressIgnoredPorts,
	}
	for _, id := range []struct {
		text string
		to   **uint32
	}{{from.IgnoredUID, &p.IgnoredUID}, {from.IgnoredGID, &p.IgnoredGID}} {
		if id.text == "" {
			continue
		}
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("proxy: %q is no user or group", id.text)
		}
		number := uint32(n)
		*id.to = &number
	}
	for _, text := range from.EgressIgnoredIPs {
		prefix, err := task.ParseIPOrCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		p.EgressIgnoredIPs = append(p.EgressIgnoredIPs, prefix)
	}
	return p, nil
}

// maxHostname is the longest name that Linux gives a host.
const maxHostname = 64

// taskHostname is what the containers of an awsvpc task call themselves: the
// interface's private DNS name, or like a container of no other name.
func taskHostname(d *task.Definition) string {
	switch name := d.ENI.PrivateDNSName; {
	case name == "":
		return EndpointID(d, taskEndpoint)[:hostnameDigits]
	case len(name) > maxHostname:
		name, _, _ = strings.Cut(name, ".")
		return name[:min(len(name), maxHostname)]
	default:
		return name
	}
}

// taskFiles are the name files that the containers of an awsvpc task share
// (spec/host.md §3.3).
func taskFiles(d *task.Definition) Files {
	f := Files{
		ID: EndpointID(d, taskEndpoint), Hostname: taskHostname(d), Shared: true,
		DNS: task.DNS{Servers: d.ENI.NameServers, Search: d.ENI.Search},
	}
	own := d.ENI.IPv4
	if len(own) == 0 {
		own = d.ENI.IPv6
	}
	name := d.ENI.PrivateDNSName
	if name == "" {
		name = f.Hostname
	}
	for _, p := range own {
		f.Hosts = append(f.Hosts, task.Host{Name: name, Address: p.Addr().String()})
	}
	return f
}

package acs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// ports are the container's port mappings. Only bridge mode publishes any.
func (b *builder) ports(out *task.Container, c *wire.Container, _ documents, path string) error {
	if b.definition.Network != task.NetworkBridge {
		return nil
	}
	for i, p := range c.PortMappings {
		m := task.PortMapping{
			ContainerPort: uint16(p.ContainerPort), ContainerPortEnd: uint16(p.ContainerPort),
			HostPort: uint16(p.HostPort), Protocol: p.Protocol,
		}
		if m.Protocol == "" {
			m.Protocol = "tcp"
		}
		if p.ContainerPortRange != "" {
			first, last, err := wire.ParsePortRange(p.ContainerPortRange)
			if err != nil {
				return field(fmt.Sprintf("%s.portMappings[%d].containerPortRange", path, i), "%v", err)
			}
			m.ContainerPort, m.ContainerPortEnd, m.Range = first, last, true
			// The host's range is always chosen by the agent (§12).
			m.HostPort = 0
		}
		out.Ports = append(out.Ports, m)
	}
	return nil
}

// links gives names to other containers of the task, and waits for them to be
// started (spec/task-engine.md §2.1).
func (b *builder) links(out *task.Container, _ *wire.Container, docs documents, path string) error {
	if b.definition.Network != task.NetworkBridge {
		return nil
	}
	for i, link := range docs.host.Links {
		at := fmt.Sprintf("%s.links[%d]", path, i)
		name, alias, found := strings.Cut(link, ":")
		if name == "" || (found && alias == "") || strings.Contains(alias, ":") {
			return setUp(at, "invalid link format")
		}
		if !found {
			alias = name
		}
		if !b.has(name) {
			return setUp(at, "could not find container for link %s", link)
		}
		out.Links = append(out.Links, task.Link{Container: name, Alias: alias})
		depend(out, name, task.ConditionStart)
	}
	return nil
}

func (b *builder) has(name string) bool {
	return slices.ContainsFunc(b.task.Containers, func(c *wire.Container) bool { return c.Name == name })
}

// depend adds a dependency unless it is there.
func depend(out *task.Container, on string, condition task.Condition) {
	d := task.Dependency{Container: on, Condition: condition}
	if !slices.Contains(out.DependsOn, d) {
		out.DependsOn = append(out.DependsOn, d)
	}
}

// hosts are the extra lines of /etc/hosts: "name:address", also "name=address".
func (b *builder) hosts(out *task.Container, _ *wire.Container, docs documents, path string) error {
	for i, line := range docs.host.ExtraHosts {
		at := fmt.Sprintf("%s.dockerConfig.hostConfig.ExtraHosts[%d]", path, i)
		cut := strings.IndexAny(line, ":=")
		if cut < 1 {
			return field(at, "%q is not name:address", line)
		}
		name, address := line[:cut], strings.Trim(line[cut+1:], "[]")
		if _, err := netip.ParseAddr(address); err != nil {
			return field(at, "%q is not an address", address)
		}
		out.Hosts = append(out.Hosts, task.Host{Name: name, Address: address})
	}
	return nil
}

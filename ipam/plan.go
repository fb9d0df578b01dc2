package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrBadPlan is the kind of error for a plan that contradicts itself.
var ErrBadPlan = errors.New("bad network plan")

// Protocol is a transport protocol as ECS names it.
type Protocol string

// The protocols that a port can be published for.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Publish makes a container's port, or a run of consecutive ports, reachable on the host. Ports pair one to one:
// HostPort+i leads to ContainerPort+i.
type Publish struct {
	Protocol      Protocol `json:"protocol"`
	HostPort      uint16   `json:"hostPort"` // 0 where the host port is still to be chosen
	ContainerPort uint16   `json:"containerPort"`
	// Count is the number of ports of a containerPortRange. 0 stands for a single port that is no range; a range of one
	// port has 1, and is reported as a range.
	Count uint16 `json:"count,omitempty"`
}

// Len is the number of ports, at least 1.
func (p Publish) Len() int { return max(1, int(p.Count)) }

// String returns a short text, such as 32768->80/tcp or 32768-32770->8000-8002/tcp.
func (p Publish) String() string {
	if p.Len() == 1 {
		return fmt.Sprintf("%d->%d/%s", p.HostPort, p.ContainerPort, p.Protocol)
	}
	n := p.Len() - 1
	return fmt.Sprintf("%d-%d->%d-%d/%s", p.HostPort, int(p.HostPort)+n, p.ContainerPort, int(p.ContainerPort)+n, p.Protocol)
}

// Validate tells whether the protocol is known and the ports, of which the host's may be 0, stay below 65536. Its
// errors are [ErrBadPlan].
func (p Publish) Validate() error {
	n := p.Len() - 1
	switch {
	case p.Protocol != TCP && p.Protocol != UDP:
		return fmt.Errorf("%w: protocol %q of port %d is neither tcp nor udp", ErrBadPlan, p.Protocol, p.ContainerPort)
	case p.ContainerPort == 0:
		return fmt.Errorf("%w: a published container port is 0", ErrBadPlan)
	case int(p.ContainerPort)+n > 65535 || int(p.HostPort)+n > 65535:
		return fmt.Errorf("%w: ports %v go beyond 65535", ErrBadPlan, p)
	}
	return nil
}

// Endpoint is all that the network of one container consists of. The engine stores it with the task, and hands the
// same value to the network again after a restart.
type Endpoint struct {
	// ID is the container's id. It names the network namespace, so it is a single path element.
	ID string `json:"id"`
	// Addresses are zero in network mode none: the namespace then has the loopback interface only.
	Addresses
	// Ports are published on all addresses of the host. Every HostPort is set.
	Ports []Publish `json:"ports,omitempty"`
	// AllowIMDS lets the container reach the instance metadata service where the host closes it to containers.
	AllowIMDS bool `json:"allowImds,omitempty"`
	// ENI, if set, is the endpoint's way to the world. Addresses are then those of its second interface, which leads to
	// the agent only, and there are no Ports: the interface has all of them for itself.
	ENI *ENI `json:"eni,omitempty"`
}

// Plan is all endpoints that a host shall have.
type Plan []Endpoint

// Validate tells whether the endpoints can be true together: ids, addresses and host ports are each used once. Its
// errors are [ErrBadPlan] and name the two endpoints.
func (p Plan) Validate() error {
	type port struct {
		protocol Protocol
		number   uint16
	}
	ids := make(map[string]bool, len(p))
	addrs := make(map[netip.Addr]string, 2*len(p))
	enis := make(map[MAC]string)
	ports := make(map[port]string)
	for _, e := range p {
		if ids[e.ID] {
			return fmt.Errorf("%w: container %s is in it twice", ErrBadPlan, e.ID)
		}
		ids[e.ID] = true
		if err := e.Validate(); err != nil {
			return err
		}
		if e.ENI != nil {
			if other, taken := enis[e.ENI.MAC]; taken {
				return fmt.Errorf("%w: containers %s and %s both have network interface %v", ErrBadPlan, other, e.ID, e.ENI.MAC)
			}
			enis[e.ENI.MAC] = e.ID
		}
		for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
			if other, taken := addrs[a]; taken && a.IsValid() {
				return fmt.Errorf("%w: containers %s and %s both have address %v", ErrBadPlan, other, e.ID, a)
			}
			addrs[a] = e.ID
		}
		for _, pub := range e.Ports {
			for i := range pub.Len() {
				k := port{pub.Protocol, pub.HostPort + uint16(i)}
				if other, taken := ports[k]; taken {
					return fmt.Errorf("%w: containers %s and %s both publish host port %d/%s", ErrBadPlan, other, e.ID, k.number, k.protocol)
				}
				ports[k] = e.ID
			}
		}
	}
	return nil
}

// Validate tells whether the endpoint alone can be true. Its errors are [ErrBadPlan].
func (e Endpoint) Validate() error {
	if e.ID == "" || e.ID == "." || e.ID == ".." {
		return fmt.Errorf("%w: %q is no container id", ErrBadPlan, e.ID)
	}
	for _, r := range e.ID {
		if r == '/' || r == 0 {
			return fmt.Errorf("%w: container id %q is not a single path element", ErrBadPlan, e.ID)
		}
	}
	if e.IPv4.IsValid() && !e.IPv4.Is4() || e.IPv6.IsValid() && !e.IPv6.Is6() {
		return fmt.Errorf("%w: container %s has an address in the other family's place", ErrBadPlan, e.ID)
	}
	if e.ENI != nil {
		if !e.IPv4.IsValid() {
			return fmt.Errorf("%w: container %s has a network interface, but no address to reach the agent from", ErrBadPlan, e.ID)
		}
		if len(e.Ports) > 0 {
			return fmt.Errorf("%w: container %s has a network interface for itself, but publishes ports", ErrBadPlan, e.ID)
		}
		return e.ENI.validate(e.ID)
	}
	if e.None() && len(e.Ports) > 0 {
		return fmt.Errorf("%w: container %s has no address, but publishes ports", ErrBadPlan, e.ID)
	}
	for _, pub := range e.Ports {
		if err := pub.Validate(); err != nil {
			return fmt.Errorf("container %s: %w", e.ID, err)
		}
		if pub.HostPort == 0 {
			return fmt.Errorf("%w: container %s publishes port %d without a host port", ErrBadPlan, e.ID, pub.ContainerPort)
		}
	}
	return nil
}

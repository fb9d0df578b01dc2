package control

import (
	"fmt"
	"slices"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/wire/ecs"
)

// The limits of SubmitTaskStateChange, spec/control-plane.md §6.2, in bytes and
// entries.
const (
	maxReason   = 1024
	maxText     = 255
	maxBindings = 100
)

// Addresses says which published addresses are reported.
type Addresses struct {
	// WithoutIPv6 leaves out "::", as ECS_EXCLUDE_IPV6_PORTBINDING asks;
	// WithoutIPv4 leaves out "0.0.0.0", for hosts that have IPv6 alone.
	WithoutIPv6, WithoutIPv4 bool
}

// submission is a change as it is sent: §6.2. cut is how many bindings were left
// out because the service takes no more than a hundred of a container. (The ECS
// agent never reports such a container at all, and its task hangs in PENDING; a
// task that is seen with a hundred of its ports is the better half.)
func submission(cluster string, c *task.Change, which Addresses) (r *ecs.SubmitTaskStateChangeRequest, cut int) {
	if c.Attached != nil {
		return &ecs.SubmitTaskStateChangeRequest{Cluster: cluster, Task: c.TaskARN, Attachments: attachments(c.Attached)}, 0
	}
	r = &ecs.SubmitTaskStateChangeRequest{
		Cluster: cluster, Task: c.TaskARN, Status: string(c.Status), Reason: ecs.Cut(c.Reason, maxReason),
		PullStartedAt: ecs.At(c.PullStartedAt), PullStoppedAt: ecs.At(c.PullStoppedAt),
		ExecutionStoppedAt: ecs.At(c.ExecutionStoppedAt),
	}
	for i := range c.Containers {
		cc := &c.Containers[i]
		bindings := networkBindings(cc.Bindings, which)
		if len(bindings) > maxBindings {
			cut += len(bindings) - maxBindings
			bindings = bindings[:maxBindings]
		}
		r.Containers = append(r.Containers, ecs.ContainerStateChange{
			ContainerName: cc.Name, Status: string(cc.Status), ExitCode: cc.ExitCode,
			Reason:          ecs.Cut(cc.Reason, maxReason),
			RuntimeID:       ecs.Cut(cc.RuntimeID, maxText),
			ImageDigest:     ecs.Cut(cc.ImageDigest, maxText),
			NetworkBindings: bindings,
		})
	}
	for _, a := range c.ManagedAgents {
		r.ManagedAgents = append(r.ManagedAgents, ecs.ManagedAgentStateChange{
			ContainerName: a.Container, ManagedAgentName: a.Name, Status: string(a.Status), Reason: ecs.Cut(a.Reason, maxReason),
		})
	}
	return r, cut
}

// attachments is an attachment as it is reported; nothing but ATTACHED ever is.
func attachments(a *task.Attached) []ecs.AttachmentStateChange {
	return []ecs.AttachmentStateChange{{AttachmentARN: a.ARN, Status: ecs.AttachmentAttached}}
}

func networkBindings(bindings []task.Binding, which Addresses) []ecs.NetworkBinding {
	out := make([]ecs.NetworkBinding, 0, len(bindings))
	for _, b := range bindings {
		if (b.BindIP == "::" && which.WithoutIPv6) || (b.BindIP == "0.0.0.0" && which.WithoutIPv4) {
			continue
		}
		n := ecs.NetworkBinding{BindIP: b.BindIP, Protocol: b.Protocol}
		if b.Range {
			last := b.HostPort + (b.ContainerPortEnd - b.ContainerPort)
			n.ContainerPortRange = fmt.Sprintf("%d-%d", b.ContainerPort, b.ContainerPortEnd)
			n.HostPortRange = fmt.Sprintf("%d-%d", b.HostPort, last)
		} else {
			n.ContainerPort, n.HostPort = int(b.ContainerPort), int(b.HostPort)
		}
		out = append(out, n)
	}
	return slices.Clip(out)
}

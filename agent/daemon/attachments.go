package daemon

import (
	"context"
	"fmt"

	"github.com/berthd/berth/agent/attachment"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/network"
)

// eniFinder knows the network interfaces that are attached to this host.
type eniFinder struct{ network *network.Network }

// Await returns nil once the interface is on the host, or with its task already.
func (f eniFinder) Await(ctx context.Context, a task.Attachment) error {
	var mac, trunk ipam.MAC
	if err := mac.UnmarshalText([]byte(a.MAC)); err != nil {
		return err
	}
	if a.TrunkMAC != "" {
		if err := trunk.UnmarshalText([]byte(a.TrunkMAC)); err != nil {
			return fmt.Errorf("trunk: %w", err)
		}
	}
	return f.network.AwaitENI(ctx, mac, trunk)
}

// openAttachments knows again what ECS has attached to this host.
func (a *agent) openAttachments() (*attachment.Manager, error) {
	c := &a.options.Config
	finders := make(map[task.AttachmentKind]attachment.Finder)
	if c.Network.TaskENI {
		eni := eniFinder{a.host.network}
		finders[task.AttachmentTaskENI], finders[task.AttachmentInstanceENI] = eni, eni
	}
	if a.options.ebsVolumes() {
		finders[task.AttachmentEBS] = ebsFinder{a.host.volumes}
	}
	return attachment.New(attachment.Config{Store: a.host.store, Finders: finders, Log: a.log.Named("attachments")})
}

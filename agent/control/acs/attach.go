package acs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// Attachments takes on what ECS attaches to this host.
type Attachments interface {
	// Accept returns when the attachment is durable. One that is known already stays
	// as it is.
	Accept(ctx context.Context, a task.Attachment) error
}

// confirmWait is how long ECS waits for a volume where it does not say.
const confirmWait = 5 * time.Minute

// errNoAttachments is why nothing is attached to a host that is not made for it.
var errNoAttachments = errors.New("this host takes no attachments")

// attachTask carries out an AttachTaskNetworkInterfacesMessage (§4.10).
func (s *session) attachTask(ctx context.Context, m *wire.AttachTaskNetworkInterfacesMessage) {
	err := m.Validate()
	if err == nil {
		err = s.attachInterfaces(ctx, task.Attachment{
			Kind: task.AttachmentTaskENI, TaskARN: m.TaskARN, ExpiresAt: expiry(m.WaitTimeoutMS),
		}, m.ElasticNetworkInterfaces)
	}
	s.attached(ctx, m, wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID}, err)
}

// attachInstance carries out an AttachInstanceNetworkInterfacesMessage.
func (s *session) attachInstance(ctx context.Context, m *wire.AttachInstanceNetworkInterfacesMessage) {
	err := m.Validate()
	if err == nil {
		err = s.attachInterfaces(ctx, task.Attachment{
			Kind: task.AttachmentInstanceENI, ExpiresAt: expiry(m.WaitTimeoutMS),
		}, m.ElasticNetworkInterfaces)
	}
	s.attached(ctx, m, wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID}, err)
}

// confirm carries out a ConfirmAttachmentMessage.
func (s *session) confirm(ctx context.Context, m *wire.ConfirmAttachmentMessage) {
	err := m.Validate()
	if err == nil {
		err = s.attachVolume(ctx, m)
	}
	s.attached(ctx, m, wire.AckRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID}, err)
}

// attached acknowledges what was taken on, before the device is there. What was
// not is not answered: ECS sends it again.
func (s *session) attached(ctx context.Context, m wire.Message, ack wire.AckRequest, err error) {
	if err != nil {
		s.log.Warn("ACS message is not acknowledged",
			zap.String("type", m.MessageType()), zap.String("message", ack.MessageID), zap.Error(err))
		return
	}
	s.send(ctx, &ack)
}

// attachInterfaces takes on the interfaces of one message.
func (s *session) attachInterfaces(ctx context.Context, a task.Attachment, enis []wire.ENI) error {
	if s.cfg.Attachments == nil {
		return errNoAttachments
	}
	list := make([]task.Attachment, len(enis))
	for i := range enis {
		path := fmt.Sprintf("elasticNetworkInterfaces[%d]", i)
		list[i] = a
		list[i].ARN = enis[i].AttachmentARN
		if list[i].ARN == "" {
			return field(path+".attachmentArn", "is missing")
		}
		var err error
		if list[i].MAC, err = macAddress(enis[i].MACAddress, path+".macAddress"); err != nil {
			return err
		}
		if v := enis[i].VLAN; enis[i].InterfaceAssociationProtocol == wire.AssociationVLAN && v != nil {
			list[i].TrunkMAC, err = macAddress(v.TrunkInterfaceMACAddress, path+".interfaceVlanProperties.trunkInterfaceMacAddress")
			if err != nil {
				return err
			}
		}
	}
	for _, one := range list {
		if err := s.cfg.Attachments.Accept(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// attachVolume takes on an EBS volume.
func (s *session) attachVolume(ctx context.Context, m *wire.ConfirmAttachmentMessage) error {
	if s.cfg.Attachments == nil {
		return errNoAttachments
	}
	if m.Attachment.AttachmentType != wire.AttachmentEBS {
		return &UnsupportedError{"attachment", "an attachment of type " + m.Attachment.AttachmentType}
	}
	a := task.Attachment{
		ARN: m.Attachment.AttachmentARN, Kind: task.AttachmentEBS, TaskARN: m.TaskARN, ExpiresAt: expiry(m.WaitTimeoutMS),
	}
	for _, p := range m.Attachment.Properties {
		switch p.Name {
		case "volumeId":
			a.VolumeID = p.Value
		case "deviceName":
			a.DeviceName = p.Value
		}
	}
	return s.cfg.Attachments.Accept(ctx, a)
}

// maxWait keeps a time-out within what a time can hold.
const maxWait = 365 * 24 * time.Hour

// expiry is when a wait of so many milliseconds, beginning now, is over.
func expiry(ms int64) time.Time {
	wait := confirmWait
	if ms > 0 {
		wait = maxWait
		if ms < maxWait.Milliseconds() {
			wait = time.Duration(ms) * time.Millisecond
		}
	}
	return time.Now().Add(wait).Round(0) // It is compared after restarts: the wall clock counts.
}

// macAddress is a hardware address in the usual form.
func macAddress(text, path string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return "", field(path, "%q is not a hardware address", text)
	}
	return mac.String(), nil
}

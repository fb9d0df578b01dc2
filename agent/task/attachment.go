package task

import "time"

// Attachment is something that ECS has attached to the host, and of which it
// wants to hear when it is there (spec/control-plane.md §4.10).
type Attachment struct {
	// ARN is the attachment's, by which it is reported.
	ARN string
	// Kind says what it is.
	Kind AttachmentKind
	// TaskARN is the task that it is for; "" is the host itself.
	TaskARN string `json:",omitempty"`
	// MAC is the hardware address of a network interface; TrunkMAC that of its
	// trunk, if it is a branch.
	MAC      string `json:",omitempty"`
	TrunkMAC string `json:",omitempty"`
	// VolumeID and DeviceName find a volume.
	VolumeID   string `json:",omitempty"`
	DeviceName string `json:",omitempty"`
	// ExpiresAt is when ECS stops waiting.
	ExpiresAt time.Time
}

// AttachmentKind is what an Attachment is.
type AttachmentKind string

// The kinds of attachments.
const (
	// AttachmentTaskENI is the network interface of an awsvpc task.
	AttachmentTaskENI AttachmentKind = "task-eni"
	// AttachmentInstanceENI is one of the host, the trunk.
	AttachmentInstanceENI AttachmentKind = "instance-eni"
	// AttachmentEBS is an EBS volume of a task.
	AttachmentEBS AttachmentKind = "ebs"
)

// Device is what tells one attachment of its kind from another on the host.
func (a *Attachment) Device() string {
	if a.Kind == AttachmentEBS {
		return a.VolumeID
	}
	return a.MAC
}

// OfTask says that the attachment is reported as a change of its task, and not
// as one of the host (§6.5: volumes and the host's interfaces).
func (a *Attachment) OfTask() bool { return a.Kind == AttachmentTaskENI }

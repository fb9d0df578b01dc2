package acs

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func missing(path string) error { return &FieldError{path, "is missing"} }

// Validate says whether the payload can be handled at all; its tasks are
// validated one by one with Task.Validate.
func (m *PayloadMessage) Validate() error {
	return validateIDs(m.MessageID, m.ClusterARN, m.ContainerInstanceARN)
}

// Validate says whether the manifest can be handled.
func (m *TaskManifestMessage) Validate() error {
	return validateIDs(m.MessageID, m.ClusterARN, m.ContainerInstanceARN)
}

func validateIDs(message, cluster, instance string) error {
	switch {
	case message == "":
		return missing("messageId")
	case cluster == "":
		return missing("clusterArn")
	case instance == "":
		return missing("containerInstanceArn")
	}
	return nil
}

// Validate says whether the task's members have values that mean something; the
// error is a *FieldError whose path begins with path ("tasks[0]"). What the
// values mean together is not checked here.
func (t *Task) Validate(path string) error {
	if t.Malformed != nil {
		return t.Malformed
	}
	if t.ARN == "" {
		return missing(join(path, "arn"))
	}
	switch t.DesiredStatus {
	case DesiredRunning, DesiredStopped, "NONE", "CREATED", "MANIFEST_PULLED":
	default:
		return &FieldError{join(path, "desiredStatus"), fmt.Sprintf("%q is not a status", t.DesiredStatus)}
	}
	for i, v := range t.Volumes {
		if err := v.validate(at(join(path, "volumes"), i)); err != nil {
			return err
		}
	}
	seen := make(map[string]bool, len(t.Containers))
	for i, c := range t.Containers {
		cpath := at(join(path, "containers"), i)
		if c == nil {
			return &FieldError{cpath, "is null"}
		}
		if err := c.validate(cpath); err != nil {
			return err
		}
		if seen[c.Name] {
			return &FieldError{cpath + ".name", fmt.Sprintf("%q is the name of two containers", c.Name)}
		}
		seen[c.Name] = true
	}
	return nil
}

func (v *Volume) validate(path string) error {
	switch v.Type {
	case "", VolumeHost, VolumeDocker, VolumeEFS, VolumeFSx, VolumeS3Files, VolumeAttachment:
	case VolumeEBS, VolumeLogDriver:
		return &FieldError{path + ".type", fmt.Sprintf("%q cannot be used as the type of a volume", v.Type)}
	default:
		return &FieldError{path + ".type", fmt.Sprintf("%q is not a type of volume", v.Type)}
	}
	if v.Name == "" {
		return missing(path + ".name")
	}
	if v.Type == VolumeDocker && v.Docker != nil {
		if s := v.Docker.Scope; s != "" && s != "task" && s != "shared" {
			return &FieldError{path + ".dockerVolumeConfiguration.scope", fmt.Sprintf("%q is neither task nor shared", s)}
		}
	}
	return nil
}

func (c *Container) validate(path string) error {
	if c.Name == "" {
		return missing(path + ".name")
	}
	if c.Image == "" {
		return missing(path + ".image")
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"cpu", c.CPU}, {"memory", c.Memory}, {"startTimeout", c.StartTimeout}, {"stopTimeout", c.StopTimeout}} {
		if n.value < 0 {
			return &FieldError{path + "." + n.name, fmt.Sprintf("%d is negative", n.value)}
		}
	}
	if _, err := ParseOverrides(c.Overrides); err != nil {
		return &FieldError{path + ".overrides", err.Error()}
	}
	for i, p := range c.PortMappings {
		if err := p.validate(at(path+".portMappings", i)); err != nil {
			return err
		}
	}
	for i, d := range c.DependsOn {
		switch d.Condition {
		case "START", "COMPLETE", "SUCCESS", "HEALTHY":
		default:
			return &FieldError{
				at(path+".dependsOn", i) + ".condition",
				fmt.Sprintf("%q is not START, COMPLETE, SUCCESS or HEALTHY", d.Condition),
			}
		}
	}
	return nil
}

func (p *PortMapping) validate(path string) error {
	switch p.Protocol {
	case "", "tcp", "udp":
	default:
		return &FieldError{path + ".protocol", fmt.Sprintf("%q is neither tcp nor udp", p.Protocol)}
	}
	if p.HostPort < 0 || p.HostPort > 65535 {
		return &FieldError{path + ".hostPort", fmt.Sprintf("%d is not a port", p.HostPort)}
	}
	if p.ContainerPortRange != "" {
		if p.ContainerPort != 0 {
			return &FieldError{path + ".containerPortRange", "excludes containerPort"}
		}
		if _, _, err := ParsePortRange(p.ContainerPortRange); err != nil {
			return &FieldError{path + ".containerPortRange", err.Error()}
		}
		return nil
	}
	if p.ContainerPort < 1 || p.ContainerPort > 65535 {
		return &FieldError{path + ".containerPort", fmt.Sprintf("%d is not a port", p.ContainerPort)}
	}
	return nil
}

// ParsePortRange reads "a-b" with 1 ≤ a ≤ b ≤ 65535.
func ParsePortRange(s string) (first, last uint16, err error) {
	a, b, ok := strings.Cut(s, "-")
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil || lo == 0 || lo > hi {
		return 0, 0, fmt.Errorf("%q is not a range of ports", s)
	}
	return uint16(lo), uint16(hi), nil
}

func validateAttach(message, cluster, instance string, wait int64, enis []ENI) error {
	if err := validateIDs(message, cluster, instance); err != nil {
		return err
	}
	if wait <= 0 {
		return &FieldError{"waitTimeoutMs", fmt.Sprintf("%d is not positive", wait)}
	}
	if len(enis) == 0 {
		return missing("elasticNetworkInterfaces")
	}
	for i := range enis {
		if err := enis[i].Validate(at("elasticNetworkInterfaces", i)); err != nil {
			return err
		}
	}
	return nil
}

// Validate says whether the interface can be used: an IPv4 address and gateway,
// or an IPv6 pair, a MAC address and an id (§4.6). Errors begin with path.
func (e *ENI) Validate(path string) error {
	switch e.InterfaceAssociationProtocol {
	case "", AssociationDefault:
	case AssociationVLAN:
		if e.VLAN == nil || e.VLAN.ID == "" || e.VLAN.TrunkInterfaceMACAddress == "" {
			return missing(join(path, "interfaceVlanProperties"))
		}
	default:
		return &FieldError{
			join(path, "interfaceAssociationProtocol"),
			fmt.Sprintf("%q is not for an EC2 instance", e.InterfaceAssociationProtocol),
		}
	}
	switch {
	case e.MACAddress == "":
		return missing(join(path, "macAddress"))
	case e.EC2ID == "":
		return missing(join(path, "ec2Id"))
	case len(e.IPv4Addresses) > 0:
		return validGateway(join(path, "subnetGatewayIpv4Address"), e.SubnetGatewayIPv4Address)
	case len(e.IPv6Addresses) > 0:
		return validGateway(join(path, "subnetGatewayIpv6Address"), e.SubnetGatewayIPv6Address)
	}
	return missing(join(path, "ipv4Addresses"))
}

func validGateway(path, cidr string) error {
	if _, err := netip.ParsePrefix(cidr); err != nil {
		return &FieldError{path, fmt.Sprintf("%q is not an address with a prefix length", cidr)}
	}
	return nil
}

// Validate says whether the message can be carried out (§4.10).
func (m *ConfirmAttachmentMessage) Validate() error {
	if err := validateIDs(m.MessageID, m.ClusterARN, m.ContainerInstanceARN); err != nil {
		return err
	}
	if m.Attachment == nil {
		return missing("attachment")
	}
	for _, m := range [][2]string{
		{"clusterArn", m.ClusterARN},
		{"containerInstanceArn", m.ContainerInstanceARN},
		{"attachment.attachmentArn", m.Attachment.AttachmentARN},
	} {
		if !strings.HasPrefix(m[1], "arn:") || strings.Count(m[1], ":") < 5 {
			return &FieldError{m[0], fmt.Sprintf("%q is not an ARN", m[1])}
		}
	}
	return m.Attachment.Validate("attachment")
}

// Validate says whether the attachment has the properties of its type.
func (a *Attachment) Validate(path string) error {
	have := make(map[string]string, len(a.Properties))
	for i, p := range a.Properties {
		if p.Name == "" || p.Value == "" {
			return &FieldError{at(join(path, "attachmentProperties"), i), "has an empty name or value"}
		}
		have[p.Name] = p.Value
	}
	var want []string
	switch a.AttachmentType {
	case AttachmentServiceConnect:
		want = []string{"ContainerName", "ServiceConnectConfig"}
	case AttachmentEBS:
		want = []string{"volumeId", "volumeSizeGib", "deviceName", "sourceVolumeHostPath", "volumeName"}
	case AttachmentS3Files:
		want = []string{"volumeId", "volumeName"}
	default:
		return validateLegacyAttachment(path, have)
	}
	for _, name := range want {
		if have[name] == "" {
			return missing(join(path, "attachmentProperties."+name))
		}
	}
	switch fs := have["fileSystem"]; fs {
	case "", "xfs", "ext2", "ext3", "ext4", "ntfs":
		return nil
	default:
		return &FieldError{join(path, "attachmentProperties.fileSystem"), fmt.Sprintf("%q is not a file system", fs)}
	}
}

// validateLegacyAttachment knows the property sets that are headed by
// resourceType.
func validateLegacyAttachment(path string, have map[string]string) error {
	want := []string{"volumeID", "deviceName"}
	switch have["resourceType"] {
	case "EphemeralStorage":
		want = append(want, "resourceID", "volumeSizeInGiB", "requestedSizeInGiB")
	case "ElasticBlockStorage":
	default:
		return &FieldError{join(path, "attachmentProperties.resourceType"), fmt.Sprintf("%q is not a type of resource", have["resourceType"])}
	}
	for _, name := range want {
		if have[name] == "" {
			return missing(join(path, "attachmentProperties."+name))
		}
	}
	return nil
}

package acs

// ENI is an elastic network interface of a task or of the instance.
type ENI struct {
	AttachmentARN                string        `json:"attachmentArn,omitempty"`
	EC2ID                        string        `json:"ec2Id,omitempty"`
	MACAddress                   string        `json:"macAddress,omitempty"`
	IPv4Addresses                []IPv4Address `json:"ipv4Addresses,omitzero"`
	IPv6Addresses                []IPv6Address `json:"ipv6Addresses,omitzero"`
	SubnetGatewayIPv4Address     string        `json:"subnetGatewayIpv4Address,omitempty"`
	SubnetGatewayIPv6Address     string        `json:"subnetGatewayIpv6Address,omitempty"`
	DomainName                   []string      `json:"domainName,omitzero"`
	DomainNameServers            []string      `json:"domainNameServers,omitzero"`
	PrivateDNSName               string        `json:"privateDnsName,omitempty"`
	InterfaceAssociationProtocol string        `json:"interfaceAssociationProtocol,omitempty"`
	VLAN                         *VLAN         `json:"interfaceVlanProperties,omitempty"`
	Name                         string        `json:"name,omitempty"`
	Index                        int           `json:"index,omitempty"`
}

// The values of ENI.InterfaceAssociationProtocol that an EC2 host can get.
const (
	AssociationDefault = "default"
	AssociationVLAN    = "vlan"
)

// IPv4Address is one address of an ENI.
type IPv4Address struct {
	PrivateAddress string `json:"privateAddress,omitempty"`
	Primary        bool   `json:"primary,omitempty"`
}

// IPv6Address is one address of an ENI.
type IPv6Address struct {
	Address string `json:"address,omitempty"`
	Primary bool   `json:"primary,omitempty"`
}

// VLAN says which branch of which trunk interface an ENI is.
type VLAN struct {
	ID                       string `json:"vlanId,omitempty"`
	TrunkInterfaceMACAddress string `json:"trunkInterfaceMacAddress,omitempty"`
}

// Attachment is a Service Connect configuration or a volume.
type Attachment struct {
	AttachmentARN  string     `json:"attachmentArn,omitempty"`
	AttachmentType string     `json:"attachmentType,omitempty"`
	Properties     []Property `json:"attachmentProperties,omitzero"`
}

// The values of Attachment.AttachmentType.
const (
	AttachmentServiceConnect = "serviceconnectdetail"
	AttachmentEBS            = "amazonebs"
	AttachmentS3Files        = "s3files"
)

// Property is a member of an Attachment.
type Property struct {
	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
}

// AttachTaskNetworkInterfacesMessage announces the ENI of an awsvpc task (§4.10).
type AttachTaskNetworkInterfacesMessage struct {
	MessageID                string `json:"messageId,omitempty"`
	ClusterARN               string `json:"clusterArn,omitempty"`
	ContainerInstanceARN     string `json:"containerInstanceArn,omitempty"`
	TaskARN                  string `json:"taskArn,omitempty"`
	TaskClusterARN           string `json:"taskClusterArn,omitempty"`
	ElasticNetworkInterfaces []ENI  `json:"elasticNetworkInterfaces,omitzero"`
	WaitTimeoutMS            int64  `json:"waitTimeoutMs,omitempty"`
	GeneratedAt              int64  `json:"generatedAt,omitempty"`
}

// MessageType is TypeAttachTask.
func (*AttachTaskNetworkInterfacesMessage) MessageType() string { return TypeAttachTask }

// Validate says whether the message can be carried out.
func (m *AttachTaskNetworkInterfacesMessage) Validate() error {
	if m.TaskARN == "" {
		return missing("taskArn")
	}
	return validateAttach(m.MessageID, m.ClusterARN, m.ContainerInstanceARN, m.WaitTimeoutMS, m.ElasticNetworkInterfaces)
}

// AttachInstanceNetworkInterfacesMessage announces an ENI of the instance, the
// trunk.
type AttachInstanceNetworkInterfacesMessage struct {
	MessageID                string `json:"messageId,omitempty"`
	ClusterARN               string `json:"clusterArn,omitempty"`
	ContainerInstanceARN     string `json:"containerInstanceArn,omitempty"`
	ElasticNetworkInterfaces []ENI  `json:"elasticNetworkInterfaces,omitzero"`
	WaitTimeoutMS            int64  `json:"waitTimeoutMs,omitempty"`
	GeneratedAt              int64  `json:"generatedAt,omitempty"`
}

// MessageType is TypeAttachInstance.
func (*AttachInstanceNetworkInterfacesMessage) MessageType() string { return TypeAttachInstance }

// Validate says whether the message can be carried out.
func (m *AttachInstanceNetworkInterfacesMessage) Validate() error {
	return validateAttach(m.MessageID, m.ClusterARN, m.ContainerInstanceARN, m.WaitTimeoutMS, m.ElasticNetworkInterfaces)
}

// ConfirmAttachmentMessage announces a volume.
type ConfirmAttachmentMessage struct {
	MessageID            string      `json:"messageId,omitempty"`
	ClusterARN           string      `json:"clusterArn,omitempty"`
	ContainerInstanceARN string      `json:"containerInstanceArn,omitempty"`
	TaskARN              string      `json:"taskArn,omitempty"`
	TaskClusterARN       string      `json:"taskClusterArn,omitempty"`
	Attachment           *Attachment `json:"attachment,omitempty"`
	WaitTimeoutMS        int64       `json:"waitTimeoutMs,omitempty"`
	GeneratedAt          int64       `json:"generatedAt,omitempty"`
}

// MessageType is TypeConfirmAttachment.
func (*ConfirmAttachmentMessage) MessageType() string { return TypeConfirmAttachment }

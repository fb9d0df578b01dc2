package ecs

// Tag is a label that users put on a cluster, a container instance or a task.
type Tag struct {
	Key   string `json:"key,omitempty"`
	Value string `json:"value"`
}

// KeyValuePair is a name with a value: an environment variable, an attachment
// detail or a proxy property.
type KeyValuePair struct {
	Name  string `json:"name,omitempty"`
	Value string `json:"value"`
}

// Attribute is a capability or property of a container instance. A missing
// value marks a name-only attribute, which is how capabilities are sent.
type Attribute struct {
	Name       string `json:"name"`
	Value      string `json:"value,omitempty"`
	TargetType string `json:"targetType,omitempty"`
	TargetID   string `json:"targetId,omitempty"`
}

// Resource is an amount of something a container instance has to give. Type
// says which of the values is meant; a zero number is left out on the wire, an
// empty but non-nil set is sent as [].
type Resource struct {
	Name           string   `json:"name,omitempty"`
	Type           string   `json:"type,omitempty"`
	DoubleValue    float64  `json:"doubleValue,omitempty"`
	LongValue      int64    `json:"longValue,omitempty"`
	IntegerValue   int      `json:"integerValue,omitempty"`
	StringSetValue []string `json:"stringSetValue,omitzero"`
}

// Attachment is a network interface or volume attached to a task or an
// instance, as describe calls show it.
type Attachment struct {
	ID      string         `json:"id,omitempty"`
	Type    string         `json:"type,omitempty"`
	Status  string         `json:"status,omitempty"`
	Details []KeyValuePair `json:"details,omitzero"`
}

// Failure says why one of several named things could not be served: a call
// may succeed for some and list the others here.
type Failure struct {
	ARN    string `json:"arn,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// NetworkBinding is a published port: either one container port on one host
// port, or two ranges of equal length ("a-b"). There is one entry per bind
// address.
type NetworkBinding struct {
	BindIP             string `json:"bindIP,omitempty"`
	ContainerPort      int    `json:"containerPort,omitempty"`
	HostPort           int    `json:"hostPort,omitempty"`
	Protocol           string `json:"protocol,omitempty"`
	ContainerPortRange string `json:"containerPortRange,omitempty"`
	HostPortRange      string `json:"hostPortRange,omitempty"`
}

// NetworkInterface is the address a container got from an elastic network
// interface.
type NetworkInterface struct {
	AttachmentID       string `json:"attachmentId,omitempty"`
	PrivateIPv4Address string `json:"privateIpv4Address,omitempty"`
	IPv6Address        string `json:"ipv6Address,omitempty"`
}

// CapacityProviderStrategyItem is one weighted choice of a capacity provider.
type CapacityProviderStrategyItem struct {
	CapacityProvider string `json:"capacityProvider"`
	Weight           int    `json:"weight,omitempty"`
	Base             int    `json:"base,omitempty"`
}

// PlatformDevice is a device of the host that tasks may ask for.
type PlatformDevice struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

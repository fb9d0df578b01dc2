package ecs

// Cluster is a cluster as describe-clusters shows it.
type Cluster struct {
	ClusterARN                        string                         `json:"clusterArn,omitempty"`
	ClusterName                       string                         `json:"clusterName,omitempty"`
	Configuration                     *ClusterConfiguration          `json:"configuration,omitempty"`
	Status                            string                         `json:"status,omitempty"`
	RegisteredContainerInstancesCount int                            `json:"registeredContainerInstancesCount"`
	RunningTasksCount                 int                            `json:"runningTasksCount"`
	PendingTasksCount                 int                            `json:"pendingTasksCount"`
	ActiveServicesCount               int                            `json:"activeServicesCount"`
	Statistics                        []KeyValuePair                 `json:"statistics,omitzero"`
	Tags                              []Tag                          `json:"tags,omitzero"`
	Settings                          []ClusterSetting               `json:"settings,omitzero"`
	CapacityProviders                 []string                       `json:"capacityProviders,omitzero"`
	DefaultCapacityProviderStrategy   []CapacityProviderStrategyItem `json:"defaultCapacityProviderStrategy,omitzero"`
	Attachments                       []Attachment                   `json:"attachments,omitzero"`
	AttachmentsStatus                 string                         `json:"attachmentsStatus,omitempty"`
	ServiceConnectDefaults            *ClusterServiceConnectDefaults `json:"serviceConnectDefaults,omitempty"`
}

// ClusterSetting switches a feature of a cluster.
type ClusterSetting struct {
	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
}

// ClusterConfiguration is the execute-command and storage setup of a cluster.
type ClusterConfiguration struct {
	ExecuteCommandConfiguration *ExecuteCommandConfiguration `json:"executeCommandConfiguration,omitempty"`
	ManagedStorageConfiguration *ManagedStorageConfiguration `json:"managedStorageConfiguration,omitempty"`
}

// ExecuteCommandConfiguration says how interactive sessions are encrypted and logged.
type ExecuteCommandConfiguration struct {
	KMSKeyID         string                          `json:"kmsKeyId,omitempty"`
	Logging          string                          `json:"logging,omitempty"`
	LogConfiguration *ExecuteCommandLogConfiguration `json:"logConfiguration,omitempty"`
}

// ExecuteCommandLogConfiguration says where interactive sessions are logged.
type ExecuteCommandLogConfiguration struct {
	CloudWatchLogGroupName      string `json:"cloudWatchLogGroupName,omitempty"`
	CloudWatchEncryptionEnabled bool   `json:"cloudWatchEncryptionEnabled,omitempty"`
	S3BucketName                string `json:"s3BucketName,omitempty"`
	S3EncryptionEnabled         bool   `json:"s3EncryptionEnabled,omitempty"`
	S3KeyPrefix                 string `json:"s3KeyPrefix,omitempty"`
}

// ManagedStorageConfiguration names the keys for managed storage.
type ManagedStorageConfiguration struct {
	KMSKeyID                        string `json:"kmsKeyId,omitempty"`
	FargateEphemeralStorageKMSKeyID string `json:"fargateEphemeralStorageKmsKeyId,omitempty"`
}

// ClusterServiceConnectDefaultsRequest asks for a default Service Connect namespace.
type ClusterServiceConnectDefaultsRequest struct {
	Namespace string `json:"namespace"`
}

// ClusterServiceConnectDefaults is the default Service Connect namespace.
type ClusterServiceConnectDefaults struct {
	Namespace string `json:"namespace,omitempty"`
}

// CreateClusterRequest makes a cluster; an empty name means "default". Creating
// a cluster that exists answers with the one there is.
type CreateClusterRequest struct {
	ClusterName                     string                                `json:"clusterName,omitempty"`
	Tags                            []Tag                                 `json:"tags,omitzero"`
	Settings                        []ClusterSetting                      `json:"settings,omitzero"`
	Configuration                   *ClusterConfiguration                 `json:"configuration,omitempty"`
	CapacityProviders               []string                              `json:"capacityProviders,omitzero"`
	DefaultCapacityProviderStrategy []CapacityProviderStrategyItem        `json:"defaultCapacityProviderStrategy,omitzero"`
	ServiceConnectDefaults          *ClusterServiceConnectDefaultsRequest `json:"serviceConnectDefaults,omitempty"`
}

// CreateClusterResponse answers CreateCluster.
type CreateClusterResponse struct {
	Cluster *Cluster `json:"cluster,omitempty"`
}

// DescribeClustersRequest names clusters by name or ARN; none means "default".
type DescribeClustersRequest struct {
	Clusters []string `json:"clusters,omitzero"`
	Include  []string `json:"include,omitzero"`
}

// DescribeClustersResponse answers DescribeClusters.
type DescribeClustersResponse struct {
	Clusters []Cluster `json:"clusters"`
	Failures []Failure `json:"failures"`
}

// ListClustersRequest pages through all clusters.
type ListClustersRequest struct {
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults int    `json:"maxResults,omitempty"`
}

// ListClustersResponse answers ListClusters.
type ListClustersResponse struct {
	ClusterARNs []string `json:"clusterArns"`
	NextToken   string   `json:"nextToken,omitempty"`
}

// DeleteClusterRequest deletes an empty cluster.
type DeleteClusterRequest struct {
	Cluster string `json:"cluster"`
}

// DeleteClusterResponse answers DeleteCluster.
type DeleteClusterResponse struct {
	Cluster *Cluster `json:"cluster,omitempty"`
}

package ecs

// Volume is a named volume of a task definition, of exactly one kind; with none
// set it is an empty directory that lives as long as the task.
type Volume struct {
	Name                                    string                                   `json:"name,omitempty"`
	Host                                    *HostVolumeProperties                    `json:"host,omitempty"`
	DockerVolumeConfiguration               *DockerVolumeConfiguration               `json:"dockerVolumeConfiguration,omitempty"`
	EFSVolumeConfiguration                  *EFSVolumeConfiguration                  `json:"efsVolumeConfiguration,omitempty"`
	S3FilesVolumeConfiguration              *S3FilesVolumeConfiguration              `json:"s3filesVolumeConfiguration,omitempty"`
	FSxWindowsFileServerVolumeConfiguration *FSxWindowsFileServerVolumeConfiguration `json:"fsxWindowsFileServerVolumeConfiguration,omitempty"`
	ConfiguredAtLaunch                      bool                                     `json:"configuredAtLaunch,omitempty"`
}

// HostVolumeProperties is a path of the host; empty means a fresh directory.
type HostVolumeProperties struct {
	SourcePath string `json:"sourcePath,omitempty"`
}

// DockerVolumeConfiguration is a volume made by a volume driver.
type DockerVolumeConfiguration struct {
	Scope         string            `json:"scope,omitempty"`
	Autoprovision bool              `json:"autoprovision,omitempty"`
	Driver        string            `json:"driver,omitempty"`
	DriverOpts    map[string]string `json:"driverOpts,omitzero"`
	Labels        map[string]string `json:"labels,omitzero"`
}

// EFSVolumeConfiguration is an Elastic File System volume.
type EFSVolumeConfiguration struct {
	FileSystemID          string                  `json:"fileSystemId"`
	RootDirectory         string                  `json:"rootDirectory,omitempty"`
	TransitEncryption     string                  `json:"transitEncryption,omitempty"`
	TransitEncryptionPort int                     `json:"transitEncryptionPort,omitempty"`
	AuthorizationConfig   *EFSAuthorizationConfig `json:"authorizationConfig,omitempty"`
}

// EFSAuthorizationConfig says how a mount of EFS is authorised.
type EFSAuthorizationConfig struct {
	AccessPointID string `json:"accessPointId,omitempty"`
	IAM           string `json:"iam,omitempty"`
}

// S3FilesVolumeConfiguration is an S3 file system volume.
type S3FilesVolumeConfiguration struct {
	FileSystemARN         string `json:"fileSystemArn"`
	RootDirectory         string `json:"rootDirectory,omitempty"`
	TransitEncryptionPort int    `json:"transitEncryptionPort,omitempty"`
	AccessPointARN        string `json:"accessPointArn,omitempty"`
}

// FSxWindowsFileServerVolumeConfiguration is a Windows file share; it is kept so
// that nothing registered is lost.
type FSxWindowsFileServerVolumeConfiguration struct {
	FileSystemID        string                                   `json:"fileSystemId"`
	RootDirectory       string                                   `json:"rootDirectory"`
	AuthorizationConfig *FSxWindowsFileServerAuthorizationConfig `json:"authorizationConfig,omitempty"`
}

// FSxWindowsFileServerAuthorizationConfig is how a Windows file share is
// authorised.
type FSxWindowsFileServerAuthorizationConfig struct {
	CredentialsParameter string `json:"credentialsParameter"`
	Domain               string `json:"domain"`
}

// TaskVolumeConfiguration configures a volume at launch.
type TaskVolumeConfiguration struct {
	Name             string                             `json:"name"`
	ManagedEBSVolume *TaskManagedEBSVolumeConfiguration `json:"managedEBSVolume,omitempty"`
}

// TaskManagedEBSVolumeConfiguration asks for an EBS volume for the task.
type TaskManagedEBSVolumeConfiguration struct {
	Encrypted                bool                                   `json:"encrypted,omitempty"`
	KMSKeyID                 string                                 `json:"kmsKeyId,omitempty"`
	VolumeType               string                                 `json:"volumeType,omitempty"`
	SizeInGiB                int                                    `json:"sizeInGiB,omitempty"`
	SnapshotID               string                                 `json:"snapshotId,omitempty"`
	VolumeInitializationRate int                                    `json:"volumeInitializationRate,omitempty"`
	Iops                     int                                    `json:"iops,omitempty"`
	Throughput               int                                    `json:"throughput,omitempty"`
	TagSpecifications        []EBSTagSpecification                  `json:"tagSpecifications,omitzero"`
	RoleARN                  string                                 `json:"roleArn"`
	TerminationPolicy        *TaskManagedEBSVolumeTerminationPolicy `json:"terminationPolicy,omitempty"`
	FilesystemType           string                                 `json:"filesystemType,omitempty"`
}

// TaskManagedEBSVolumeTerminationPolicy says whether the volume ends with the
// task.
type TaskManagedEBSVolumeTerminationPolicy struct {
	DeleteOnTermination bool `json:"deleteOnTermination"`
}

// EBSTagSpecification tags a managed EBS volume.
type EBSTagSpecification struct {
	ResourceType  string `json:"resourceType"`
	Tags          []Tag  `json:"tags,omitzero"`
	PropagateTags string `json:"propagateTags,omitempty"`
}

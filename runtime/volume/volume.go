// Package volume holds the words for volumes of tasks: what is wanted, and where
// it is on the host. runtime/volumes makes it true.
package volume

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"path/filepath"
)

// Volume is a volume that is wanted.
type Volume struct {
	// Name is unique on the host and becomes a directory: letters, digits, "_", "."
	// and "-".
	Name string
	// Shared volumes outlive their users. Autoprovision makes one that does not
	// exist.
	Shared, Autoprovision bool
	// Driver is "local" or "amazon-ecs-volume-plugin"; "" is "local".
	Driver string
	// Options are the driver's: type, device and o are mounted. Labels are kept.
	Options, Labels map[string]string
	// EFS, if set, is the file system to mount. Volumes with the same one share the
	// mount, whatever their names.
	EFS *EFS
}

// Place is where a volume is on the host.
type Place struct {
	// Path is what containers bind.
	Path string
	// CopyUp says that a container may bring the image's content into it.
	CopyUp bool
}

// The drivers of volumes.
const (
	DriverLocal = "local"
	// DriverECS is the plugin that mounts EFS beside Docker; here it is built in.
	DriverECS = "amazon-ecs-volume-plugin"
)

// EFS is an EFS file system and how it is mounted, spec/task-engine.md §5.5.
type EFS struct {
	FileSystemID, RootDirectory, AccessPointID string
	// TLS encrypts in transit, on TLSPort if that is not 0. IAM signs with the role
	// whose credentials are at CredentialsURI, relative to the credentials endpoint.
	TLS, IAM       bool
	TLSPort        int
	CredentialsURI string
	// NetNS is the path of the network namespace from which the server is reached;
	// "" is the host's.
	NetNS string
}

// DefaultEBSDir is where EBS volumes of tasks are mounted.
const DefaultEBSDir = "/mnt/ecs/ebs"

// EBS is an EBS volume attached for a task, spec/task-engine.md §5.6.
type EBS struct {
	// VolumeID finds the device by its serial number; DeviceName is EC2's name for
	// it, which counts where devices have no serial number.
	VolumeID, DeviceName string
	// FileSystem is made on a blank volume; "" is xfs, as with EBS on ECS.
	FileSystem string
	// Directory is the mount point's name below Config.EBSDir.
	Directory string
}

// ErrNotAttached says that the host does not see the volume's device yet.
var ErrNotAttached = errors.New("the volume is not attached to this host")

// GID is the group that owns the content of an EBS volume, so that processes of
// containers may write that are not root: 900000 and the last four bytes of the
// SHA-256 of the host path, modulo 100000.
func (e *EBS) GID() int {
	sum := sha256.Sum256([]byte(filepath.Join(DefaultEBSDir, e.Directory)))
	return 900000 + int(binary.BigEndian.Uint32(sum[len(sum)-4:])%100000)
}

package container

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Spec is everything the runtime must know to create a container. The caller
// owns it and must not change it after the call.
//
// Pointers and nil slices mean "not said": the image's value, or the runtime's
// default, applies.
type Spec struct {
	// ID names the container in the runtime, unique on the host. It is reported
	// to ECS as runtimeId: at most 64 characters of [a-z0-9-].
	ID string
	// Group is the task the container belongs to. Containers of one group share
	// one shim process.
	Group string
	// Holder makes a container that only holds namespaces for others to join. It has
	// no image and no root file system to speak of, runs a minimal init, and ends by
	// SIGTERM; of the rest only Labels, Limits, PID, IPC, NetNS and CgroupParent count.
	Holder bool
	// Image is the reference to create from, and Digest the manifest it was
	// resolved to by Pull ("" = whatever Image names now).
	Image, Digest string
	// Labels are kept with the container and come back in Status.
	Labels map[string]string

	Process Process
	Limits  Limits
	Rights  Rights
	Mounts  []Mount
	// VolumesFrom are containers that exist already, whose images' volumes this one
	// sees too, at the same places.
	VolumesFrom []VolumesFrom
	Devices     []Device
	// GPUs are ids of the host's GPUs that the container gets; "all" is every one.
	GPUs []string
	// Sysctls are set in the container's namespaces.
	Sysctls map[string]string

	// NetNS is the path of the network namespace to join; "" shares the host's.
	NetNS string
	// PID and IPC say which namespaces to join.
	PID, IPC Namespace
	// CgroupParent is the directory (v1: below each controller; v2: below the
	// root) or, with the systemd driver, the slice that holds the container.
	CgroupParent string
	// IO says where the streams go.
	IO IO
}

// Process is what runs as the container's init.
type Process struct {
	// Command and Entrypoint replace the image's when not nil. An Entrypoint
	// given without a Command clears the image's command, as Docker does.
	Command, Entrypoint []string
	// Env entries K=V are added over the image's, in order; the last wins.
	Env []string
	// SecretEnv entries K=V are added last. They never reach a disk: not the
	// runtime's database, not a bundle outside memory. They print as ***.
	SecretEnv SecretEnv `json:"-"`
	// User is "user", "uid", "user:group" or "uid:gid"; names are looked up in
	// the image. "" is the image's.
	User string
	// WorkingDir is absolute; it is made when it does not exist.
	WorkingDir string
	// Hostname and Domainname are set in the container's UTS namespace.
	Hostname, Domainname string
	// Terminal asks for a pseudo terminal.
	Terminal bool
	// Stdin keeps the standard input open, though nobody may write to it, where a
	// process would otherwise read its end at once. It asks for IO.Stdin; a Runtime
	// does as IO says.
	Stdin bool
	// Init runs a minimal init as PID 1 that forwards signals and reaps.
	Init bool
	// StopSignal is a name ("SIGQUIT", "QUIT") or number; "" is the image's, else
	// SIGTERM.
	StopSignal string
}

// Arguments are what the process runs in a container of an image, by Docker's
// rule: its own entry point and command replace the image's, and an entry point
// alone clears the image's command.
func (p *Process) Arguments(image Image) []string {
	entrypoint, command := image.Entrypoint, image.Command
	if p.Entrypoint != nil {
		entrypoint, command = p.Entrypoint, nil
		if len(entrypoint) == 1 && entrypoint[0] == "" {
			entrypoint = nil // Docker's way to say "none"
		}
	}
	if p.Command != nil {
		command = p.Command
	}
	return slices.Concat(entrypoint, command)
}

// SecretEnv are variables K=V whose values must not be seen.
type SecretEnv []string

// Format keeps values out of whatever prints them, for every verb.
func (SecretEnv) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// MarshalText keeps values out of encoders.
func (SecretEnv) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Limits bound what a container may use. Zero means no limit unless a field
// says otherwise.
type Limits struct {
	// CPUShares is the relative weight, 2 to 262144.
	CPUShares uint64
	// CPUQuota per CPUPeriod, both in microseconds, is the hard limit.
	CPUQuota  int64
	CPUPeriod uint64
	CPUSet    string
	// Memory is the hard limit and MemoryReservation the soft one, in bytes.
	Memory, MemoryReservation int64
	// MemorySwap is memory plus swap in bytes; -1 is unlimited swap.
	MemorySwap int64
	// Swappiness is 0 to 100; nil leaves the kernel's.
	Swappiness *uint64
	// Pids is the largest number of processes.
	Pids int64
	// Ulimits are the process's resource limits, by lower-case name ("nofile").
	Ulimits []Ulimit
	// OOMScoreAdj is -1000 to 1000; nil leaves the default.
	OOMScoreAdj *int
	// DisableOOMKiller keeps the kernel from killing inside the cgroup (v1 only).
	DisableOOMKiller bool
	// ShmSize is the size of /dev/shm in bytes; zero is 64 MiB.
	ShmSize int64
}

// Ulimit is one resource limit; -1 is unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Rights are the privileges of the container.
type Rights struct {
	// CapAdd and CapDrop change the default set; names with or without CAP_,
	// "ALL" for every one.
	CapAdd, CapDrop []string
	// Privileged gives every capability and device and no confinement.
	Privileged bool
	// ReadonlyRootfs mounts the root file system read-only.
	ReadonlyRootfs bool
	// NoNewPrivileges forbids gaining privileges by exec.
	NoNewPrivileges bool
	// Seccomp is "" for the default profile, "unconfined", or a profile in JSON.
	Seccomp string
	// AppArmor is "" for the host's default, "unconfined", or a profile name.
	AppArmor string
	// SELinux are the label options ("user:USER", "type:TYPE", "disable").
	SELinux []string
	// GroupAdd are supplementary groups, by name or number.
	GroupAdd []string
	// Cgroupns is "host" or "private"; "" is the host's default: private on cgroup
	// v2.
	Cgroupns string
	// Userns, when "host", keeps the host's user namespace; "" is the default.
	Userns string
}

// Mount is a file system inside the container.
type Mount struct {
	// Type is "bind" or a file system type such as "tmpfs".
	Type string
	// Source is the path on the host for a bind mount. It is made as an empty
	// directory when CreateSource is set and it does not exist.
	Source       string
	CreateSource bool
	// Destination is the absolute path in the container.
	Destination string
	// Options are mount options ("ro", "rshared", "size=64m").
	Options []string
	// CopyUp fills an empty Source with the image's content at Destination.
	CopyUp bool
}

// VolumesFrom takes the volumes of the image of the container Of.
type VolumesFrom struct {
	Of       string
	ReadOnly bool
}

// Device is a device node of the host given to the container.
type Device struct {
	HostPath, ContainerPath string
	// Permissions is a subset of "rwm"; "" is all of them.
	Permissions string
}

// Namespace says which namespace of a kind a container uses.
type Namespace struct {
	// Mode is "" for a private one, "host", "container" (that of the container
	// Of), "none" (IPC only: private without /dev/shm) or "shareable".
	Mode string
	// Of is the ID of the container whose namespace is joined.
	Of string
}

// IO names the pipes that the container's streams are connected to. The paths
// are FIFOs that somebody else made and reads; "" is /dev/null. With a
// terminal, only Stdin and Stdout are used.
type IO struct {
	Stdin, Stdout, Stderr string
}

// PullRequest asks for an image.
type PullRequest struct {
	// Ref is the image reference as the task definition has it; a missing tag
	// means latest. A digest in it pins the image.
	Ref string
	// Digest is the manifest that Ref was found to mean before; the registry is
	// not asked again what it means now. "" asks.
	Digest string
	// Policy says when the registry is asked.
	Policy PullPolicy
	// Auth gives the credentials for the registry of Ref, and is called only when
	// the registry is asked; nil, or a nil answer, is anonymous. An error of it is
	// the pull's.
	Auth func(ctx context.Context) (*Auth, error)
	// InactivityTimeout ends a pull that moves no byte for so long; zero is one
	// minute.
	InactivityTimeout time.Duration
	// ResolveTimeout bounds the question which digest Ref has; zero is one
	// minute.
	ResolveTimeout time.Duration
	// MakeRoom, if set, is called before an image is fetched for which too little of
	// the disk is free: so many bytes are to be. If they are not after it, the pull
	// is refused.
	MakeRoom func(ctx context.Context, bytes int64)
}

// PullPolicy is one of the behaviours of ECS_IMAGE_PULL_BEHAVIOR.
type PullPolicy string

// The pull policies, spec/task-engine.md §7.1.
const (
	PullDefault      PullPolicy = "default"
	PullAlways       PullPolicy = "always"
	PullOnce         PullPolicy = "once"
	PullPreferCached PullPolicy = "prefer-cached"
	// PullNever is no setting: what is on the host, or ErrNotFound.
	PullNever PullPolicy = "never"
)

// Auth are registry credentials. They print as ***.
type Auth struct {
	Username, Password string
}

// String keeps the credentials out of logs.
func (Auth) String() string { return "***" }

// GoString keeps the credentials out of %#v.
func (Auth) GoString() string { return "***" }

// Image is an image that is on the host, unpacked and ready to create from.
type Image struct {
	// Ref is the reference asked for, normalised.
	Ref string
	// Digest is what Ref resolved to: the index's digest for a multi-platform
	// image. FromRegistry says whether the registry was asked for it, now, and
	// Known that it is the registry's, asked now or by an earlier pull.
	Digest              string
	FromRegistry, Known bool
	// ConfigDigest is the image id (the digest of the image's configuration).
	ConfigDigest string
	// Size is the compressed size in bytes on this host.
	Size int64
	// StopSignal and Env are the image's own, and so are Entrypoint and Command.
	StopSignal          string
	Env                 []string
	Entrypoint, Command []string
	// Healthcheck is the image's HEALTHCHECK, nil when it has none.
	Healthcheck *Healthcheck
	// Shell is what the image's shell forms are run by; nil is /bin/sh -c.
	Shell []string
	// Labels are the image configuration's.
	Labels map[string]string
	// PulledAt is when the pull ended, UsedAt when a container last used it.
	PulledAt, UsedAt time.Time
}

// ImageRecord is an image with all the names that it has on this host.
type ImageRecord struct {
	Image

	// Names are the references, those by digest among them.
	Names []string
	// Pulled says that a pull of ours completed it, rather than somebody else.
	Pulled bool
	// Protected says that somebody has labelled it to be kept.
	Protected bool
}

// Verified is an image all of whose content was compared with its digests.
type Verified struct {
	Ref, Digest string
	// Blobs and Bytes are how much was read, compressed.
	Blobs int
	Bytes int64
}

// Tracked says whether it came or was used through Berth.
func (i *ImageRecord) Tracked() bool { return i.Pulled || !i.UsedAt.IsZero() }

// Stranger is a container beside those of a Runtime, of which it knows only what
// it must to stay out of the way.
type Stranger struct {
	ID string
	// Image is the reference that it was made from, "" when that is not said.
	Image   string
	Running bool
	// EndedAt is when it ended, or was last changed if it never ran; zero while it
	// runs.
	EndedAt time.Time
}

// Healthcheck is Docker's: Test is ["CMD", …], ["CMD-SHELL", "…"] or ["NONE"].
type Healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// Progress is a pull's state, sent whenever it changes, at most some times a
// second.
type Progress struct {
	Ref string
	// Stage is "resolving", "fetching", "unpacking" or "done".
	Stage string
	// Digest is known from the end of resolving on.
	Digest string
	// Fetched of Total bytes; Total is 0 until known.
	Fetched, Total int64
	// Layers are the parts under way, in the manifest's order.
	Layers []LayerProgress
}

// LayerProgress is one blob's part of a Progress.
type LayerProgress struct {
	Digest         string
	Fetched, Total int64
}

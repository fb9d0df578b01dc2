package ctrd

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// ociVersion is the version of the OCI runtime specification that we write. We
// use nothing newer, and crun 1.8 of Debian 12 refuses newer ones.
const ociVersion = "1.0.2"

// specInput is what an OCI spec is made of. Making one has no side effects; it
// only reads device nodes of the host.
type specInput struct {
	container.Spec

	image    imageConfig
	accounts accounts
	host     host
	driver   CgroupDriver
	// init is the command that runs as PID 1, when the container wants one.
	init []string
	// hostname is the host's.
	hostname string
	// apparmor is the profile for containers that name none.
	apparmor string
	// shm is where the /dev/shm of a container is that others may join.
	shm func(id string) string
}

// initPath is where the init binary appears in the container.
const initPath = "/sbin/berth-init"

// ociSpec makes the OCI spec of a container, with Docker's semantics
// (spec/task-engine.md §5.1–5.4).
func ociSpec(in specInput) (*specs.Spec, error) {
	if err := sensible(in); err != nil {
		return nil, err
	}
	process, err := ociProcess(in)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     ociVersion,
		Root:        &specs.Root{Path: "rootfs", Readonly: in.Rights.ReadonlyRootfs},
		Process:     process,
		Hostname:    hostname(in),
		Annotations: map[string]string{groupAnnotation: group(in.Spec)},
		Linux: &specs.Linux{
			CgroupsPath: cgroupsPath(in),
			Namespaces:  namespacesOf(in),
			Sysctl:      maps.Clone(in.Sysctls),
			Resources:   resources(in),
		},
	}
	if in.Process.Domainname != "" {
		// A field of its own is newer than the version we write; Docker sets the
		// sysctl too.
		if s.Linux.Sysctl == nil {
			s.Linux.Sysctl = make(map[string]string)
		}
		s.Linux.Sysctl["kernel.domainname"] = in.Process.Domainname
	}
	if err := devices(s, in); err != nil {
		return nil, err
	}
	if err := mounts(s, in); err != nil {
		return nil, err
	}
	if err := confine(s, in); err != nil {
		return nil, err
	}
	return s, nil
}

// group is the shim that the container shares.
func group(s container.Spec) string {
	if s.Group == "" {
		return s.ID
	}
	return s.Group
}

func hostname(in specInput) string {
	switch {
	case in.Process.Hostname != "":
		return in.Process.Hostname
	case in.NetNS == "":
		return in.hostname // as Docker does in host mode
	case len(in.ID) > 12:
		return in.ID[:12]
	}
	return in.ID
}

// cgroupsPath is where the container's cgroup goes: a path, or for systemd
// "slice:prefix:name".
func cgroupsPath(in specInput) string {
	if in.driver == Systemd {
		slice := in.CgroupParent
		if slice == "" {
			slice = "system.slice"
		}
		return slice + ":berth:" + in.ID
	}
	parent := in.CgroupParent
	if parent == "" {
		parent = "/berth"
	}
	return filepath.Join("/", parent, in.ID)
}

// namespacesOf leaves out the path of another container's namespace: it is
// known at the start only (joinNamespaces).
func namespacesOf(in specInput) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
	if in.PID.Mode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if in.IPC.Mode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if in.NetNS != "" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.NetNS})
	}
	if cgroupNamespace(in) {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

// cgroupNamespace says whether the container sees its own cgroup as the root: what
// was asked for, else on cgroup v2 alone, privileged or not, as with Docker. So a
// program that looks for its limits finds them.
func cgroupNamespace(in specInput) bool {
	switch in.Rights.Cgroupns {
	case "host":
		return false
	case "private":
		return true
	}
	return in.host.unified
}

// joinNamespaces writes the paths of the namespaces of other containers.
func joinNamespaces(s *specs.Spec, paths map[specs.LinuxNamespaceType]string) {
	for i, ns := range s.Linux.Namespaces {
		if path, ok := paths[ns.Type]; ok {
			s.Linux.Namespaces[i].Path = path
		}
	}
}

// maskedPaths and readonlyPaths are Docker's.
//
//nolint:gochecknoglobals // immutable tables
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// confine sets what keeps the container in: masked paths, seccomp, AppArmor,
// SELinux.
func confine(s *specs.Spec, in specInput) error {
	s.Process.ApparmorProfile = apparmorProfile(in)
	s.Process.SelinuxLabel, s.Linux.MountLabel = selinuxLabels(in)
	if in.Rights.Privileged {
		return nil
	}
	s.Linux.MaskedPaths = slices.Clone(maskedPaths)
	s.Linux.ReadonlyPaths = slices.Clone(readonlyPaths)
	if in.PID.Mode == "host" {
		// The host's processes are to be seen; what is masked for privacy of the
		// container's own proc is not.
		s.Linux.ReadonlyPaths = slices.DeleteFunc(s.Linux.ReadonlyPaths, func(p string) bool { return p == "/proc/sysrq-trigger" })
	}
	switch in.Rights.Seccomp {
	case "unconfined":
	case "":
		s.Linux.Seccomp = defaultSeccomp(s, in.host)
	default:
		profile, err := seccompProfile(in.Rights.Seccomp, s)
		if err != nil {
			return container.Errorf(container.KindCreate, "invalid seccomp profile: %w", err)
		}
		s.Linux.Seccomp = profile
	}
	return nil
}

// defaultSeccomp is Docker's profile. runc compiles it for each container, for
// each architecture in it; with all three that is nearly half of the CPU time it
// needs. What this kernel cannot run is left out.
func defaultSeccomp(s *specs.Spec, h host) *specs.LinuxSeccomp {
	profile := seccomp.DefaultProfile(s)
	if h.noX32 {
		profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	}
	return profile
}

func apparmorProfile(in specInput) string {
	switch {
	case !in.host.apparmor, in.Rights.AppArmor == "unconfined":
		return ""
	case in.Rights.AppArmor == apparmorDocker:
		return in.apparmor // ours is the same; Docker's is loaded by Docker
	case in.Rights.AppArmor != "":
		return in.Rights.AppArmor
	case in.Rights.Privileged:
		return ""
	}
	return in.apparmor
}

// selinuxLabels makes the labels of process and mounts from the container's
// options over the policy's container type. Without options, and where SELinux
// is not in force, there are none.
func selinuxLabels(in specInput) (process, mount string) {
	if !in.host.selinux || in.Rights.Privileged || len(in.Rights.SELinux) == 0 || slices.Contains(in.Rights.SELinux, "disable") {
		return "", ""
	}
	parts := map[string]string{"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
	for _, option := range in.Rights.SELinux {
		if key, value, ok := strings.Cut(option, ":"); ok && parts[key] != "" {
			parts[key] = value
		}
	}
	process = strings.Join([]string{parts["user"], parts["role"], parts["type"], parts["level"]}, ":")
	mount = strings.Join([]string{parts["user"], "object_r", "container_file_t", parts["level"]}, ":")
	return process, mount
}

// hostHostname is the host's own name, "localhost" when it has none.
func hostHostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

// invalid is an error of the container's definition.
func invalid(format string, args ...any) error {
	return &container.Error{Kind: container.KindCreate, Err: fmt.Errorf(format, args...)}
}

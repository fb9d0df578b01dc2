package acs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/container"
)

// cpuPeriod is the period that a limit given as a number of CPUs is cut into.
const cpuPeriod = 100_000

// spec is what to create, as far as the payload says.
func (b *builder) spec(out *task.Container, _ *wire.Container, docs documents, path string) error {
	cfg, host := &docs.config, &docs.host
	s := container.Spec{
		Image:  cfg.Image,
		Labels: b.labels(out.Name, cfg.Labels),
		Process: container.Process{
			Command: cfg.Cmd, Entrypoint: cfg.Entrypoint, Env: cfg.Env,
			User: cfg.User, WorkingDir: cfg.WorkingDir,
			Hostname: cfg.Hostname, Domainname: cfg.Domainname,
			Terminal: cfg.Tty, Stdin: cfg.OpenStdin, Init: host.Init != nil && *host.Init,
			StopSignal: cfg.StopSignal,
		},
		Sysctls: host.Sysctls,
	}
	if mode := b.definition.Network; cfg.NetworkDisabled && mode != task.NetworkBridge && mode != task.NetworkNone {
		return &UnsupportedError{path + ".dockerConfig.config.NetworkDisabled", "a container without the network of its task in network mode " + string(mode)}
	}
	out.NetworkDisabled = cfg.NetworkDisabled
	hpath := path + ".dockerConfig.hostConfig"
	if host.Privileged && b.PrivilegedDisabled {
		return field(hpath+".Privileged", "privileged containers are disabled on this host (ECS_DISABLE_PRIVILEGED)")
	}
	switch host.Runtime {
	case "", "runc", "io.containerd.runc.v2":
	default:
		return &UnsupportedError{hpath + ".Runtime", "the runtime " + host.Runtime}
	}
	s.Rights = container.Rights{
		CapAdd: host.CapAdd, CapDrop: host.CapDrop, Privileged: host.Privileged,
		ReadonlyRootfs: host.ReadonlyRootfs, GroupAdd: host.GroupAdd, Userns: host.UsernsMode, Cgroupns: host.CgroupnsMode,
	}
	if err := security(&s.Rights, host.SecurityOpt, hpath); err != nil {
		return err
	}
	var err error
	if s.Limits, err = limits(host, hpath); err != nil {
		return err
	}
	if s.Mounts, err = mounts(host, hpath); err != nil {
		return err
	}
	for i, d := range host.Devices {
		if d.PathOnHost == "" {
			return field(fmt.Sprintf("%s.Devices[%d].PathOnHost", hpath, i), "is missing")
		}
		inside := d.PathInContainer
		if inside == "" {
			inside = d.PathOnHost
		}
		s.Devices = append(s.Devices, container.Device{
			HostPath: d.PathOnHost, ContainerPath: inside, Permissions: d.CgroupPermissions,
		})
	}
	if s.PID.Mode, err = b.namespace(b.definition.PID, host.PIDMode, hpath+".PidMode"); err != nil {
		return err
	}
	if s.IPC.Mode, err = b.namespace(b.definition.IPC, host.IPCMode, hpath+".IpcMode"); err != nil {
		return err
	}
	out.Spec = s
	return nil
}

// labels are the container's own and, over them, the agent's.
func (b *builder) labels(name string, own map[string]string) map[string]string {
	labels := make(map[string]string, len(own)+5)
	maps.Copy(labels, own)
	const prefix = "com.amazonaws.ecs."
	labels[prefix+"task-arn"] = b.task.ARN
	labels[prefix+"container-name"] = name
	labels[prefix+"task-definition-family"] = b.task.Family
	labels[prefix+"task-definition-version"] = b.task.Version
	labels[prefix+"cluster"] = b.cluster
	return labels
}

// namespace is the task's mode, or else what the container's document says. What
// the task's containers share is known to the engine alone.
func (b *builder) namespace(ofTask, ofContainer, path string) (string, error) {
	if ofTask == "task" {
		return "", nil
	}
	if ofTask != "" {
		return ofTask, nil
	}
	switch ofContainer {
	case "", "private":
		return "", nil
	case "host", "none", "shareable":
		return ofContainer, nil
	}
	return "", &UnsupportedError{path, "the mode " + ofContainer}
}

// limits are what the container may use. As with Docker, a memory limit without
// one for swap allows as much swap again.
func limits(host *wire.HostConfig, path string) (container.Limits, error) {
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"CpuShares", host.CPUShares},
		{"Memory", host.Memory},
		{"MemoryReservation", host.MemoryReservation},
		{"ShmSize", host.ShmSize},
		{"CpuPeriod", host.CPUPeriod},
		{"NanoCpus", host.NanoCPUs},
	} {
		if n.value < 0 {
			return container.Limits{}, field(path+"."+n.name, "%d is negative", n.value)
		}
	}
	l := container.Limits{
		CPUShares: uint64(min(max(host.CPUShares, minShares), maxShares)),
		CPUQuota:  max(host.CPUQuota, 0), CPUPeriod: uint64(host.CPUPeriod), CPUSet: host.CpusetCpus,
		Memory: host.Memory, MemoryReservation: host.MemoryReservation, MemorySwap: host.MemorySwap,
		ShmSize:          host.ShmSize,
		DisableOOMKiller: host.OOMKillDisable != nil && *host.OOMKillDisable,
	}
	if l.Memory > 0 && l.MemorySwap == 0 {
		l.MemorySwap = 2 * l.Memory
	}
	if host.NanoCPUs > 0 {
		l.CPUPeriod, l.CPUQuota = cpuPeriod, host.NanoCPUs/(1_000_000_000/cpuPeriod)
	}
	if v := host.MemorySwappiness; v != nil && *v >= 0 {
		if *v > 100 {
			return container.Limits{}, field(path+".MemorySwappiness", "%d is more than 100", *v)
		}
		swappiness := uint64(*v)
		l.Swappiness = &swappiness
	}
	if host.OOMScoreAdj != 0 {
		l.OOMScoreAdj = &host.OOMScoreAdj
	}
	if host.PidsLimit != nil {
		l.Pids = max(*host.PidsLimit, 0)
	}
	for i, u := range host.Ulimits {
		if u.Name == "" {
			return container.Limits{}, field(fmt.Sprintf("%s.Ulimits[%d].Name", path, i), "is missing")
		}
		if u.Hard >= 0 && (u.Soft < 0 || u.Soft > u.Hard) {
			return container.Limits{}, field(fmt.Sprintf("%s.Ulimits[%d].Soft", path, i), "%d is more than the hard limit %d", u.Soft, u.Hard)
		}
		l.Ulimits = append(l.Ulimits, container.Ulimit{Name: strings.ToLower(u.Name), Soft: u.Soft, Hard: u.Hard})
	}
	return l, nil
}

// security reads Docker's security options: "name", "name=value" or, as older
// clients wrote it, "name:value".
func security(r *container.Rights, options []string, path string) error {
	for i, option := range options {
		at := fmt.Sprintf("%s.SecurityOpt[%d]", path, i)
		name, value, found := strings.Cut(option, "=")
		if !found {
			name, value, found = strings.Cut(option, ":")
		}
		switch name {
		case "no-new-privileges":
			on, err := strconv.ParseBool(value)
			if found && err != nil {
				return field(at, "%q is neither true nor false", value)
			}
			r.NoNewPrivileges = !found || on
		case "seccomp":
			if value == "builtin" {
				value = ""
			}
			if value != "" && value != "unconfined" && !strings.HasPrefix(strings.TrimSpace(value), "{") {
				return field(at, "%q is neither unconfined nor a profile in JSON", value)
			}
			r.Seccomp = value
		case "apparmor":
			r.AppArmor = value
		case "label":
			r.SELinux = append(r.SELinux, value)
		default:
			return &UnsupportedError{at, fmt.Sprintf("the security option %q", option)}
		}
	}
	return nil
}

// mounts are the binds, the long-form mounts and the tmpfs mounts, the latter in
// the order of their paths.
func mounts(host *wire.HostConfig, path string) ([]container.Mount, error) {
	var out []container.Mount
	for i, bind := range host.Binds {
		m, err := parseBind(bind, fmt.Sprintf("%s.Binds[%d]", path, i))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for i, m := range host.Mounts {
		at := fmt.Sprintf("%s.Mounts[%d]", path, i)
		var options []string
		if m.ReadOnly {
			options = append(options, "ro")
		}
		switch {
		case !strings.HasPrefix(m.Target, "/"):
			return nil, field(at+".Target", "%q is not an absolute path", m.Target)
		case m.Type == "bind" && strings.HasPrefix(m.Source, "/"):
			out = append(out, container.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: append([]string{"rbind", "rprivate"}, options...)})
		case m.Type == "tmpfs":
			out = append(out, container.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: append(tmpfsOptions(""), options...)})
		default:
			return nil, &UnsupportedError{at, fmt.Sprintf("a mount of type %q from %q", m.Type, m.Source)}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(host.Tmpfs)) {
		if !strings.HasPrefix(target, "/") {
			return nil, field(path+".Tmpfs", "%q is not an absolute path", target)
		}
		out = append(out, container.Mount{Type: "tmpfs", Source: "tmpfs", Destination: target, Options: tmpfsOptions(host.Tmpfs[target])})
	}
	return out, nil
}

// parseBind reads "source:destination[:options]". A missing source directory is
// made, as Docker does for this form.
func parseBind(bind, path string) (container.Mount, error) {
	parts := strings.SplitN(bind, ":", 3)
	if len(parts) < 2 || !strings.HasPrefix(parts[0], "/") || !strings.HasPrefix(parts[1], "/") {
		return container.Mount{}, field(path, "%q is not /source:/destination", bind)
	}
	m := container.Mount{
		Type: "bind", Source: parts[0], CreateSource: true, Destination: parts[1],
		Options: []string{"rbind"},
	}
	propagation := "rprivate"
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			switch {
			case option == "ro":
				m.Options = append(m.Options, "ro")
			case isPropagation(option):
				propagation = option
			case !ignoredBindOption(option):
				return container.Mount{}, field(path, "%q is not an option of a bind mount", option)
			}
		}
	}
	m.Options = append(m.Options, propagation)
	return m, nil
}

// tmpfsOptions are Docker's defaults with what was asked for over them.
func tmpfsOptions(asked string) []string {
	options := []string{"noexec", "nosuid", "nodev"}
	for option := range strings.SplitSeq(asked, ",") {
		if option == "" {
			continue
		}
		opposite := "no" + option
		if rest, ok := strings.CutPrefix(option, "no"); ok {
			opposite = rest
		}
		options = slices.DeleteFunc(options, func(o string) bool { return o == option || o == opposite })
		options = append(options, option)
	}
	return options
}

package localcluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

const mebibyte = 1 << 20

// dockerConfig writes the two documents in Docker's shape that carry most of a
// container's settings (spec control-plane §4.6).
func dockerConfig(t *task, d *ecs.TaskDefinition, c *ecs.ContainerDefinition) (*acs.DockerConfig, error) {
	// The service spells HealthCheck; Docker spells Healthcheck.
	config, err := json.Marshal(struct {
		acs.ContainerConfig
		HealthCheck *acs.HealthConfig `json:"HealthCheck,omitempty"`
	}{containerConfig(c), healthConfig(c.HealthCheck)})
	if err != nil {
		return nil, fmt.Errorf("cannot write config of container %s: %w", c.Name, err)
	}
	host, err := hostConfig(t, d, c).Text()
	if err != nil {
		return nil, fmt.Errorf("cannot write host config of container %s: %w", c.Name, err)
	}
	version := "1.18"
	switch {
	case c.HealthCheck != nil:
		version = "1.24"
	case c.LogConfiguration != nil && c.LogConfiguration.LogDriver == "awslogs":
		version = "1.19"
	}
	return &acs.DockerConfig{Version: version, Config: string(config), HostConfig: host}, nil
}

func containerConfig(c *ecs.ContainerDefinition) acs.ContainerConfig {
	return acs.ContainerConfig{
		Hostname: c.Hostname, User: c.User, WorkingDir: c.WorkingDirectory, Tty: c.PseudoTerminal,
		OpenStdin: c.Interactive, NetworkDisabled: c.DisableNetworking, Labels: c.DockerLabels,
	}
}

func healthConfig(h *ecs.HealthCheck) *acs.HealthConfig {
	if h == nil {
		return nil
	}
	seconds := func(n *int) time.Duration {
		if n == nil {
			return 0
		}
		return time.Duration(*n) * time.Second
	}
	out := &acs.HealthConfig{Test: h.Command, Interval: seconds(h.Interval), Timeout: seconds(h.Timeout), StartPeriod: seconds(h.StartPeriod)}
	if len(h.Command) > 0 && h.Command[0] != "CMD" && h.Command[0] != "CMD-SHELL" && h.Command[0] != "NONE" {
		out.Test = append(acs.StrSlice{"CMD"}, h.Command...)
	}
	if h.Retries != nil {
		out.Retries = *h.Retries
	}
	return out
}

func hostConfig(t *task, d *ecs.TaskDefinition, c *ecs.ContainerDefinition) acs.HostConfig {
	out := acs.HostConfig{
		CapAdd: acs.StrSlice{}, CapDrop: acs.StrSlice{}, NetworkMode: d.NetworkMode,
		MemoryReservation: int64(c.MemoryReservation) * mebibyte, SecurityOpt: c.DockerSecurityOptions,
		Privileged: c.Privileged, ReadonlyRootfs: c.ReadonlyRootFilesystem, DNS: c.DNSServers, DNSSearch: c.DNSSearchDomains,
	}
	for _, h := range c.ExtraHosts {
		out.ExtraHosts = append(out.ExtraHosts, h.Hostname+":"+h.IPAddress)
	}
	for _, u := range c.Ulimits {
		out.Ulimits = append(out.Ulimits, acs.Ulimit{Name: u.Name, Soft: int64(u.SoftLimit), Hard: int64(u.HardLimit)})
	}
	for _, s := range c.SystemControls {
		if out.Sysctls == nil {
			out.Sysctls = map[string]string{}
		}
		out.Sysctls[s.Namespace] = s.Value
	}
	if l := c.LogConfiguration; l != nil {
		out.LogConfig = acs.LogConfig{Type: l.LogDriver, Config: logOptions(t, c.Name, l)}
	}
	if p := c.LinuxParameters; p != nil {
		linuxParameters(&out, c, p)
	}
	return out
}

func linuxParameters(out *acs.HostConfig, c *ecs.ContainerDefinition, p *ecs.LinuxParameters) {
	if p.Capabilities != nil {
		out.CapAdd = append(out.CapAdd, p.Capabilities.Add...)
		out.CapDrop = append(out.CapDrop, p.Capabilities.Drop...)
	}
	for _, dev := range p.Devices {
		inside := dev.ContainerPath
		setDefault(&inside, dev.HostPath)
		rights := ""
		for _, permission := range dev.Permissions {
			rights += permission[:1] // The words are read, write and mknod.
		}
		setDefault(&rights, "rwm")
		out.Devices = append(out.Devices, acs.DeviceMapping{PathOnHost: dev.HostPath, PathInContainer: inside, CgroupPermissions: rights})
	}
	for _, mount := range p.Tmpfs {
		if out.Tmpfs == nil {
			out.Tmpfs = map[string]string{}
		}
		options := append([]string{fmt.Sprintf("size=%dm", mount.Size)}, mount.MountOptions...)
		out.Tmpfs[mount.ContainerPath] = strings.Join(options, ",")
	}
	if p.InitProcessEnabled {
		out.Init = new(true)
	}
	out.ShmSize = int64(p.SharedMemorySize) * mebibyte
	if p.MaxSwap != nil {
		out.MemorySwap = int64(c.Memory+*p.MaxSwap) * mebibyte
	}
	if p.Swappiness != nil {
		out.MemorySwappiness = new(int64(*p.Swappiness))
	}
}

// logOptions are the options of a log driver, with the stream that the service
// makes of a prefix for awslogs.
func logOptions(t *task, container string, l *ecs.LogConfiguration) map[string]string {
	out := map[string]string{}
	maps.Copy(out, l.Options)
	if prefix := out["awslogs-stream-prefix"]; l.LogDriver == "awslogs" && prefix != "" {
		delete(out, "awslogs-stream-prefix")
		out["awslogs-stream"] = prefix + "/" + container + "/" + lastPart(t.TaskARN)
	}
	return out
}

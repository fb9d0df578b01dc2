package ctrd

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// minMemory is the least memory limit; less cannot start a process.
const minMemory = 4 << 20

// resources are the limits, in the form of cgroup v1; the OCI runtime
// translates them for v2 (shares to weight).
func resources(in specInput) *specs.LinuxResources {
	l := in.Limits
	out := &specs.LinuxResources{CPU: cpu(l), Memory: memory(l, in.host)}
	switch {
	case l.Pids > 0:
		out.Pids = &specs.LinuxPids{Limit: &l.Pids}
	case in.driver == Systemd:
		// A scope that is told nothing has systemd's DefaultTasksMax.
		unlimited := int64(-1)
		out.Pids = &specs.LinuxPids{Limit: &unlimited}
	}
	return out
}

func cpu(l container.Limits) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: l.CPUSet}
	if l.CPUShares > 0 {
		shares := min(max(l.CPUShares, 2), 262144)
		c.Shares = &shares
	}
	if l.CPUQuota != 0 {
		c.Quota = &l.CPUQuota
	}
	if l.CPUPeriod != 0 {
		c.Period = &l.CPUPeriod
	}
	return c
}

func memory(l container.Limits, h host) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if l.Memory > 0 {
		limit := max(l.Memory, minMemory)
		m.Limit = &limit
		swap := l.MemorySwap
		if swap == 0 {
			swap = 2 * limit // as Docker: as much swap as memory
		}
		if h.swap {
			m.Swap = &swap
		}
	}
	if l.MemoryReservation > 0 {
		m.Reservation = &l.MemoryReservation
	}
	if !h.unified { // cgroup v2 has neither
		m.Swappiness = l.Swappiness
		if l.DisableOOMKiller {
			m.DisableOOMKiller = &l.DisableOOMKiller
		}
	}
	return m
}

// device is a rule of the device cgroup.
func device(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access}
}

// defaultDevices are Docker's rules: making any node is allowed, using only
// those that every container has.
func defaultDevices() []specs.LinuxDeviceCgroup {
	const wild = -1
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		rules = append(rules, device("c", d[0], d[1], "rwm"))
	}
	return append(rules,
		device("c", 136, wild, "rwm"), // pts
		device("c", wild, wild, "m"),
		device("b", wild, wild, "m"),
	)
}

// devices gives the container its device nodes and the right to use them.
func devices(s *specs.Spec, in specInput) error {
	if in.Rights.Privileged {
		all, err := oci.HostDevices()
		if err != nil {
			return fmt.Errorf("cannot list the host's devices: %w", err)
		}
		s.Linux.Devices = all
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		s.Linux.Resources.Devices = defaultDevices()
	}
	for _, d := range in.Devices {
		access := d.Permissions
		if access == "" {
			access = "rwm"
		}
		if strings.Trim(access, "rwm") != "" {
			return invalid("invalid device permissions %q", access)
		}
		nodes, err := nodesOf(d)
		if err != nil {
			return invalid("error gathering device information while adding custom device %q: %w", d.HostPath, err)
		}
		for _, node := range nodes {
			s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(have specs.LinuxDevice) bool { return have.Path == node.Path })
			s.Linux.Devices = append(s.Linux.Devices, node)
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, device(node.Type, node.Major, node.Minor, access))
		}
	}
	return nil
}

// nodesOf are the nodes that a device of the container stands for: as with Docker,
// a link stands for what it leads to, and a directory for every node below it.
func nodesOf(d container.Device) ([]specs.LinuxDevice, error) {
	path, err := filepath.EvalSymlinks(d.HostPath)
	if err != nil {
		return nil, err
	}
	inside := d.ContainerPath
	if inside == "" {
		inside = d.HostPath
	}
	node, err := oci.DeviceFromPath(path)
	if err == nil {
		node.Path = cleanPath(inside)
		return []specs.LinuxDevice{*node}, nil
	}
	var nodes []specs.LinuxDevice
	walked := filepath.WalkDir(path, func(below string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeDevice == 0 {
			return err
		}
		node, err := oci.DeviceFromPath(below)
		if err != nil {
			return err
		}
		node.Path = cleanPath(inside + strings.TrimPrefix(below, path))
		nodes = append(nodes, *node)
		return nil
	})
	if walked != nil {
		return nil, walked
	}
	if len(nodes) == 0 {
		return nil, err
	}
	return nodes, nil
}

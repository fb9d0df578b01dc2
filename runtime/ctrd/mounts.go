package ctrd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

const defaultShmSize = 64 << 20

// mounts sets the container's mounts: the system's, then its own, a parent
// before what lies below it.
func mounts(s *specs.Spec, in specInput) error {
	var own []specs.Mount
	for _, m := range in.Mounts {
		made, err := mountOf(m)
		if err != nil {
			return err
		}
		own = append(own, made)
	}
	if in.Process.Init && len(in.init) > 0 {
		own = append(own, specs.Mount{
			Destination: initPath, Type: "bind", Source: in.init[0],
			Options: []string{"rbind", "ro", "nosuid", "nodev"},
		})
	}
	system := systemMounts(in)
	system = slices.DeleteFunc(system, func(m specs.Mount) bool {
		return slices.ContainsFunc(own, func(o specs.Mount) bool { return o.Destination == m.Destination })
	})
	slices.SortStableFunc(own, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	s.Mounts = append(system, own...)
	s.Linux.RootfsPropagation = rootPropagation(own)
	return nil
}

// rootPropagation lets shared mounts of the container work: they need a root
// that propagates.
func rootPropagation(own []specs.Mount) string {
	propagation := ""
	for _, m := range own {
		for _, option := range m.Options {
			switch strings.TrimPrefix(option, "r") {
			case "shared":
				return "shared"
			case "slave":
				propagation = "slave"
			}
		}
	}
	return propagation
}

func systemMounts(in specInput) []specs.Mount {
	access := "ro"
	if in.Rights.Privileged {
		access = "rw"
	}
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{
			Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"},
		},
		{
			Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"},
		},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{access, "nosuid", "noexec", "nodev"},
		},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	switch in.IPC.Mode {
	case "none": // private, without /dev/shm
	case "host":
		m = append(m, specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: "/dev/shm",
			Options: []string{"rbind", "nosuid", "noexec", "nodev"},
		})
	case "shareable", "container": // mounted outside, see shm.go
		of := in.ID
		if in.IPC.Mode == "container" {
			of = in.IPC.Of
		}
		m = append(m, specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: in.shm(of),
			Options: []string{"rbind", "nosuid", "noexec", "nodev"},
		})
	default:
		size := in.Limits.ShmSize
		if size == 0 {
			size = defaultShmSize
		}
		m = append(m, specs.Mount{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)},
		})
	}
	return m
}

// mountOf is a mount of the container's own.
func mountOf(m container.Mount) (specs.Mount, error) {
	if !filepath.IsAbs(m.Destination) {
		return specs.Mount{}, invalid("invalid mount path: %q mount path must be absolute", m.Destination)
	}
	destination := cleanPath(m.Destination)
	if destination == "/" {
		return specs.Mount{}, invalid("invalid mount path: destination can't be '/'")
	}
	out := specs.Mount{Destination: destination, Type: m.Type, Source: m.Source}
	options := slices.Clone(m.Options)
	switch m.Type {
	case "bind":
		if !filepath.IsAbs(m.Source) {
			return specs.Mount{}, invalid("invalid mount of %s: source %q is not absolute", destination, m.Source)
		}
		out.Source = filepath.Clean(m.Source)
		if !slices.Contains(options, "bind") && !slices.Contains(options, "rbind") {
			options = append([]string{"rbind"}, options...)
		}
		if !slices.ContainsFunc(options, isPropagation) {
			options = append(options, "rprivate")
		}
	case "tmpfs":
		out.Source = "tmpfs"
		// Docker's defaults come first, so that what is said wins.
		options = append([]string{"nosuid", "nodev", "noexec"}, options...)
	case "":
		return specs.Mount{}, fmt.Errorf("cannot mount %s: no type", destination)
	}
	out.Options = options
	return out, nil
}

func isPropagation(option string) bool {
	switch strings.TrimPrefix(option, "r") {
	case "private", "shared", "slave", "unbindable":
		return true
	}
	return false
}

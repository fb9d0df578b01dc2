package ctrd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/berthd/berth/runtime/container"
)

// GPUs come through the Container Device Interface: files on the host, made by
// the vendor's toolkit, that say for each device by name which nodes, mounts,
// hooks and variables a container with it gets. Nothing of it is read for
// containers that have none.

const (
	// gpuClass is the class of the devices that are GPUs: "nvidia.com/gpu".
	gpuClass = "gpu"
	// everyGPU is the name that vendors give to all of them together.
	everyGPU = "all"
	// gpuVariable tells a container its GPUs. The vendor's files set it to "void",
	// for a runtime of theirs that would look at it; ECS's value stays.
	gpuVariable = "NVIDIA_VISIBLE_DEVICES"
)

// devicesCache reads the host's CDI files as they are now.
func (r *Runtime) devicesCache() (*cdi.Cache, error) {
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(r.cfg.CDIDirs...))
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's CDI files: %w", err)
	}
	return cache, nil
}

// GPUs are the ids of the host's GPUs, in order; none where no CDI file has any.
// Where the same GPUs have numbers and UUIDs as names, the UUIDs are their ids, as
// on hosts of ECS.
func (r *Runtime) GPUs() ([]string, error) {
	cache, err := r.devicesCache()
	if err != nil {
		return nil, err
	}
	var all, unique []string
	for _, qualified := range cache.ListDevices() {
		if kind, name, _ := strings.Cut(qualified, "="); isGPU(kind) && name != everyGPU {
			all = append(all, name)
			if strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-") {
				unique = append(unique, name)
			}
		}
	}
	if len(unique) > 0 {
		all = unique
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// isGPU says whether devices of a kind ("vendor.com/class") are GPUs.
func isGPU(kind string) bool {
	_, class, _ := strings.Cut(kind, "/")
	return class == gpuClass
}

// giveGPUs adds the GPUs of those ids to the container.
func (r *Runtime) giveGPUs(s *specs.Spec, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	cache, err := r.devicesCache()
	if err != nil {
		return err
	}
	var names []string
	for _, id := range ids {
		found := findGPU(cache.ListDevices(), id)
		if len(found) == 0 {
			return container.Errorf(container.KindHost,
				"GPU %s is not to be had: no CDI file in %s has it (nvidia-ctk cdi generate makes one)", id, strings.Join(r.cfg.CDIDirs, " or "))
		}
		names = append(names, found...)
	}
	if _, err := cache.InjectDevices(s, names...); err != nil {
		return container.Errorf(container.KindHost, "cannot give GPU %s: %w", strings.Join(ids, ","), err)
	}
	s.Process.Env = override(s.Process.Env, []string{gpuVariable + "=" + strings.Join(ids, ",")})
	return nil
}

// findGPU are the qualified names of a GPU among the host's devices: one, or every
// one where "all" is wanted and has no name of its own.
func findGPU(devices []string, id string) []string {
	var found, every []string
	for _, qualified := range devices {
		kind, name, _ := strings.Cut(qualified, "=")
		if !isGPU(kind) {
			continue
		}
		every = append(every, qualified)
		if name == id || qualified == id {
			found = append(found, qualified)
		}
	}
	switch {
	case len(found) > 1 && id != everyGPU:
		return found[:1] // two vendors: the devices are sorted
	case len(found) == 0 && id == everyGPU:
		return every
	}
	return found
}

package control

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/berthd/berth/agent/wire/ecs"
)

// Host is what there is to say about this host when it registers.
type Host struct {
	// CPUs is the number of logical processors, MemoryMiB what the kernel has,
	// and ReservedMiB what is withheld from ECS.
	CPUs                   int
	MemoryMiB, ReservedMiB int64
	// ReservedTCP and ReservedUDP are ports that are taken from the start.
	ReservedTCP, ReservedUDP []uint16
	// OSFamily is such as "amzn_2023"; "" when it is not known.
	OSFamily string
	// VPC, Subnet (with task ENIs only), Architecture (external hosts only) and
	// OutpostARN may be empty.
	VPC, Subnet, Architecture, OutpostARN string
	// GPUs are the ids of those that tasks can be given, GPUDriver is the version of
	// their driver where that is known.
	GPUs      []string
	GPUDriver string
	// EC2InstanceID is empty off EC2.
	EC2InstanceID string
	// CustomAttributes and Tags are the user's.
	CustomAttributes, Tags map[string]string
	// Features are advertised.
	Features Features
}

// resources is the host's capacity, spec/control-plane.md §1.6.
func (h *Host) resources() ([]ecs.Resource, error) {
	memory := h.MemoryMiB - h.ReservedMiB
	if memory < 0 {
		return nil, fmt.Errorf("the host has %d MiB of memory, of which %d are reserved (ECS_RESERVED_MEMORY)", h.MemoryMiB, h.ReservedMiB)
	}
	return []ecs.Resource{
		{Name: "CPU", Type: "INTEGER", IntegerValue: h.CPUs * 1024},
		{Name: "MEMORY", Type: "INTEGER", IntegerValue: int(memory)},
		{Name: "PORTS", Type: "STRINGSET", StringSetValue: decimals(h.ReservedTCP)},
		{Name: "PORTS_UDP", Type: "STRINGSET", StringSetValue: decimals(h.ReservedUDP)},
	}, nil
}

// platformDevices are the devices that ECS hands out to tasks one by one.
func (h *Host) platformDevices() []ecs.PlatformDevice {
	var out []ecs.PlatformDevice
	for _, id := range h.GPUs {
		out = append(out, ecs.PlatformDevice{ID: id, Type: ecs.ResourceGPU})
	}
	return out
}

// decimals are ports as the API wants them; never nil.
func decimals(ports []uint16) []string {
	out := make([]string, 0, len(ports))
	for _, p := range ports {
		out = append(out, strconv.Itoa(int(p)))
	}
	return out
}

func (h *Host) tags() []ecs.Tag {
	var out []ecs.Tag
	for _, key := range slices.Sorted(maps.Keys(h.Tags)) {
		out = append(out, ecs.Tag{Key: key, Value: h.Tags[key]})
	}
	return out
}

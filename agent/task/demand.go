package task

// Demand is what a task counts for in the host's accounting, spec/task-engine.md
// §10.
type Demand struct {
	// CPU in CPU units (1024 a vCPU), Memory in MiB.
	CPU, Memory int64
	// TCP and UDP are the fixed host ports.
	TCP, UDP []uint16
	// GPUs are the ids of those that the task was given.
	GPUs []string
}

// Demand adds up what the task needs. A task-level figure stands for the sum of
// its containers'; ports that the agent picks count for nothing.
func (d *Definition) Demand() Demand {
	var need Demand
	for i := range d.Containers {
		c := &d.Containers[i]
		need.CPU += c.CPU
		if c.MemoryReservation > 0 {
			need.Memory += c.MemoryReservation
		} else {
			need.Memory += c.Memory
		}
		for _, p := range c.Ports {
			switch {
			case d.Network == NetworkAWSVPC || p.HostPort == 0:
			case p.Protocol == "udp":
				need.UDP = append(need.UDP, p.HostPort)
			default:
				need.TCP = append(need.TCP, p.HostPort)
			}
		}
	}
	for _, a := range d.Associations {
		if a.Type == AssociationGPU {
			need.GPUs = append(need.GPUs, a.Name)
		}
	}
	if d.CPU > 0 {
		need.CPU = int64(d.CPU * 1024)
	}
	if d.Memory > 0 {
		need.Memory = d.Memory
	}
	return need
}

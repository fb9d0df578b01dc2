package ecs

import "strings"

// IsEssential reports whether the task ends with this container; absent means
// that it does.
func (c *ContainerDefinition) IsEssential() bool { return c.Essential == nil || *c.Essential }

func (c *ContainerDefinition) validate(networkMode, at string) error {
	return first(
		func() error { return name(c.Name, at+".name") },
		func() error {
			if c.Image == "" {
				return fault(at+".image", "Container.image should not be null or empty.")
			}
			return nil
		},
		func() error { return c.validateSize(at) },
		func() error {
			return each(c.PortMappings, at+".portMappings", func(p PortMapping, at string) error { return p.validate(networkMode, at) })
		},
		func() error {
			if len(c.Links) > 0 && networkMode != "" && networkMode != NetworkBridge {
				return fault(at+".links", "Links are not supported when networkMode=%s.", networkMode)
			}
			return nil
		},
		func() error { return c.validateEnvironment(at) },
		func() error { return c.validateLimits(at) },
		func() error {
			if c.LogConfiguration == nil {
				return nil
			}
			return required(c.LogConfiguration.LogDriver, at+".logConfiguration.logDriver")
		},
		func() error { return c.HealthCheck.validate(at + ".healthCheck") },
	)
}

func (c *ContainerDefinition) validateSize(at string) error {
	switch {
	case c.CPU < 0 || c.CPU > 1<<20:
		return fault(at+".cpu", "%d is not a possible number of CPU units", c.CPU)
	case c.Memory < 0 || (c.Memory > 0 && c.Memory < 4):
		return fault(at+".memory", "Invalid 'memory' setting for container '%s'. The minimum is 4 MiB.", c.Name)
	case c.MemoryReservation < 0 || (c.MemoryReservation > 0 && c.MemoryReservation < 4):
		return fault(at+".memoryReservation", "Invalid 'memoryReservation' setting for container '%s'. The minimum is 4 MiB.", c.Name)
	case c.Memory > 0 && c.MemoryReservation > c.Memory:
		return fault(at+".memoryReservation", "must not be above memory")
	}
	return nil
}

func (p *PortMapping) validate(networkMode, at string) error {
	if networkMode == NetworkNone {
		return fault(at, "Port mappings are not supported when networkMode=none.")
	}
	if err := oneOf(p.Protocol, at+".protocol", "", ProtocolTCP, ProtocolUDP); err != nil {
		return err
	}
	if p.ContainerPortRange != "" {
		if p.ContainerPort != 0 || p.HostPort != 0 {
			return fault(at+".containerPortRange", "excludes containerPort and hostPort")
		}
		if _, _, err := ParsePortRange(p.ContainerPortRange); err != nil {
			return fault(at+".containerPortRange", "%v", err)
		}
		return nil
	}
	if p.ContainerPort < 1 || p.ContainerPort > 65535 {
		return fault(at+".containerPort", "%d is not between 1 and 65535", p.ContainerPort)
	}
	if p.HostPort < 0 || p.HostPort > 65535 {
		return fault(at+".hostPort", "%d is not between 0 and 65535", p.HostPort)
	}
	if (networkMode == NetworkHost || networkMode == NetworkAWSVPC) && p.HostPort != 0 && p.HostPort != p.ContainerPort {
		return fault(at+".hostPort", "When networkMode=%s, the host ports and container ports in port mappings must match.", networkMode)
	}
	return nil
}

func (c *ContainerDefinition) validateEnvironment(at string) error {
	return first(
		func() error {
			return each(c.Environment, at+".environment", func(kv KeyValuePair, at string) error { return required(kv.Name, at+".name") })
		},
		func() error {
			return each(c.EnvironmentFiles, at+".environmentFiles", func(f EnvironmentFile, at string) error {
				return first(
					func() error { return oneOf(f.Type, at+".type", "s3") },
					func() error { return required(f.Value, at+".value") },
				)
			})
		},
		func() error {
			return each(c.Secrets, at+".secrets", func(s Secret, at string) error {
				return first(
					func() error { return required(s.Name, at+".name") },
					func() error { return required(s.ValueFrom, at+".valueFrom") },
				)
			})
		},
	)
}

func (c *ContainerDefinition) validateLimits(at string) error {
	return first(
		func() error { return within(c.StartTimeout, at+".startTimeout", 0, 3600) },
		func() error { return within(c.StopTimeout, at+".stopTimeout", 0, 3600) },
		func() error {
			if c.RestartPolicy == nil {
				return nil
			}
			return within(c.RestartPolicy.RestartAttemptPeriod, at+".restartPolicy.restartAttemptPeriod", 60, 1800)
		},
		func() error {
			return each(c.Ulimits, at+".ulimits", func(u Ulimit, at string) error {
				if err := oneOf(u.Name, at+".name", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
					"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"); err != nil {
					return err
				}
				if u.HardLimit != -1 && (u.SoftLimit > u.HardLimit || u.SoftLimit == -1) {
					return fault(at+".softLimit", "must not be above hardLimit")
				}
				return nil
			})
		},
		func() error {
			p := c.LinuxParameters
			if p == nil {
				return nil
			}
			if err := within(p.Swappiness, at+".linuxParameters.swappiness", 0, 100); err != nil {
				return err
			}
			return each(p.Devices, at+".linuxParameters.devices", func(d Device, at string) error {
				return first(
					func() error { return required(d.HostPath, at+".hostPath") },
					func() error {
						return each(d.Permissions, at+".permissions", func(p, at string) error { return oneOf(p, at, "read", "write", "mknod") })
					},
				)
			})
		},
	)
}

func (h *HealthCheck) validate(at string) error {
	if h == nil {
		return nil
	}
	return first(
		func() error {
			if len(h.Command) == 0 || strings.TrimSpace(h.Command[0]) == "" {
				return fault(at+".command", "must not be empty")
			}
			return nil
		},
		func() error { return within(h.Interval, at+".interval", 5, 300) },
		func() error { return within(h.Timeout, at+".timeout", 2, 120) },
		func() error { return within(h.Retries, at+".retries", 1, 10) },
		func() error { return within(h.StartPeriod, at+".startPeriod", 0, 300) },
	)
}

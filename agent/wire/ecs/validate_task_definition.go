package ecs

import "slices"

// Validate checks a task definition as the service does when it is registered.
// The first fault is returned as a *FieldError.
func (r *RegisterTaskDefinitionRequest) Validate() error {
	return first(
		func() error { return name(r.Family, "family") },
		func() error {
			return oneOf(r.NetworkMode, "networkMode", "", NetworkBridge, NetworkHost, NetworkAWSVPC, NetworkNone)
		},
		func() error { return oneOf(r.PIDMode, "pidMode", "", "host", "task") },
		func() error { return oneOf(r.IPCMode, "ipcMode", "", "host", "task", "none") },
		r.validateVolumes,
		r.validateContainers,
		r.validateSizes,
		r.validateReferences,
		r.validateDependencies,
	)
}

func (r *RegisterTaskDefinitionRequest) validateVolumes() error {
	seen := map[string]bool{}
	return each(r.Volumes, "volumes", func(v Volume, at string) error {
		if err := name(v.Name, at+".name"); err != nil {
			return err
		}
		if seen[v.Name] {
			return fault(at+".name", "%q is used twice", v.Name)
		}
		seen[v.Name] = true
		return v.validate(at)
	})
}

func (v *Volume) validate(at string) error {
	kinds := 0
	for _, set := range []bool{
		v.Host != nil, v.DockerVolumeConfiguration != nil, v.EFSVolumeConfiguration != nil,
		v.S3FilesVolumeConfiguration != nil, v.FSxWindowsFileServerVolumeConfiguration != nil,
	} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		return fault(at, "has %d configurations, only one is possible", kinds)
	}
	if d := v.DockerVolumeConfiguration; d != nil {
		if err := oneOf(d.Scope, at+".dockerVolumeConfiguration.scope", "", "task", "shared"); err != nil {
			return err
		}
		if d.Autoprovision && d.Scope != "shared" {
			return fault(at+".dockerVolumeConfiguration.autoprovision", "needs scope shared")
		}
	}
	if e := v.EFSVolumeConfiguration; e != nil {
		return first(
			func() error { return required(e.FileSystemID, at+".efsVolumeConfiguration.fileSystemId") },
			func() error {
				return oneOf(e.TransitEncryption, at+".efsVolumeConfiguration.transitEncryption", "", "ENABLED", "DISABLED")
			},
		)
	}
	return nil
}

func (r *RegisterTaskDefinitionRequest) validateContainers() error {
	if len(r.ContainerDefinitions) == 0 {
		return fault("containerDefinitions", "must not be empty")
	}
	seen := map[string]bool{}
	essential := false
	err := each(r.ContainerDefinitions, "containerDefinitions", func(c ContainerDefinition, at string) error {
		if err := c.validate(r.NetworkMode, at); err != nil {
			return err
		}
		if seen[c.Name] {
			return fault(at+".name", "%q is used twice", c.Name)
		}
		seen[c.Name] = true
		essential = essential || c.IsEssential()
		return nil
	})
	if err == nil && !essential {
		return fault("containerDefinitions", "at least one container must be essential")
	}
	return err
}

// validateSizes compares the containers' CPU and memory with the task's.
func (r *RegisterTaskDefinitionRequest) validateSizes() error {
	taskCPU, err := ParseCPU(r.CPU)
	if err != nil {
		return fault("cpu", "%v", err)
	}
	taskMemory, err := ParseMemory(r.Memory)
	if err != nil {
		return fault("memory", "%v", err)
	}
	cpu, reserved := 0, 0
	err = each(r.ContainerDefinitions, "containerDefinitions", func(c ContainerDefinition, at string) error {
		if taskMemory == 0 && c.Memory == 0 && c.MemoryReservation == 0 {
			return fault(at+".memory", "Invalid setting for container '%s'. At least one of 'memory' or 'memoryReservation' must be specified.", c.Name)
		}
		if taskMemory != 0 && c.Memory > taskMemory {
			return fault(at+".memory", "%d MiB is more than the task's %d MiB", c.Memory, taskMemory)
		}
		cpu += c.CPU
		reserved += c.MemoryReservation
		return nil
	})
	switch {
	case err != nil:
		return err
	case taskCPU != 0 && cpu > taskCPU:
		return fault("cpu", "containers ask for %d CPU units, the task has %d", cpu, taskCPU)
	case taskMemory != 0 && reserved > taskMemory:
		return fault("memory", "containers reserve %d MiB, the task has %d", reserved, taskMemory)
	}
	return nil
}

// validateReferences checks names that point to other containers and volumes.
func (r *RegisterTaskDefinitionRequest) validateReferences() error {
	volumes := map[string]bool{}
	for _, v := range r.Volumes {
		volumes[v.Name] = true
	}
	containers := map[string]bool{}
	for _, c := range r.ContainerDefinitions {
		containers[c.Name] = true
	}
	return each(r.ContainerDefinitions, "containerDefinitions", func(c ContainerDefinition, at string) error {
		return first(
			func() error {
				return each(c.MountPoints, at+".mountPoints", func(m MountPoint, at string) error {
					if !volumes[m.SourceVolume] {
						return fault(at+".sourceVolume", "Unknown volume '%s'.", m.SourceVolume)
					}
					return required(m.ContainerPath, at+".containerPath")
				})
			},
			func() error {
				return each(c.VolumesFrom, at+".volumesFrom", func(v VolumeFrom, at string) error {
					if !containers[v.SourceContainer] || v.SourceContainer == c.Name {
						return fault(at+".sourceContainer", "%q is not another container of the task", v.SourceContainer)
					}
					return nil
				})
			},
		)
	})
}

// validateDependencies checks that dependsOn names containers that can reach the
// condition, and that nothing waits for itself.
func (r *RegisterTaskDefinitionRequest) validateDependencies() error {
	byName := map[string]*ContainerDefinition{}
	for i := range r.ContainerDefinitions {
		byName[r.ContainerDefinitions[i].Name] = &r.ContainerDefinitions[i]
	}
	err := each(r.ContainerDefinitions, "containerDefinitions", func(c ContainerDefinition, at string) error {
		return each(c.DependsOn, at+".dependsOn", func(d ContainerDependency, at string) error {
			return d.validate(byName[d.ContainerName], at)
		})
	})
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, c := range r.ContainerDefinitions {
		if cycle := waitsForItself(c.Name, byName, done, nil); cycle != "" {
			return fault("containerDefinitions", "container %q depends on itself through dependsOn", cycle)
		}
	}
	return nil
}

func (d *ContainerDependency) validate(target *ContainerDefinition, at string) error {
	if target == nil {
		return fault(at+".containerName", "%q is not a container of the task", d.ContainerName)
	}
	if err := oneOf(d.Condition, at+".condition", ConditionStart, ConditionComplete, ConditionSuccess, ConditionHealthy); err != nil {
		return err
	}
	if d.Condition == ConditionHealthy && target.HealthCheck == nil {
		return fault(at+".condition", "container %q has no health check", d.ContainerName)
	}
	if (d.Condition == ConditionSuccess || d.Condition == ConditionComplete) && target.IsEssential() {
		return fault(at+".condition", "container %q is essential and cannot be waited on to end", d.ContainerName)
	}
	return nil
}

func waitsForItself(at string, byName map[string]*ContainerDefinition, done map[string]bool, path []string) string {
	if slices.Contains(path, at) {
		return at
	}
	if done[at] {
		return ""
	}
	for _, d := range byName[at].DependsOn {
		if cycle := waitsForItself(d.ContainerName, byName, done, append(path, at)); cycle != "" {
			return cycle
		}
	}
	done[at] = true
	return ""
}

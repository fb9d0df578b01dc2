package acs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/container"
)

// attachmentEBS is the other name that the documents have for wire.AttachmentEBS
// (spec/task-engine.md §5.6).
const attachmentEBS = "amazonelasticblockstorage"

// volumes are the task's, those that arrive as attachments among them. An
// attachment replaces the volume of its name, which is incomplete
// (spec/control-plane.md §4.6).
func (b *builder) volumes(path string) error {
	attached, err := attachedVolumes(b.task.Attachments, path)
	if err != nil {
		return err
	}
	for i := range b.task.Volumes {
		v := &b.task.Volumes[i]
		if slices.ContainsFunc(attached, func(a task.Volume) bool { return a.Name == v.Name }) {
			continue
		}
		converted, err := volume(v, fmt.Sprintf("%s.volumes[%d]", path, i))
		if err != nil {
			return err
		}
		b.definition.Volumes = append(b.definition.Volumes, converted)
	}
	b.definition.Volumes = append(b.definition.Volumes, attached...)
	return nil
}

// volume translates one volume.
func volume(v *wire.Volume, path string) (task.Volume, error) {
	out := task.Volume{Name: v.Name}
	switch v.Type {
	case "", wire.VolumeHost:
		out.Kind = task.VolumeHost
		if v.Host != nil {
			out.Source = v.Host.SourcePath
		}
		if out.Source != "" && !strings.HasPrefix(out.Source, "/") {
			return out, field(path+".host.sourcePath", "%q is not an absolute path", out.Source)
		}
	case wire.VolumeDocker:
		out.Kind = task.VolumeDocker
		c := v.Docker
		if c == nil {
			c = &wire.DockerVolume{}
		}
		switch c.Driver {
		case "", "local", "amazon-ecs-volume-plugin":
		default:
			return out, &UnsupportedError{path + ".dockerVolumeConfiguration.driver", "the volume driver " + c.Driver}
		}
		out.Shared, out.Autoprovision = c.Scope == "shared", c.Autoprovision
		out.Driver, out.DriverOptions, out.Labels = c.Driver, c.DriverOpts, c.Labels
	case wire.VolumeEFS:
		out.Kind = task.VolumeEFS
		c := v.EFS
		if c == nil || c.FileSystemID == "" {
			return out, field(path+".efsVolumeConfiguration.fileSystemId", "is missing")
		}
		if c.TransitEncryptionPort < 0 || c.TransitEncryptionPort > 65535 {
			return out, field(path+".efsVolumeConfiguration.transitEncryptionPort", "%d is not a port", c.TransitEncryptionPort)
		}
		out.EFS = &task.EFS{
			FileSystemID: c.FileSystemID, RootDirectory: c.RootDirectory,
			TLS: c.TransitEncryption == "ENABLED", TLSPort: c.TransitEncryptionPort,
		}
		if a := c.Authorization; a != nil {
			out.EFS.AccessPointID, out.EFS.IAM = a.AccessPointID, a.IAM == "ENABLED"
		}
	default:
		return out, &UnsupportedError{path, "a volume of type " + v.Type}
	}
	return out, nil
}

// attachedVolumes are the EBS volumes among a task's attachments.
func attachedVolumes(attachments []wire.Attachment, path string) ([]task.Volume, error) {
	var out []task.Volume
	for i := range attachments {
		a := &attachments[i]
		at := fmt.Sprintf("%s.attachments[%d]", path, i)
		if a.AttachmentType != wire.AttachmentEBS && a.AttachmentType != attachmentEBS {
			continue // refused where it is not another part's
		}
		known := *a
		known.AttachmentType = wire.AttachmentEBS
		if err := known.Validate(at); err != nil {
			return nil, err
		}
		v := task.Volume{Kind: task.VolumeEBS, EBS: &task.EBS{AttachmentARN: a.AttachmentARN}}
		for _, p := range a.Properties {
			switch p.Name {
			case "volumeName":
				v.Name = p.Value
			case "sourceVolumeHostPath":
				v.Source = p.Value
			case "volumeId":
				v.EBS.VolumeID = p.Value
			case "deviceName":
				v.EBS.DeviceName = p.Value
			case "fileSystem":
				v.EBS.FileSystem = p.Value
			}
		}
		if v.EBS.FileSystem == "ntfs" {
			return nil, &UnsupportedError{at + ".attachmentProperties.fileSystem", "the file system ntfs"}
		}
		out = append(out, v)
	}
	return out, nil
}

// named is the task's volume of a name.
func (b *builder) named(name string) *task.Volume {
	i := slices.IndexFunc(b.definition.Volumes, func(v task.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &b.definition.Volumes[i]
}

// isPath says whether a volume is a path of the host and nothing else.
func isPath(v *task.Volume) bool { return v.Kind == task.VolumeHost && v.Source != "" }

// mountPoint takes the options off a container path: ECS passes on what follows a
// colon ("/data:rshared").
func mountPoint(m wire.MountPoint) (destination string, options []string) {
	destination, suffix, found := strings.Cut(m.ContainerPath, ":")
	if found {
		options = strings.Split(suffix, ",")
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return destination, options
}

// binds are the container's mount points of host paths, in Docker's form.
func (b *builder) binds(c *wire.Container, path string) ([]string, error) {
	var binds []string
	for i, m := range c.MountPoints {
		mpath := fmt.Sprintf("%s.mountPoints[%d]", path, i)
		v := b.named(m.SourceVolume)
		if v == nil {
			return nil, setUp(mpath+".sourceVolume", "HostConfigError: Invalid volume referenced: %s", m.SourceVolume)
		}
		destination, options := mountPoint(m)
		if destination == "" {
			return nil, field(mpath+".containerPath", "Unable to resolve volume mounts; invalid path: %s %s; %s -> %s",
				c.Name, m.SourceVolume, v.Source, m.ContainerPath)
		}
		if !isPath(v) {
			continue
		}
		bind := v.Source + ":" + destination
		if len(options) > 0 {
			bind += ":" + strings.Join(options, ",")
		}
		binds = append(binds, bind)
	}
	return binds, nil
}

// volumeMounts are the container's mount points of everything but host paths.
func (b *builder) volumeMounts(out *task.Container, c *wire.Container, _ documents, path string) error {
	for i, m := range c.MountPoints {
		at := fmt.Sprintf("%s.mountPoints[%d].containerPath", path, i)
		v := b.named(m.SourceVolume)
		if isPath(v) {
			continue
		}
		destination, asked := mountPoint(m)
		if !strings.HasPrefix(destination, "/") {
			return field(at, "%q is not an absolute path", m.ContainerPath)
		}
		mount := task.VolumeMount{Volume: m.SourceVolume, Destination: destination}
		for _, option := range asked {
			switch {
			case option == "ro":
				mount.ReadOnly = true
			case option == "nocopy" || isPropagation(option):
				mount.Options = append(mount.Options, option)
			case ignoredBindOption(option):
			default:
				return field(at, "%q is not an option of a volume", option)
			}
		}
		out.VolumeMounts = append(out.VolumeMounts, mount)
	}
	return nil
}

// isPropagation says whether a bind mount's option is about propagation.
func isPropagation(option string) bool {
	switch option {
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
		return true
	}
	return false
}

// ignoredBindOption says whether an option is the default, or means nothing to a
// bind mount here.
func ignoredBindOption(option string) bool {
	switch option {
	case "", "rw", "nocopy", "z", "Z", "cached", "delegated", "consistent":
		return true
	}
	return false
}

// volumesFrom gives containers the mounts of others, which must exist first. A
// container that takes from one that itself takes from another gets both.
func (b *builder) volumesFrom(path string) error {
	done := make(map[string]bool, len(b.task.Containers))
	var take func(i int, above []string) error
	take = func(i int, above []string) error {
		c, out := b.task.Containers[i], &b.definition.Containers[i]
		if done[c.Name] {
			return nil
		}
		if slices.Contains(above, c.Name) {
			return setUp(fmt.Sprintf("%s.containers[%d].volumesFrom", path, i), "Task dependencies cannot be resolved, taskArn: %s", b.task.ARN)
		}
		for n, from := range c.VolumesFrom {
			source := slices.IndexFunc(b.task.Containers, func(o *wire.Container) bool { return o.Name == from.SourceContainer })
			if source < 0 {
				return setUp(fmt.Sprintf("%s.containers[%d].volumesFrom[%d].sourceContainer", path, i, n),
					"could not find volume source container with name %s", from.SourceContainer)
			}
			if err := take(source, append(above, c.Name)); err != nil {
				return err
			}
			inherit(out, &b.definition.Containers[source], from.ReadOnly)
			out.VolumesFrom = append(out.VolumesFrom, task.VolumesFrom{Container: from.SourceContainer, ReadOnly: from.ReadOnly})
			depend(out, from.SourceContainer, task.ConditionCreate)
		}
		done[c.Name] = true
		return nil
	}
	for i := range b.task.Containers {
		if err := take(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// inherit adds bind mounts and volumes, but not over what the container mounts
// itself. The content of a volume comes from the image of the container that has
// it of its own right.
func inherit(out, from *task.Container, readOnly bool) {
	taken := func(destination string) bool {
		return slices.ContainsFunc(out.Spec.Mounts, func(own container.Mount) bool { return own.Destination == destination }) ||
			slices.ContainsFunc(out.VolumeMounts, func(own task.VolumeMount) bool { return own.Destination == destination })
	}
	for _, m := range from.Spec.Mounts {
		if m.Type != "bind" || taken(m.Destination) {
			continue
		}
		m.Options = slices.Clone(m.Options)
		if readOnly && !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
		out.Spec.Mounts = append(out.Spec.Mounts, m)
	}
	for _, m := range from.VolumeMounts {
		if taken(m.Destination) {
			continue
		}
		m.Options = slices.Clone(m.Options)
		if !slices.Contains(m.Options, "nocopy") {
			m.Options = append(m.Options, "nocopy")
		}
		m.ReadOnly = m.ReadOnly || readOnly
		out.VolumeMounts = append(out.VolumeMounts, m)
	}
}

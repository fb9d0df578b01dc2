package acs

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/container"
)

// UnsupportedError says that a task asks for something this version of Berth
// does not do. The attribute that would let ECS place such a task here is not
// advertised.
type UnsupportedError struct {
	// Path leads to the member that asks for it, What is it.
	Path, What string
}

// Error is "path: what is not supported by this version of Berth".
func (e *UnsupportedError) Error() string {
	return e.Path + ": " + e.What + " is not supported by this version of Berth"
}

// Conversion is what the translation of a task depends on besides the task. The
// zero value is good.
type Conversion struct {
	// Cluster is the configured cluster, for the label of that name; "" is the
	// task's own.
	Cluster string
	// LogDrivers are the drivers there are; nil is json-file and none.
	LogDrivers []string
	// Region is the host's, and IPv6Only says that it has no IPv4: both shape where
	// awslogs sends to.
	Region   string
	IPv6Only bool
	// TaskRoles and TaskRolesHost say that credentials are served to containers,
	// the latter to those in host network mode, so that they are told where.
	TaskRoles, TaskRolesHost bool
	// Metadata says the same of metadata. MetadataHost is the address and port at
	// which containers in host network mode find it; "" is 169.254.170.2.
	Metadata     bool
	MetadataHost string
	// TaskENI says that the host takes network interfaces for tasks.
	TaskENI bool
	// ManagedAgents are those that can be run in containers; nil is none.
	ManagedAgents []string
	// GPUs says that containers can be given GPUs.
	GPUs bool
	// PrivilegedDisabled refuses privileged containers.
	PrivilegedDisabled bool
}

// defaultLogDriver is what a container without a logConfiguration gets.
const defaultLogDriver = "json-file"

// identifier is what may become part of a path or a name on the host.
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// Convert translates a task, and validates it on the way. The error names the
// member, below path ("tasks[0]"): a *wire.FieldError or an *UnsupportedError.
func (cv Conversion) Convert(t *wire.Task, path string) (task.Definition, error) {
	if err := t.Validate(path); err != nil {
		return task.Definition{}, err
	}
	if err := unsupportedInTask(t, path); err != nil {
		return task.Definition{}, err
	}
	d := task.Definition{
		ARN: t.ARN, ID: task.IDFromARN(t.ARN),
		ClusterARN: t.ClusterARN, Family: t.Family, Version: t.Version,
		Shown: task.Shown{LaunchType: t.LaunchType, Service: t.ServiceName, Group: t.Group}, FaultInjection: t.EnableFaultInjection,
		CPU: t.CPU, Memory: t.Memory,
	}
	if !identifier.MatchString(d.ID) {
		return task.Definition{}, field(path+".arn", "%q does not end in a task id", t.ARN)
	}
	if len(t.Containers) == 0 {
		return task.Definition{}, field(path+".containers", "is missing")
	}
	if t.CPU < 0 || t.Memory < 0 {
		return task.Definition{}, field(path, "cpu %g or memory %d is negative", t.CPU, t.Memory)
	}
	if t.RoleCredentials != nil {
		d.RoleID = t.RoleCredentials.CredentialsID
	}
	if t.ExecutionRoleCredentials != nil {
		d.ExecutionRoleID = t.ExecutionRoleCredentials.CredentialsID
	}
	cluster := cv.Cluster
	if cluster == "" {
		cluster = t.ClusterARN
	}
	b := &builder{Conversion: cv, task: t, definition: &d, cluster: cluster}
	if err := b.build(path); err != nil {
		return task.Definition{}, err
	}
	return d, nil
}

// builder is the work of one Convert.
type builder struct {
	Conversion

	task       *wire.Task
	definition *task.Definition
	cluster    string
}

func (b *builder) build(path string) error {
	var err error
	if err = b.volumes(path); err != nil {
		return err
	}
	docs := make([]documents, len(b.task.Containers))
	for i, c := range b.task.Containers {
		if docs[i], err = b.documents(c, fmt.Sprintf("%s.containers[%d]", path, i)); err != nil {
			return err
		}
	}
	if b.definition.Network, err = networkMode(b.task, docs, path); err != nil {
		return err
	}
	if err := b.awsvpc(path); err != nil {
		return err
	}
	b.definition.PID = namespaceMode(b.task.PIDMode, "host", "task")
	b.definition.IPC = namespaceMode(b.task.IPCMode, "host", "task", "none")
	if err := b.associations(path); err != nil {
		return err
	}
	for i, c := range b.task.Containers {
		converted, err := b.container(c, docs[i], fmt.Sprintf("%s.containers[%d]", path, i))
		if err != nil {
			return err
		}
		b.definition.Containers = append(b.definition.Containers, converted)
	}
	if err := b.routed(path); err != nil {
		return err
	}
	return b.volumesFrom(path)
}

// container puts one container together.
func (b *builder) container(c *wire.Container, docs documents, path string) (task.Container, error) {
	if !identifier.MatchString(c.Name) {
		return task.Container{}, field(path+".name", "%q is not a name of a container", c.Name)
	}
	if limit := b.task.Memory; limit > 0 && c.Memory > limit {
		return task.Container{}, setUp(path+".memory", "resource cannot be initialized for task %s: cgroup resource: "+
			"unable to build resource spec for task: task memory spec builder: "+
			"container memory limit(%d) greater than task memory limit(%d)", b.task.ARN, c.Memory, limit)
	}
	out := task.Container{
		Name: c.Name, ARN: c.ARN, Image: docs.config.Image, Essential: c.Essential,
		Reservation:              task.Reservation{CPU: c.CPU, Memory: c.Memory, MemoryReservation: docs.host.MemoryReservation / mebibyte},
		Networking:               task.Networking{DNS: task.DNS{Servers: docs.host.DNS, Search: docs.host.DNSSearch, Options: docs.host.DNSOptions}},
		Lifecycle:                task.Lifecycle{StartTimeout: seconds(c.StartTimeout), StopTimeout: seconds(c.StopTimeout)},
		EnvironmentWithoutRegion: withoutRegion(docs.config.Env),
	}
	for _, d := range c.DependsOn {
		out.DependsOn = append(out.DependsOn, task.Dependency{Container: d.ContainerName, Condition: task.Condition(d.Condition)})
	}
	if p := c.RestartPolicy; p != nil && p.Enabled {
		out.Restart = &task.RestartPolicy{IgnoredExitCodes: p.IgnoredExitCodes, AttemptPeriod: seconds(p.RestartAttemptPeriod)}
	}
	for _, part := range []func(*task.Container, *wire.Container, documents, string) error{
		b.spec, b.gpus, b.metadata, b.health, b.managedAgents, b.log, b.ports, b.links, b.hosts, b.volumeMounts,
		b.secrets, b.environmentFiles, b.registry, b.firelens,
	} {
		if err := part(&out, c, docs, path); err != nil {
			return task.Container{}, err
		}
	}
	return out, nil
}

// health is the container's check. Whether it is reported is said by the ECS
// member; the check itself is in the Docker document.
func (b *builder) health(out *task.Container, c *wire.Container, docs documents, path string) error {
	h := docs.config.Healthcheck
	out.ReportHealth = c.HealthCheckType == wire.HealthCheckDocker
	switch {
	case h == nil || len(h.Test) == 0:
		if out.ReportHealth {
			return setUp(path+".healthCheckType", "DockerClientConfigError: docker health check is nil while container health check type is DOCKER")
		}
		if h == nil {
			return nil // The image's own, if it has one, is run and not reported.
		}
	case h.Test[0] == "NONE":
	case h.Test[0] != "CMD" && h.Test[0] != "CMD-SHELL":
		return field(path+".dockerConfig.config.Healthcheck.Test", "%q is not NONE, CMD or CMD-SHELL", h.Test[0])
	case len(h.Test) < 2:
		return field(path+".dockerConfig.config.Healthcheck.Test", "has no command")
	}
	out.HealthCheck = &container.Healthcheck{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
	}
	return nil
}

// managedAgents are what is to run beside the container's process.
func (b *builder) managedAgents(out *task.Container, c *wire.Container, _ documents, path string) error {
	for i, a := range c.ManagedAgents {
		if !slices.Contains(b.ManagedAgents, a.Name) {
			return &UnsupportedError{fmt.Sprintf("%s.managedAgents[%d]", path, i), "the managed agent " + a.Name}
		}
		out.ManagedAgents = append(out.ManagedAgents, task.ManagedAgent{Name: a.Name, Properties: a.Properties})
	}
	return nil
}

// maxSeconds keeps a time-out within what a duration can hold.
const maxSeconds = int64(24 * time.Hour / time.Second * 365)

func seconds(n int64) time.Duration { return time.Duration(min(n, maxSeconds)) * time.Second }

func field(path, format string, args ...any) error {
	return &wire.FieldError{Path: path, Problem: fmt.Sprintf(format, args...)}
}

// unsupportedInTask finds what a task asks for at its own level that there is
// not yet.
func unsupportedInTask(t *wire.Task, path string) error {
	if t.DesiredStatus != wire.DesiredRunning {
		return &UnsupportedError{path + ".desiredStatus", "the desired status " + t.DesiredStatus}
	}
	for i, a := range t.Attachments {
		if a.AttachmentType == wire.AttachmentServiceConnect {
			return &UnsupportedError{fmt.Sprintf("%s.attachments[%d]", path, i), "Service Connect, which needs an agent image that only Amazon has,"}
		}
		if a.AttachmentType != wire.AttachmentEBS && a.AttachmentType != attachmentEBS {
			return &UnsupportedError{fmt.Sprintf("%s.attachments[%d]", path, i), "an attachment of type " + a.AttachmentType}
		}
	}
	for i, c := range t.Containers {
		if err := unsupportedInContainer(c, fmt.Sprintf("%s.containers[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func unsupportedInContainer(c *wire.Container, path string) error {
	switch {
	case len(c.CredentialSpecs) > 0:
		return &UnsupportedError{path + ".credentialSpecs", "a credential spec"}
	}
	return nil
}

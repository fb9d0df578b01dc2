package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table lists every setting there is. Later rows may overwrite what earlier ones set (TaskMetadataSteadyStateRate and its variable).
func table() []row {
	return slices.Concat(
		identityRows(), instanceRows(), pathRows(), engineRows(), imageRows(), networkRows(), metadataRows(), metricsRows(),
		capabilityRows(), agentRows(), berthRows(), awsRows(), unusedRows(),
	)
}

func identityRows() []row {
	return []row{
		field[string]{env: "ECS_CLUSTER", key: "Cluster", also: []string{"ClusterArn"}, kind: texts(), at: func(c *Config) *string { return &c.Cluster }}.row(),
		field[string]{env: "AWS_DEFAULT_REGION", key: "AWSRegion", kind: texts(), at: func(c *Config) *string { return &c.Region }}.row(),
		field[string]{env: "ECS_BACKEND_HOST", key: "APIEndpoint", kind: texts(), at: func(c *Config) *string { return &c.Endpoint }}.row(),
		field[bool]{env: "ECS_EXTERNAL", key: "External", kind: booleans(), at: func(c *Config) *bool { return &c.External }}.row(),
		field[string]{env: "ECS_INSTANCE_IP_COMPATIBILITY", kind: words[string](false, "ipv4", "ipv6"), at: func(c *Config) *string { return &c.IPCompatibility }}.row(),
	}
}

func instanceRows() []row {
	ports := lists[uint16]("a JSON list of ports, such as [22,8080]")
	return []row{
		field[map[string]string]{env: "ECS_INSTANCE_ATTRIBUTES", key: "InstanceAttributes", kind: maps(), fatal: true, at: func(c *Config) *map[string]string { return &c.Instance.Attributes }}.row(),
		field[map[string]string]{env: "ECS_CONTAINER_INSTANCE_TAGS", key: "ContainerInstanceTags", kind: maps(), fatal: true, at: func(c *Config) *map[string]string { return &c.Instance.Tags }}.row(),
		field[bool]{env: "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", key: "ContainerInstancePropagateTagsFrom", kind: tagSources(), at: func(c *Config) *bool { return &c.Instance.PropagateTags }}.row(),
		field[[]uint16]{env: "ECS_RESERVED_PORTS", key: "ReservedPorts", kind: ports, at: func(c *Config) *[]uint16 { return &c.Instance.ReservedPorts }}.row(),
		field[[]uint16]{env: "ECS_RESERVED_PORTS_UDP", key: "ReservedPortsUDP", kind: ports, at: func(c *Config) *[]uint16 { return &c.Instance.ReservedPortsUDP }}.row(),
		field[uint16]{env: "ECS_RESERVED_MEMORY", key: "ReservedMemory", kind: uint16s(), at: func(c *Config) *uint16 { return &c.Instance.ReservedMemory }}.row(),
		field[string]{env: "ECS_DETAILED_OS_FAMILY", kind: texts(), at: func(c *Config) *string { return &c.Instance.DetailedOSFamily }}.row(),
		field[bool]{env: "ECS_ENABLE_SPOT_INSTANCE_DRAINING", key: "SpotInstanceDrainingEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Instance.SpotDraining }}.row(),
		field[bool]{env: "ECS_WARM_POOLS_CHECK", key: "WarmPoolsSupport", kind: booleans(), at: func(c *Config) *bool { return &c.Instance.WarmPoolsCheck }}.row(),
		field[bool]{key: "NoIID", kind: booleans(), at: func(c *Config) *bool { return &c.Instance.NoInstanceDocument }}.row(),
	}
}

func pathRows() []row {
	return []row{
		field[string]{env: "ECS_DATADIR", key: "DataDir", kind: texts(), bound: dataDir, at: func(c *Config) *string { return &c.Paths.Data }}.row(),
		field[string]{env: "ECS_UPDATE_DOWNLOAD_DIR", key: "UpdateDownloadDir", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.Updates }}.row(),
		field[string]{env: "ECS_AUDIT_LOGFILE", key: "CredentialsAuditLogFile", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.AuditLog }}.row(),
		field[bool]{env: "ECS_AUDIT_LOGFILE_DISABLED", key: "CredentialsAuditLogDisabled", kind: booleans(), at: func(c *Config) *bool { return &c.Metadata.AuditDisabled }}.row(),
	}
}

func engineRows() []row {
	return []row{
		field[time.Duration]{env: "ECS_CONTAINER_STOP_TIMEOUT", key: "DockerStopTimeout", kind: durations(), bound: atLeast(time.Second, true), at: func(c *Config) *time.Duration { return &c.Task.StopTimeout }}.row(),
		field[time.Duration]{env: "ECS_CONTAINER_START_TIMEOUT", key: "ContainerStartTimeout", kind: durations(), bound: atLeast(45*time.Second, true), at: func(c *Config) *time.Duration { return &c.Task.StartTimeout }}.row(),
		field[time.Duration]{env: "ECS_CONTAINER_CREATE_TIMEOUT", key: "ContainerCreateTimeout", kind: durations(), bound: atLeast(time.Minute, false), at: func(c *Config) *time.Duration { return &c.Task.CreateTimeout }}.row(),
		field[time.Duration]{env: "BERTH_SHUTDOWN_TIMEOUT", kind: durations(), bound: between(time.Second, MaxShutdownTimeout), at: func(c *Config) *time.Duration { return &c.Task.ShutdownTimeout }}.row(),
		field[time.Duration]{env: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", key: "TaskCleanupWaitDuration", kind: durations(), bound: notBelow(time.Second), at: func(c *Config) *time.Duration { return &c.Task.CleanupWait }}.row(),
		field[time.Duration]{env: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", key: "TaskCleanupWaitDurationJitter", kind: durations(), bound: notBelow(time.Duration(0)), at: func(c *Config) *time.Duration { return &c.Task.CleanupJitter }}.row(),
		field[bool]{env: "ECS_DISABLE_DOCKER_HEALTH_CHECK", key: "DisableDockerHealthCheck", kind: booleans(), at: func(c *Config) *bool { return &c.Task.DisableHealthChecks }}.row(),
		field[bool]{env: "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", key: "SharedVolumeMatchFullConfig", kind: booleans(), at: func(c *Config) *bool { return &c.Task.SharedVolumeFullMatch }}.row(),
		field[bool]{env: "ECS_CHECKPOINT", key: "Checkpoint", kind: booleans(), at: func(c *Config) *bool { return &c.Task.Checkpoint }}.row(),

		field[bool]{env: "ECS_ENABLE_TASK_CPU_MEM_LIMIT", key: "TaskCPUMemLimit", kind: booleans(), at: func(c *Config) *bool { return &c.Cgroup.TaskLimits }}.row(),
		field[string]{env: "ECS_CGROUP_PATH", key: "CgroupPath", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Cgroup.Root }}.row(),
		field[time.Duration]{env: "ECS_CGROUP_CPU_PERIOD", kind: durations(), bound: within(8*time.Millisecond, 100*time.Millisecond), at: func(c *Config) *time.Duration { return &c.Cgroup.CPUPeriod }}.row(),
		field[int]{env: "ECS_TASK_PIDS_LIMIT", key: "TaskPidsLimit", kind: integers(), bound: within(1, 4194304), at: func(c *Config) *int { return &c.Cgroup.TaskPidsLimit }}.row(),
		field[bool]{env: "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2", key: "PropagateTaskMemoryLimitCgroupV2", kind: booleans(), at: func(c *Config) *bool { return &c.Cgroup.PropagateMemoryLimit }}.row(),
	}
}

func imageRows() []row {
	behaviors := words(true, PullDefault, PullAlways, PullOnce, PullPreferCached)
	return []row{
		field[PullBehavior]{env: "ECS_IMAGE_PULL_BEHAVIOR", key: "ImagePullBehavior", kind: behaviors, at: func(c *Config) *PullBehavior { return &c.Image.PullBehavior }}.row(),
		field[bool]{env: "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", key: "DependentContainersPullUpfront", kind: booleans(), at: func(c *Config) *bool { return &c.Image.PullUpfront }}.row(),
		field[time.Duration]{env: "ECS_MANIFEST_PULL_TIMEOUT", key: "ManifestPullTimeout", kind: durations(), bound: atLeast(30*time.Second, false), at: func(c *Config) *time.Duration { return &c.Image.ManifestTimeout }}.row(),
		field[time.Duration]{env: "ECS_IMAGE_PULL_TIMEOUT", key: "ImagePullTimeout", kind: durations(), bound: notBelow(time.Duration(1)), at: func(c *Config) *time.Duration { return &c.Image.PullTimeout }}.row(),
		field[time.Duration]{env: "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", key: "ImagePullInactivityTimeout", kind: durations(), bound: atLeast(time.Minute, false), at: func(c *Config) *time.Duration { return &c.Image.InactivityTimeout }}.row(),
		field[string]{env: "ECS_ENGINE_AUTH_TYPE", key: "EngineAuthType", kind: words[string](false, "docker", "dockercfg"), at: func(c *Config) *string { return &c.Image.AuthType }}.row(),
		field[Secret]{env: "ECS_ENGINE_AUTH_DATA", key: "EngineAuthData", kind: secrets(), secret: true, at: func(c *Config) *Secret { return &c.Image.AuthData }}.row(),
		field[bool]{env: "ECS_DISABLE_IMAGE_CLEANUP", key: "ImageCleanupDisabled", kind: booleans(), at: func(c *Config) *bool { return &c.Image.CleanupDisabled }}.row(),
		field[time.Duration]{env: "ECS_IMAGE_CLEANUP_INTERVAL", key: "ImageCleanupInterval", kind: durations(), bound: notBelow(10 * time.Minute), at: func(c *Config) *time.Duration { return &c.Image.CleanupInterval }}.row(),
		field[time.Duration]{env: "ECS_IMAGE_MINIMUM_CLEANUP_AGE", key: "MinimumImageDeletionAge", kind: durations(), bound: notBelow(time.Duration(0)), at: func(c *Config) *time.Duration { return &c.Image.MinimumAge }}.row(),
		field[int]{env: "ECS_NUM_IMAGES_DELETE_PER_CYCLE", key: "NumImagesToDeletePerCycle", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Image.PerCycle }}.row(),
		field[[]string]{env: "ECS_EXCLUDE_UNTRACKED_IMAGE", key: "ImageCleanupExclusionList", kind: commaLists(), at: func(c *Config) *[]string { return &c.Image.Excluded }}.row(),
		field[bool]{env: "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", key: "DeleteNonECSImagesEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Image.CleanupUntracked }}.row(),
		field[time.Duration]{env: "NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", key: "NonECSMinimumImageDeletionAge", kind: durations(), bound: notBelow(time.Duration(0)), at: func(c *Config) *time.Duration { return &c.Image.UntrackedMinimumAge }}.row(),
		field[int]{env: "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", key: "NumNonECSContainersToDeletePerCycle", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Image.UntrackedPerCycle }}.row(),
	}
}

// tagSources reads none and ec2_instance, in JSON 0 and 1, as whether to propagate.
func tagSources() kind[bool] {
	k := words[string](true, "none", "ec2_instance")
	return kind[bool]{
		form: k.form,
		parse: func(s string) (bool, error) {
			w, err := k.parse(s)
			return w == "ec2_instance", err
		},
		decode: func(raw json.RawMessage) (bool, error) {
			w, err := k.decode(raw)
			return w == "ec2_instance", err
		},
		show: func(v bool) string {
			if v {
				return "ec2_instance"
			}
			return "none"
		},
		zero: func(v bool) bool { return !v },
	}
}

func absolute(v string, _ bool) (string, string, error) {
	if !strings.HasPrefix(v, "/") {
		return v, "", errors.New("not an absolute path")
	}
	return v, "", nil
}

// dataDir passes over /data, which is where the ECS agent's container sees its directory and which many config files repeat.
func dataDir(v string, _ bool) (string, string, error) {
	if strings.TrimRight(v, "/") == "/data" {
		return DefaultDataDir, "/data is a path inside the container of the ECS agent; Berth keeps its state in " + DefaultDataDir, nil
	}
	return absolute(v, false)
}

// rateLimit reads ECS_TASK_METADATA_RPS_LIMIT, rate and burst in one.
func rateLimit() row {
	return row{
		name: "ECS_TASK_METADATA_RPS_LIMIT", env: true, form: "rate,burst, such as 40,60",
		set: func(c *Config, in input) (bool, string, error) {
			if strings.TrimSpace(in.text) == "" {
				return false, "", nil
			}
			a, b, _ := strings.Cut(in.text, ",")
			rate, errA := strconv.Atoi(strings.TrimSpace(a))
			burst, errB := strconv.Atoi(strings.TrimSpace(b))
			if errA != nil || errB != nil || rate <= 0 || burst <= 0 {
				return false, "", errors.New("not two positive numbers")
			}
			c.Metadata.Rate, c.Metadata.Burst = rate, burst
			return true, "", nil
		},
		show: func(c *Config) string { return fmt.Sprintf("%d,%d", c.Metadata.Rate, c.Metadata.Burst) },
	}
}

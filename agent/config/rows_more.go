package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

func networkRows() []row {
	return []row{
		field[bool]{env: "ECS_ENABLE_TASK_ENI", key: "TaskENIEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Network.TaskENI }}.row(),
		field[bool]{env: "ECS_ENABLE_HIGH_DENSITY_ENI", kind: booleans(), at: func(c *Config) *bool { return &c.Network.HighDensityENI }}.row(),
		field[bool]{env: "ECS_AWSVPC_BLOCK_IMDS", key: "AWSVPCBlockInstanceMetdata", kind: booleans(), at: func(c *Config) *bool { return &c.Network.AWSVPCBlockIMDS }}.row(),
		field[[]string]{env: "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", key: "AWSVPCAdditionalLocalRoutes", kind: lists[string](`a JSON list of CIDRs, such as ["10.0.0.0/8"]`), bound: cidrs, fatal: true, at: func(c *Config) *[]string { return &c.Network.AWSVPCLocalRoutes }}.row(),
		field[string]{key: "OverrideAWSVPCLocalIPv4Address", kind: texts(), bound: cidr, at: func(c *Config) *string { return &c.Network.AWSVPCLocalIPv4 }}.row(),
		field[PortRange]{env: "ECS_DYNAMIC_HOST_PORT_RANGE", kind: portRanges(), at: func(c *Config) *PortRange { return &c.Network.DynamicPorts }}.row(),
		field[bool]{env: "ECS_EXCLUDE_IPV6_PORTBINDING", key: "ShouldExcludeIPv6PortBinding", kind: booleans(), at: func(c *Config) *bool { return &c.Network.ExcludeIPv6Bindings }}.row(),
		field[bool]{env: "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER", kind: booleans(), at: func(c *Config) *bool { return &c.Network.SkipLocalhostFilter }}.row(),
	}
}

func metadataRows() []row {
	return []row{
		field[int]{key: "TaskMetadataSteadyStateRate", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Metadata.Rate }}.row(),
		field[int]{key: "TaskMetadataBurstRate", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Metadata.Burst }}.row(),
		rateLimit(),
		field[string]{env: "ECS_LOG_ROLLOVER_TYPE", kind: words[string](false, "size", "hourly"), at: func(c *Config) *string { return &c.Metadata.AuditRollover }}.row(),
		field[int]{env: "ECS_LOG_MAX_FILE_SIZE_MB", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Metadata.AuditMaxMB }}.row(),
		field[int]{env: "ECS_LOG_MAX_ROLL_COUNT", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Metadata.AuditKeep }}.row(),
		field[bool]{env: "ECS_DISABLE_TASK_METADATA_AZ", key: "TaskMetadataAZDisabled", kind: booleans(), at: func(c *Config) *bool { return &c.Metadata.HideZone }}.row(),
		field[bool]{env: "ECS_ENABLE_CONTAINER_METADATA", key: "ContainerMetadataEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Metadata.ContainerFile }}.row(),
		field[bool]{env: "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", kind: booleans(), at: func(c *Config) *bool { return &c.Metadata.IntrospectionOffhost }}.row(),
		field[bool]{env: "ECS_ENABLE_RUNTIME_STATS", key: "EnableRuntimeStats", kind: booleans(), at: func(c *Config) *bool { return &c.Metadata.Profiling }}.row(),
	}
}

func metricsRows() []row {
	return []row{
		field[bool]{env: "ECS_DISABLE_METRICS", key: "DisableMetrics", kind: booleans(), at: func(c *Config) *bool { return &c.Metrics.Disabled }}.row(),
		field[bool]{env: "ECS_POLL_METRICS", key: "PollMetrics", kind: booleans(), at: func(c *Config) *bool { return &c.Metrics.Poll }}.row(),
		field[time.Duration]{env: "ECS_POLLING_METRICS_WAIT_DURATION", key: "PollingMetricsWaitDuration", kind: durations(), bound: between(5*time.Second, 20*time.Second), at: func(c *Config) *time.Duration { return &c.Metrics.PollWait }}.row(),
	}
}

func capabilityRows() []row {
	names := lists[string](`a JSON list of names, such as ["awslogs"]`)
	return []row{
		field[[]string]{env: "ECS_AVAILABLE_LOGGING_DRIVERS", key: "AvailableLoggingDrivers", kind: names, bound: loggingDrivers, at: func(c *Config) *[]string { return &c.Capability.LoggingDrivers }}.row(),
		field[bool]{env: "ECS_DISABLE_PRIVILEGED", key: "PrivilegedDisabled", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.PrivilegedDisabled }}.row(),
		field[bool]{env: "ECS_ENABLE_GPU_SUPPORT", key: "GPUSupportEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.GPU }}.row(),
		field[bool]{env: "ECS_SELINUX_CAPABLE", key: "SELinuxCapable", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.SELinux }}.row(),
		field[bool]{env: "ECS_APPARMOR_CAPABLE", key: "AppArmorCapable", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.AppArmor }}.row(),
		field[bool]{env: "ECS_ENABLE_TASK_IAM_ROLE", key: "TaskIAMRoleEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.TaskIAMRole }}.row(),
		field[bool]{env: "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", key: "TaskIAMRoleEnabledForNetworkHost", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.TaskIAMRoleHost }}.row(),
		field[bool]{env: "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", key: "OverrideAWSLogsExecutionRole", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.AWSLogsExecutionRole }}.row(),
		field[[]string]{env: "ECS_VOLUME_PLUGIN_CAPABILITIES", key: "VolumePluginCapabilities", kind: names, at: func(c *Config) *[]string { return &c.Capability.VolumePlugins }}.row(),
		field[bool]{env: "ECS_EBSTA_SUPPORTED", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.EBSVolumes }}.row(),
		field[bool]{env: "ECS_ENABLE_FIRELENS_ASYNC", key: "FirelensAsyncEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Capability.FirelensAsync }}.row(),
	}
}

func agentRows() []row {
	return []row{
		field[int]{env: "BERTH_LOG_QUEUE_MB", kind: integers(), bound: notBelow(1), at: func(c *Config) *int { return &c.Agent.LogQueueMB }}.row(),
		field[string]{env: "ECS_LOGLEVEL", kind: words[string](false, "crit", "error", "warn", "info", "debug", "none"), at: func(c *Config) *string { return &c.Agent.LogLevel }}.row(),
		field[string]{env: "ECS_LOG_OUTPUT_FORMAT", kind: words[string](false, "logfmt", "json"), at: func(c *Config) *string { return &c.Agent.LogFormat }}.row(),
		field[string]{env: "BERTH_UPDATE_SOURCE", kind: texts(), at: func(c *Config) *string { return &c.Agent.UpdateSource }}.row(),
		field[string]{env: "BERTH_UPDATE_ROOT", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Agent.UpdateRoot }}.row(),
		field[time.Duration]{env: "BERTH_UPDATE_DEADLINE", kind: durations(), bound: within(5*time.Second, 30*time.Minute), at: func(c *Config) *time.Duration { return &c.Agent.UpdateDeadline }}.row(),
		field[time.Duration]{env: "BERTH_UPDATE_SPREAD", kind: durations(), bound: between(0, 10*time.Minute), at: func(c *Config) *time.Duration { return &c.Agent.UpdateSpread }}.row(),
		field[bool]{env: "ECS_UPDATES_ENABLED", key: "UpdatesEnabled", kind: booleans(), at: func(c *Config) *bool { return &c.Agent.UpdatesEnabled }}.row(),
	}
}

func berthRows() []row {
	return []row{
		field[string]{env: "CONTAINERD_ADDRESS", kind: texts(), bound: socketPath, at: func(c *Config) *string { return &c.Containerd.Address }}.row(),
		field[string]{env: "BERTH_CONTAINERD_ADDRESS", kind: texts(), bound: socketPath, at: func(c *Config) *string { return &c.Containerd.Address }}.row(),
		field[string]{env: "BERTH_CONTAINERD_NAMESPACE", kind: texts(), at: func(c *Config) *string { return &c.Containerd.Namespace }}.row(),
		field[string]{env: "BERTH_SNAPSHOTTER", kind: texts(), at: func(c *Config) *string { return &c.Containerd.Snapshotter }}.row(),
		field[string]{env: "BERTH_CGROUP_DRIVER", kind: words[string](false, "auto", "systemd", "cgroupfs"), at: func(c *Config) *string { return &c.Cgroup.Driver }}.row(),
		field[int]{env: "BERTH_IMAGE_DISK_HIGH", kind: integers(), bound: within(0, 100), at: func(c *Config) *int { return &c.Image.DiskHigh }}.row(),
		field[int]{env: "BERTH_IMAGE_DISK_LOW", kind: integers(), bound: within(0, 100), at: func(c *Config) *int { return &c.Image.DiskLow }}.row(),
		field[string]{env: "BERTH_BRIDGE", kind: texts(), bound: interfaceName, at: func(c *Config) *string { return &c.Network.Bridge }}.row(),
		field[string]{env: "BERTH_BRIDGE_SUBNET", kind: texts(), bound: subnet(true), fatal: true, at: func(c *Config) *string { return &c.Network.Subnet }}.row(),
		field[string]{env: "BERTH_BRIDGE_SUBNET_IPV6", kind: texts(), bound: subnet(false), fatal: true, at: func(c *Config) *string { return &c.Network.SubnetIPv6 }}.row(),
		field[bool]{env: "BERTH_BLOCK_IMDS", kind: booleans(), at: func(c *Config) *bool { return &c.Network.BlockIMDS }}.row(),
		field[string]{env: "BERTH_CDI_DIR", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.CDI }}.row(),
		field[string]{env: "BERTH_EBS_DIR", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.EBS }}.row(),
		field[string]{env: "BERTH_EXECUTE_COMMAND_DIR", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.Exec }}.row(),
		field[string]{env: "BERTH_EXECUTE_COMMAND_LOG_DIR", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.ExecLogs }}.row(),
		field[string]{env: "BERTH_RUN_DIR", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.Run }}.row(),
		field[string]{env: "BERTH_SOCKET", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.Socket }}.row(),
		field[string]{env: "BERTH_LOG_SOCKET", kind: texts(), bound: absolute, at: func(c *Config) *string { return &c.Paths.LogSocket }}.row(),
		field[string]{env: "BERTH_TASK_METADATA_ADDRESS", kind: texts(), bound: loopback, at: func(c *Config) *string { return &c.Metadata.Listen }}.row(),
		field[string]{env: "BERTH_INTROSPECTION_ADDRESS", kind: texts(), bound: address, at: func(c *Config) *string { return &c.Metadata.Introspection }}.row(),
	}
}

func awsRows() []row {
	return []row{
		// AWS_REGION is the SDK's newer word; AWS_DEFAULT_REGION, the one ECS documents, wins: see Load.
		field[Secret]{env: "AWS_ACCESS_KEY_ID", kind: secrets(), secret: true, at: func(c *Config) *Secret { return &c.AWS.AccessKeyID }}.row(),
		field[Secret]{env: "AWS_SECRET_ACCESS_KEY", kind: secrets(), secret: true, at: func(c *Config) *Secret { return &c.AWS.SecretAccessKey }}.row(),
		field[Secret]{env: "AWS_SESSION_TOKEN", kind: secrets(), secret: true, at: func(c *Config) *Secret { return &c.AWS.SessionToken }}.row(),
		field[string]{env: "AWS_PROFILE", kind: texts(), at: func(c *Config) *string { return &c.AWS.Profile }}.row(),
		field[string]{env: "ECS_ALTERNATE_CREDENTIAL_PROFILE", kind: texts(), at: func(c *Config) *string { return &c.AWS.Profile }}.row(),
		field[string]{env: "AWS_SHARED_CREDENTIALS_FILE", kind: texts(), at: func(c *Config) *string { return &c.AWS.SharedCredentialsFile }}.row(),
		field[bool]{env: "AWS_EC2_METADATA_DISABLED", kind: booleans(), at: func(c *Config) *bool { return &c.AWS.MetadataDisabled }}.row(),
		field[string]{env: "AWS_EC2_METADATA_SERVICE_ENDPOINT", kind: texts(), at: func(c *Config) *string { return &c.AWS.MetadataEndpoint }}.row(),
		field[string]{env: "AWS_CA_BUNDLE", kind: texts(), at: func(c *Config) *string { return &c.AWS.CABundle }}.row(),
		field[bool]{env: "AWS_USE_FIPS_ENDPOINT", kind: booleans(), at: func(c *Config) *bool { return &c.AWS.FIPS }}.row(),
		field[bool]{env: "AWS_USE_DUALSTACK_ENDPOINT", kind: booleans(), at: func(c *Config) *bool { return &c.AWS.DualStack }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.All }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL_ECR", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.ECR }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.Logs }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL_S3", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.S3 }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL_SECRETS_MANAGER", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.SecretsManager }}.row(),
		field[string]{env: "AWS_ENDPOINT_URL_SSM", kind: texts(), bound: endpoint, at: func(c *Config) *string { return &c.AWS.Endpoints.SSM }}.row(),
		// A proxy's address may hold a password.
		field[string]{env: "HTTP_PROXY", kind: texts(), secret: true, at: func(c *Config) *string { return &c.Proxy.HTTP }}.row(),
		field[string]{env: "HTTPS_PROXY", kind: texts(), secret: true, at: func(c *Config) *string { return &c.Proxy.HTTPS }}.row(),
		field[string]{env: "NO_PROXY", kind: texts(), at: func(c *Config) *string { return &c.Proxy.No }}.row(),
	}
}

// loggingDrivers refuses names that no ECS agent knows (task-engine.md §11.1); which of them this host can serve is not asked here.
func loggingDrivers(v []string, _ bool) ([]string, string, error) {
	known := []string{
		"json-file", "syslog", "journald", "gelf", "logentries", "fluentd", "awslogs", "splunk", "sumologiccollector", "awsfirelens", "none",
	}
	var unknown []string
	for _, d := range v {
		if !slices.Contains(known, d) {
			unknown = append(unknown, d)
		}
	}
	if len(unknown) > 0 {
		return nil, "", fmt.Errorf("%w: Invalid logging drivers: %s", ErrInvalid, strings.Join(unknown, ", "))
	}
	return v, "", nil
}

// endpoint refuses what is no URL of a server.
func endpoint(v string, _ bool) (string, string, error) {
	u, err := url.Parse(v)
	if v == "" || (err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "") {
		return v, "", nil
	}
	return "", "", errors.New("not an http or https URL")
}

func cidr(v string, _ bool) (string, string, error) {
	if _, err := netip.ParsePrefix(v); err != nil {
		return v, "", errors.New("not a CIDR")
	}
	return v, "", nil
}

func cidrs(v []string, _ bool) ([]string, string, error) {
	for _, s := range v {
		if _, err := netip.ParsePrefix(s); err != nil {
			return nil, "", fmt.Errorf("%q is not a CIDR", s)
		}
	}
	return v, "", nil
}

// subnet accepts a network of one family; a bridge on the wrong addresses cuts off hosts, so anything else is fatal.
func subnet(v4 bool) bound[string] {
	return func(v string, _ bool) (string, string, error) {
		p, err := netip.ParsePrefix(v)
		switch {
		case err != nil:
			return v, "", errors.New("not a CIDR such as 172.31.240.0/20 or fd00:be::/64")
		case p.Addr().Is4() != v4:
			return v, "", errors.New("wrong address family")
		default:
			return p.Masked().String(), "", nil
		}
	}
}

func interfaceName(v string, _ bool) (string, string, error) {
	if len(v) > 15 || strings.ContainsAny(v, "/ \t") {
		return v, "", errors.New("not an interface name: at most 15 bytes, no slash, no space")
	}
	return v, "", nil
}

// socketPath accepts a path and unix://path, as containerd's own tools do.
func socketPath(v string, _ bool) (string, string, error) {
	return absolute(strings.TrimPrefix(v, "unix://"), false)
}

// loopback is the address of a port that nobody but this host reaches.
func loopback(v string, _ bool) (string, string, error) {
	if a, err := netip.ParseAddrPort(v); err != nil || !a.Addr().Is4() || !a.Addr().IsLoopback() {
		return v, "", errors.New("not an IPv4 address:port of this host alone, such as 127.0.0.1:51679")
	}
	return v, "", nil
}

func address(v string, _ bool) (string, string, error) {
	if _, err := netip.ParseAddrPort(v); err != nil {
		return v, "", errors.New("not address:port, such as 127.0.0.1:51678")
	}
	return v, "", nil
}

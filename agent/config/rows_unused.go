package config

// unusedRows lists what the ECS agent knows and Berth has no use for. Each is named, with its reason, in one line at start-up if
// somebody set it.
func unusedRows() []row {
	const (
		containerd = "Berth has no Docker: it speaks to containerd (BERTH_CONTAINERD_ADDRESS)"
		plugins    = "Berth makes networks itself, without plugins"
		journal    = "Berth logs to the journal"
		direct     = "Berth runs on the host, not in a container"
		pause      = "Berth holds a task's network namespace itself and needs no pause container"
		ebs        = "Berth mounts EBS volumes itself, without a CSI driver"
		gpu        = "Neuron devices are not supported"
		gmsa       = "gMSA is not supported"
		roles      = "Berth always keeps role credentials in memory only"
		initProc   = "there is no ecs-init: systemd runs Berth"
	)
	return []row{
		unused(containerd, "DOCKER_HOST", "DockerEndpoint"),
		unused(direct, "ECS_HOST_DATA_DIR", "DataDirOnHost"),
		unused(plugins, "ECS_CNI_PLUGINS_PATH", "CNIPluginsPath"),
		unused(pause, "ECS_PAUSE_LABELS"),
		unused("Berth gives GPUs through CDI and needs no runtime of their own", "ECS_NVIDIA_RUNTIME", "NvidiaRuntime"),
		unused(gpu, "ECS_ENABLE_INF_SUPPORT", "InferentiaSupportEnabled"),
		unused(gmsa, "ECS_GMSA_SUPPORTED"),
		unused(gmsa, "CREDENTIALS_FETCHER_HOST"),
		unused(gmsa, "CREDENTIALS_FETCHER_HOST_DIR"),
		unused(gmsa, "CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA"),
		unused(gmsa, "ECS_DOMAIN_JOINED_LINUX_INSTANCE"),
		unused("metrics are served at /metrics of the introspection API, whether or not it is set", "ECS_ENABLE_PROMETHEUS_METRICS"),
		unused("the introspection API is asked where it listens (BERTH_INTROSPECTION_ADDRESS)", "ECS_AGENT_HEALTHCHECK_HOST"),
		unused(journal, "ECS_LOGLEVEL_ON_INSTANCE"),
		unused(journal, "ECS_LOGFILE"),
		unused(journal, "ECS_LOG_DRIVER"),
		unused(journal, "ECS_LOG_OPTS"),
		unused("Windows only", "ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED"),
		unused("the introspection API listens on loopback unless off-host access is allowed", "ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME"),
		unused(initProc, "ECS_AGENT_LABELS"),
		unused(initProc, "ECS_AGENT_APPARMOR_PROFILE"),
		unused(initProc, "ECS_AGENT_PID_NAMESPACE_HOST"),
		unused(initProc, "ECS_AGENT_RUN_PRIVILEGED"),
		unused(initProc, "ECS_INIT_DOCKER_LOG_FILE_SIZE"),
		unused(initProc, "ECS_INIT_DOCKER_LOG_FILE_NUM"),
		unusedKey(pause, "PauseContainerTarballPath"),
		unusedKey(pause, "PauseContainerImageName"),
		unusedKey(pause, "PauseContainerTag"),
		unusedKey(pause, "ENIPauseContainerCleanupDelaySeconds"),
		unusedKey(ebs, "CSIDriverSocketPath"),
		unusedKey(ebs, "NodeStageTimeout"),
		unusedKey(ebs, "NodeUnstageTimeout"),
		unusedKey(journal, "RuntimeStatsLogFile"),
		unusedKey(roles, "IMDSIAMRolesEnabled"),
	}
}

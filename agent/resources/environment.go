package resources

import "strings"

// name is the part of K=V before the first equals sign.
func name(kv string) string {
	n, _, _ := strings.Cut(kv, "=")
	return n
}

// reserved are the variables that the agent sets late: no environment file may
// take them (spec/task-engine.md §6, steps 5 and 8). The map is the caller's.
func reserved() map[string]bool {
	return map[string]bool{
		"ECS_CONTAINER_METADATA_URI": true, "ECS_CONTAINER_METADATA_URI_V4": true, "ECS_AGENT_URI": true,
		"ECS_CONTAINER_METADATA_FILE": true,
	}
}

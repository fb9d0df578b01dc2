// Package prom prints the newest readings as OpenMetrics text, or as the older Prometheus text for whoever asks for that.
//
// Each container has the labels cluster, task_id, family, revision and container; a whole task has all but the last and the prefix
// berth_task_ instead of berth_container_. There is no label with the container id or the ARN: they would only multiply the series.
//
// The figure that ECS is sent stands beside those an engineer wants: memory_ecs_bytes is what MemoryUtilization is made from,
// memory_working_set_bytes, anon, file, slab and peak tell what the memory is. All counters go on over restarts of a container.
package prom

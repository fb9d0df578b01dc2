// Package cgroups makes the cgroup of a task, which holds those of its
// containers and bounds them together (spec/task-engine.md §5.3). Names are
// those of the ECS agent, so that what watches them goes on to work:
//
//	cgroup v1            /ecs/<taskid>/<containerid>, in every controller
//	cgroup v2, cgroupfs  ecstasks.slice/ecstasks-<taskid>.slice/<containerid>
//	cgroup v2, systemd   ecstasks.slice/ecstasks-<taskid>.slice/berth-<containerid>.scope
//
// The cgroupfs driver writes files; the systemd driver asks systemd for
// transient slices, as one should where systemd owns the tree.
package cgroups

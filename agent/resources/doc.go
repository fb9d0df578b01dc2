// Package resources makes what tasks need beside images, network and cgroup:
// secrets, environment files, registry credentials, and what other parts add. It
// conducts; what talks to the world is handed in by the interfaces declared here.
//
//	            ┌─▶ secrets ──────────┐
//	Provision ──┼─▶ environment files ┼─▶ merged, in the order of the parts ─▶ finish ─▶ Outfits
//	            └─▶ …                 ┘
//
// The parts of a task that the task wants work at once; the first that fails ends
// the others, and its words become the task's reason (spec/task-engine.md §1.7). A
// part that a task has no use for is not asked. Then those parts that have to see
// what the others made (a log router is configured with secrets) finish, one
// after the other.
//
// What is fetched is in memory only: after a restart of the agent it is fetched
// again for containers that are still to be created. Values are never logged.
package resources

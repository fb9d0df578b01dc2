// Package ctrd runs containers with containerd: it is the container.Runtime
// that Berth uses on a host. It speaks to any containerd from 1.6 on, over its
// socket, in a namespace of its own.
//
// What containerd keeps is the truth; this package holds only caches. A
// container is three things there:
//
//	record    labels, the OCI spec, and an extension (record.go) that has what
//	          List must give back
//	snapshot  its root file system, keyed by the container's ID
//	task      the process, held by a shim; containers of one Group share a shim
//
// How a Status follows from them:
//
//	record, no task, not marked started      Created
//	task created or running                  Running
//	task stopped                             Stopped, exit from the task
//	record marked with an exit               Stopped, exit from the mark
//	marked started, no exit and no task      Stopped, exit not known: the host
//	                                         rebooted, or the shim was killed
//
// When init exits, the runtime reads the out-of-memory counters of its cgroup,
// marks the record with the exit, and only then deletes the task, so that a
// stopped container costs no shim. Until that is done the task itself answers.
package ctrd

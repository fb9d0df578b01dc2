// Command bench measures Berth beside a bare containerd client, in one run and
// against one containerd, and prints what it found beside the goals of the
// design. `make bench` runs it.
//
//	go run ./agent/e2e/bench [-berth FILE] [-json] [-n 30] [-rounds 3] [-idle 20s] [-profile DIR]
//
// Absolute figures depend on the machine and on what else it does, so each has
// its bare counterpart measured in turn with it: container from the cached image,
// NewTask with null IO, Start, and no network. What a figure says of Berth is the
// ratio of the two. A second bare client has Docker's seccomp profile, which every
// task has too: runc compiles it for each container, and on a small host that is
// half of what a start costs beyond the floor.
//
//	start    payload handed to the websocket → RUNNING arrived, one port published
//	stop     payload that stops → STOPPED arrived, a container that obeys SIGTERM
//	burst    40 tasks in one payload; the bare client starts 40 with as many at once
//	idle     memory and CPU with 30 tasks that do nothing
//	restart  kill -9, or SIGTERM, with 30 tasks → adopted, and → connected again
//
// All of it happens in network, mount and process namespaces of its own, with a
// containerd of its own and the local cluster in this process. When the process
// that holds them ends, however it does, the kernel ends everything in them.
//
// The exit code is 0 when all was measured, over a goal or not, and 1 when
// something could not be.
package main

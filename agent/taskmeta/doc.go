// Package taskmeta is the HTTP server that containers reach at 169.254.170.2: it
// tells them who they are, gives them their role's credentials, and takes what
// they may ask of the agent (spec/host.md §1). It speaks versions 2, 3 and 4 of
// the metadata, and the Docker shape of statistics, byte for byte as tools that
// were written for the ECS agent expect them.
//
//	container ─▶ 169.254.170.2:80 ─▶ (nftables) ─▶ Server ─┬─ metadata, stats ── Index, Stats
//	                                   │                   ├─ credentials ────── credentials.Store, audit log
//	                                   ▼                   ├─ protection ───────── ECS, with the task's role
//	                            who is it? (caller)            └─ faults ───────────── Faults
//
// # Who is calling
//
// An address tells: every container in bridge mode, and every awsvpc task, has
// one of its own, and runtime/network lets nobody send with another's. A caller
// from the host's own network namespace, a container in host network mode among
// them, is known by the control group of its socket, which the kernel tells
// (sock_diag). A credentials id is therefore of use to containers of its task
// only: anybody else, root on the host too, is told that there is no such id.
// Metadata is open to whoever knows the id in the path, as with the ECS agent:
// it is a random UUID. What acts (task protection, faults) is the task's alone.
//
// # What is bounded
//
// Requests are limited per container, but those for credentials never are: an
// SDK that is refused them fails its caller. A bucket that has filled up again is
// forgotten, so the limiter remembers only who was busy in the last seconds.
// Tags are asked of ECS once for all who ask within half a minute.
package taskmeta

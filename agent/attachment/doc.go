// Package attachment keeps what ECS attaches to this host until it is there, and
// has it reported: the network interfaces of awsvpc tasks, the host's own trunk,
// and EBS volumes (spec/control-plane.md §4.10, spec/host.md §3.5).
//
// A record is on the disk before ECS's message is acknowledged, and the news that
// the device is there goes into the outbox in the transaction that notes it in
// the record: whenever the agent is killed, the next one waits on, or has
// nothing left to say.
//
//	message ──► waiting ── device found ──► attached, reported
//	               │                            │
//	               └───── time is up ───────────┴──► forgotten
//
// A record lives until ECS's time for it is up, whether the device came or not:
// so long may the message be repeated. What is done with the device is no matter
// of this package: a task finds its interface and its volumes by itself.
package attachment

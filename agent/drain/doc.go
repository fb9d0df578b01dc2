// Package drain takes a host out of service and puts it back: because EC2 announces an interruption or recommends to leave, because
// the Auto Scaling group lets the instance go, or because a person says so (spec/host.md §6.2 and §6.3).
//
//	             Order DRAINING            ECS accepts
//	in service ──────────────────► asking ────────────► draining ──► StopAt: what still runs is stopped
//	     ▲                           │  ▲                   │
//	     │                           └──┘ ECS does not      │ Order ACTIVE: a person, or the cause is over
//	     └───────────────────────────── asking ◄────────────┘
//
// An order is kept before anything is done about it, and asked for until ECS accepts it, also by the next agent. Draining a host makes
// ECS place nothing more on it and stop the tasks of services, once there are others elsewhere; the agent itself stops tasks only
// when the order has a StopAt. One notice of EC2 is one order: a person who cancels it is not overruled by the same notice.
//
// A host that goes down is DRAINING besides, whatever its order is: GoingDown begins that, and Up, after the boot or when the shutdown
// was cancelled, ends it. What ECS held of the host before is asked for first, so that Up undoes nobody else's doing.
package drain

// Package faults makes the network of a task bad on purpose: a port that swallows what is sent to it, packets that come
// late, packets that do not come (spec/host.md §1.17). The kernel alone keeps what was done, so that a process that was
// killed finds every fault again, and none can be left half made.
//
//	table inet berth-faults                     ingress-tcp-8080, egress-udp-53: a base chain for each black hole
//	table netdev berth-faults                   network-latency or network-packet-loss, with one chain for each link
//
//	                 link's egress                              ┌ 1:1 netem  delay, jitter
//	packet ──▶ spared? ── a source? ── 70 of 100 flows? ──▶ root prio ┤            (latency only)
//	             │           │               │                  └ 1:2 fifo   everything else
//	             └───────────┴───────────────┴─ not touched
//
// # One transaction
//
// Which packets suffer is decided by nftables alone, for IPv4 and IPv6 alike: sets of prefixes, and a hash of addresses
// and ports that gives a flow its number. A black hole and a loss are a transaction each, so that a start has happened
// or has not. The latency of packets needs a queueing discipline too, prio with netem in one band. It is made first and
// does nothing until the transaction gives packets to it; it goes last. A process that was killed in between leaves one
// that delays nothing, which the next start, stop or sweep removes.
//
// Loss is made at the link's egress hook, where a drop looks to the sender as if the packet was sent: in the output hook
// a datagram would be refused with EPERM, which is no loss but an error. So loss needs no netem, and works on every
// kernel with that hook (5.16).
//
// # What is not touched
//
// A link that has a queueing discipline which is neither the kernel's default nor ours is not given latency. The task
// metadata endpoint, by which faults are ended, stays reachable through every black hole.
//
// # Whose a fault is
//
// A network namespace of a task goes away with it, and its faults too. In the host's namespace every rule carries the
// id of the task that asked for it as its comment: Release and Sweep find them by that. Faults there are all tasks' in
// host network mode, and the host's: the links that the default routes lead through have the latency and loss.
package faults

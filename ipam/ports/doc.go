// Package ports leases the host ports that containers publish.
//
// A host port is given out once, and is really held while it is leased: a socket of the agent is bound to it, so that no
// other process can take it between the decision and the moment that nftables sends its packets to the container. The
// sockets are bound and not listening: a connection that reaches the host itself, and not the container, is refused
// at once instead of waiting for ever. Packets for a published port never get to these sockets, because the address is
// translated before.
//
// A fixed port is taken as given. A dynamic one (hostPort 0 or absent) is the next free one of a range, walking upwards
// from the port assigned last and wrapping at the end, one cursor for tcp and udp, as the ECS agent does
// (task-engine §12). A containerPortRange gets a contiguous run of the range.
package ports

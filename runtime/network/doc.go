// Package network makes an ipam.Plan true on a Linux host: network namespaces, a bridge, veth pairs, and one nftables
// table. It forks nothing and keeps nothing in memory that the kernel does not have too, so the process may stop and
// start at any time while containers go on serving.
//
//	           host's namespace                                   container's namespace
//	eth0 ── routing ── berth0 (bridge, gateway addresses) ── bth… ═══ eth0 (addresses, default routes)
//	             │
//	    table inet berth: publish4, publish6   (protocol . host port) → (container address . port)
//
// # Published ports
//
// A packet to any address of the host whose protocol and port are in a publish map has its destination rewritten: in
// prerouting for packets from elsewhere and from containers, in output for the host's own, 127.0.0.1 included. Packets
// that come back out of the bridge they came in by (a container calls a published port, perhaps its own), and those
// from 127.0.0.1, get the bridge's address as source, or the answer would not pass the host. Linux cannot route from ::1
// to another interface, so a published port is not reachable as [::1]: it is refused there, and a client that
// tries both families for "localhost" goes on to 127.0.0.1.
//
// # Guards
//
// The host's loopback addresses cannot be reached from the bridge, although route_localnet is on there for the sake of
// 127.0.0.1 above. Ports that are not published cannot be reached from other hosts by way of a route to the pool.
// 169.254.170.2, the address of the task metadata endpoint, is served to this host and its containers only. A container
// cannot use another container's addresses as source, nor answer for them (ARP, neighbour discovery), so that an address
// tells who is calling. A process
// of the host cannot forge one to that endpoint either. Optionally the instance metadata service is closed to containers,
// also to those in the host's namespace: their sockets are known by control group (see [HostTasks]).
//
// # Interfaces of the VPC
//
// An endpoint with an ENI has a second interface instead of a place in the bridge of containers:
//
//	           host's namespace                                       endpoint's namespace
//	VPC ── ENI, found by its hardware address, moved in ═══════════ eth0 (addresses, default routes)
//	       berth0-eni (bridge, 169.254.172.1, isolated ports) ── bth… ═══ ecs-eth0 (169.254.172.x)
//
// The second interface leads to the agent and to Config.LocalRoutes, and the host drops all else that comes by it: it is
// no way past the VPC's security groups, to neighbours, to instance metadata or to what the host itself serves. The ENI carries the name that it had on
// the host as its alias, so that an agent that was killed at any moment gives it back all the same, under that name,
// down. A branch interface is a VLAN of its trunk, made in the namespace and removed with it. The link that the host's
// default routes lead through is never taken.
//
// # Mounts
//
// Namespaces are bound to files below /run, where containerd's shims open them. So the process must share the host's
// mount namespace, or its mounts must propagate there: a systemd unit of it cannot have PrivateMounts=, ProtectSystem=,
// PrivateTmp= and others that imply one of its own.
//
// # What is touched
//
// The bridge, the table, the veth pairs and the namespaces are ours alone. Outside of them only forwarding is switched
// on: net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, and with the latter accept_ra=2 on interfaces that have
// accept_ra=1, since the kernel would otherwise forget the host's IPv6 default route. They stay on, as other users may
// need them by then.
package network

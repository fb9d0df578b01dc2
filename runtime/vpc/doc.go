// Package vpc plays a VPC on one host, for people who run awsvpc tasks on a laptop and for tests of them: veth pairs
// stand in for network interfaces, a bridge for the subnet, and the host for the gateway, which translates addresses on
// the way to the world.
//
//	task's namespace                        host's namespace
//	eth0 (the interface) ═══ vpc… ── berthvpc0 (bridge, gateway addresses) ── routing ── world
//
// It is not part of an agent: an agent finds the interfaces as it finds those of EC2, by their hardware addresses.
// Nothing is kept but in the kernel. An interface says in the alias of the end that stays on the bridge whose it is and
// which address it has, so that a process that starts anew knows what the last one made.
package vpc

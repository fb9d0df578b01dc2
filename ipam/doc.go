// Package ipam has the words for where a container is on the network, and decides which address it gets.
//
// A [Pool] is the address range of the host's bridge, IPv4 and IPv6 side by side. [Leases] gives each container one
// offset in that pool, and from the offset follow its IPv4 address, its IPv6 address and its hardware address, so that
// the three always go together. An [Endpoint] says everything that package runtime/network must make true for one
// container, and a [Plan] is all endpoints of a host.
//
// The package is pure: it opens nothing and asks no clock. What it hands out is written down by the engine together
// with the task; after a restart each lease is put back with [Leases.Restore] before a new one is given.
package ipam

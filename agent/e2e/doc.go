// Package e2e holds stories: scripts that use the built berth binary as a person
// or a cluster would, against `berth local`, real containerd and Debian's aws
// command line.
//
// Each story (testdata/*.txtar) gets a network namespace of its own with nothing
// in it but loopback, a containerd namespace, and directories. All programs of
// the story run in that network namespace, so all traffic stays inside. When a
// story ends, well or not, its containers, processes (found by their network
// namespace, never by name), mounts and namespaces are removed.
//
// The stories need root, containerd, runc, iproute2, nsenter, nftables, awscli,
// jq and a static busybox; what is missing is said when they are skipped.
package e2e

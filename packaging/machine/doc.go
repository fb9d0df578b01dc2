// Package machine boots Debian machines for tests: systemd as PID 1 in systemd-nspawn, containerd and runc inside, a network of their
// own. A machine is there in two seconds, so that what happens at install, boot, shutdown and power cut is seen and not believed.
//
//	 the test's own network namespace                     a machine
//	┌──────────────────────────────────┐            ┌──────────────────┐
//	│ berth local, aws, curl           │   veth     │ systemd, D-Bus   │
//	│ lan0 10.213.0.1 ─────────────────┼────────────┼─ eth0 10.213.0.n │  as many as the test boots
//	└──────────────────────────────────┘            └──────────────────┘
//
// All machines share one tree that is only read (tree.sh makes it, `make` keeps it); what each changes is its own, outlives its reboots
// and ends with its test. Nothing of the host is shared but the kernel: so cgroups are those of the host (v1, or hybrid), there are no
// kernel modules to load, and nobody is reached but the other machines. For the rest there are virtual machines (ami).
//
// Of the host's it needs root, systemd-nspawn, ip, nsenter and overlayfs. The host need not run systemd.
package machine

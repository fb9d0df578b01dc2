// Package vm boots the disk of a machine image as EC2 would: UEFI, an NVMe disk, a serial console, an address by DHCP, and instance
// metadata at 169.254.169.254, from which the image takes its user data. It shows what no container of a machine can: a kernel of its
// own with cgroup v2 and modules, the whole boot, a reboot, a power cut, and a network interface that is plugged in.
//
//	the test's own network namespace                                     the virtual machine
//	┌────────────────────────────────────────────────────────┐        ┌──────────────────────────────┐
//	│ the test: berth local, metadata, ssh                   │  tap   │ Debian's kernel, systemd,    │
//	│ vm0 10.214.0.1, 169.254.169.254 ───────────────────────┼────────┼─ 10.214.0.11                 │
//	│     10.214.0.1:67 udhcpd                               │  tap   │  cloud-init, containerd,     │
//	│                                 ───────────────────────┼────────┼─ interfaces of tasks         │
//	└────────────────────────────────────────────────────────┘        └──────────────────────────────┘
//
// QEMU translates the machine's code (TCG). /dev/kvm is never looked at: it opens in places where it does not work. A boot takes half a
// minute to a minute.
package vm

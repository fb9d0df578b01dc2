#!/usr/bin/env bash
# tree.sh DIR makes DIR/root: a Debian 12 with systemd, containerd and nothing of Berth, for machines of systemd-nspawn to boot from.
# It takes a minute, so `make` keeps the result; the tests only ever read it.
set -euo pipefail
final=${1:?usage: tree.sh DIR}
[ ! -e "$final/.done" ] || exit 0
# Whole or not at all, and two that make it at once do not meet.
dir=$final.$$
trap 'rm -rf --one-file-system "$dir"' EXIT

# An apt that asks this machine's own mirrors, wherever those are.
sources=()
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
	[ -s "$f" ] && sources+=("$f")
done

mkdir -p "$dir"
# The last word on what a host of Berth needs is the package's Depends: dpkg in the tests refuses where it is not met. The last three are
# for machine images to be provisioned here as they are on EC2.
mmdebstrap --quiet --variant=minbase --mode=root \
	--include=systemd,systemd-sysv,dbus,containerd,runc,nftables,iproute2,procps,busybox-static,ca-certificates,curl,xfsprogs,openssh-server,sudo \
	--aptopt='Acquire::Languages "none"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$dir/root" "${sources[@]}"

root=$dir/root
: >"$root/etc/fstab"
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* # Whoever starts a sshd makes its keys.
rm -f "$root/etc/hostname" # A machine is called what it was started as.
# The machine's network is there before it is: a name server would be the only thing missing, and nobody is to be asked.
: >"$root/etc/resolv.conf"
# What a container of systemd-nspawn cannot do, and what would only take time.
systemctl --quiet --root="$root" mask systemd-resolved.service systemd-networkd.service systemd-networkd.socket \
	ssh.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer getty.target console-getty.service

# systemd-nspawn mounts the hierarchies of cgroup v1 read-only, so that no limit inside would be true, and all of /proc/sys. The cgroups
# and the network are the machine's own: those it may have. The rest of /proc/sys is the host's.
install -m 0755 /dev/stdin "$root/usr/local/sbin/machine-init" <<'INIT'
#!/bin/sh
for m in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw "$m"; done
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
exec /lib/systemd/systemd "$@"
INIT
touch "$dir/.done"
[ -e "$final/.done" ] || { rm -rf --one-file-system "$final" && mv -T "$dir" "$final"; }

#!/usr/bin/env bash
# tree.sh DIR makes DIR/root: a Debian 12 that boots by UEFI, reads user data, and has nothing of Berth yet. It takes a minute or two, so
# `make` keeps the result for as long as this file and what it was made with stay the same; build.sh only ever reads it.
set -euo pipefail
final=${1:?usage: tree.sh DIR}
[ ! -e "$final/.done" ] || exit 0
# Whole or not at all, and two that make it at once do not meet.
dir=$final.$$
trap 'rm -rf --one-file-system "$dir"' EXIT
umask 022
# What is made here is of no commit; the dates of its packages are theirs.
export SOURCE_DATE_EPOCH=0 LC_ALL=C.UTF-8 TZ=UTC

# The image asks the mirrors that this machine asks, wherever those are: its own apt says so, of Debian 12 alone.
sources=()
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
	if [ -s "$f" ] && grep -qE '^(deb|Suites:)[^#]*[[:space:]]bookworm([[:space:]-]|$)' "$f"; then
		sources+=("$f")
	fi
done

packages=(
	# A machine that boots, and that can be looked after.
	systemd systemd-sysv systemd-boot systemd-resolved systemd-timesyncd libnss-myhostname dbus udev kmod linux-image-cloud-amd64 initramfs-tools apt-utils
	procps iproute2 openssh-server sudo less vim-tiny curl ca-certificates
	# Who the instance is: user data, keys, host name, and a root file system as large as its disk.
	cloud-init cloud-guest-utils fdisk e2fsprogs dosfstools
	# What tasks run on, and what their volumes and networks are made with.
	containerd runc nftables iptables nfs-common xfsprogs
)
mkdir -p "$dir"
mmdebstrap --quiet --variant=minbase --mode=root --include="$(IFS=,; echo "${packages[*]}")" \
	--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$dir/root" "${sources[@]}"
touch "$dir/.done"
[ -e "$final/.done" ] || { rm -rf --one-file-system "$final" && mv -T "$dir" "$final"; }

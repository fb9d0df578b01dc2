#!/usr/bin/env bash
# build.sh makes a disk that boots by UEFI into a host of Berth, without a loop device and without a mount that anybody else sees.
#
#   build.sh --tree DIR --package FILE [--out DIR] [--images PATH]…
#
# DIR is what tree.sh made, FILE the .deb of Berth for amd64, PATH what `berth bake` takes. It writes into the output directory (dist)
# berth-VERSION-amd64.raw and .qcow2, their checksums, .json that says what is in it, and .cdx.json, the bill of materials (CycloneDX).
#
# The same package, tree and time make the same bytes: SOURCE_DATE_EPOCH, or else the last commit's, is the latest date in the image.
set -euo pipefail
beside=$(dirname "$(realpath "$0")")

tree='' package='' out=dist images=()
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || { echo "build.sh: $1 needs a value" >&2 && exit 2; }
	case $1 in
	--tree) tree=$2 ;;
	--package) package=$2 ;;
	--out) out=$2 ;;
	--images) images+=("$2") ;;
	*) echo "build.sh: unknown option $1" >&2 && exit 2 ;;
	esac
	shift 2
done
if [ ! -e "$tree/.done" ] || [ ! -f "$package" ]; then
	echo "build.sh: needs --tree and --package" >&2 && exit 2
fi
[ "$(id -u)" = 0 ] || { echo "build.sh: needs root, as whom files of all owners are made" >&2 && exit 1; }

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$beside" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8
umask 022
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d "$out/.image-XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root esp=$work/esp
cp -a --reflink=auto "$tree/root" "$root"
mkdir -p "$root/boot/efi" "$esp/loader/entries" "$esp/EFI/BOOT" "$esp/EFI/systemd"

# inside runs a program in the tree, whose mounts only it sees and which end with it.
inside() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount --pid --fork --kill-child sh -euc '
		root=$1 esp=$2 && shift 2
		mount -t proc proc "$root/proc"
		mount --rbind /sys "$root/sys"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs -o mode=0755 tmpfs "$root/run"
		mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
		mount --bind "$esp" "$root/boot/efi"
		exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
			SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@"' sh "$root" "$esp" "$@"
}
# version of a Debian package in the tree.
version() { dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Version}' "$1"; }

# Whoever provisions asks the names that this machine asks.
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
mkdir "$root/srv/provision"
cp -a "$beside/.." "$root/srv/provision/ami"
cp "$package" "$root/srv/provision/berth.deb"
arguments=()
for path in ${images+"${images[@]}"}; do
	cp -a "$path" "$root/srv/provision/"
	arguments+=(--images "/srv/provision/$(basename "$path")")
done
inside /srv/provision/ami/provision.sh --package /srv/provision/berth.deb ${arguments+"${arguments[@]}"}
rm -rf "$root/srv/provision"

# What is a disk's and not a host's: how it boots, is reached and gets its time.
(cd "$beside/host" && find . -type f -printf '%P\n') | while read -r file; do
	install -D -m 0644 "$beside/host/$file" "$root/$file"
done
ln -sfn ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname"
systemctl --quiet --root="$root" enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service ssh.service
# Packages are upgraded by a new image. Of NFS there are clients of version 4 only, and nothing of them listens.
systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer rpcbind.service rpcbind.socket rpc-statd.service \
	rpc-statd-notify.service

# The boot loader and its entry for the kernel, where a running host has them mounted: at /boot/efi.
kernel=$(basename "$root"/boot/vmlinuz-*)
kernel=${kernel#vmlinuz-}
inside kernel-install add "$kernel" "/boot/vmlinuz-$kernel"
# Here it is no partition of its own, so that the paths were taken for those of the root file system.
sed -i 's,/boot/efi/,/,' "$esp"/loader/entries/*.conf
cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$esp/EFI/systemd/"
cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$esp/EFI/BOOT/BOOTX64.EFI"
printf 'timeout 0\neditor no\n' >"$esp/loader/loader.conf"

# Nothing of the machine that built it, and no identity.
inside berth seal >"$work/sealed"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/debconf/*-old \
	"$root"/var/cache/ldconfig/aux-cache "$root"/var/lib/dpkg/*-old "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/tmp/* \
	"$root"/etc/*- "$root"/var/lib/cloud/*
find "$root" "$esp" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# The disk. Its ids are of its content, so that no two images have the same and one image always has its own.
name=berth-$(version berth)
name=${name%-1}-amd64
uuid() { echo "$name $SOURCE_DATE_EPOCH $1" | sha256sum | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/'; }
disk=$work/$name.raw
size=$((3 * 1024)) efi=256 # MiB; the first boot makes the root file system as large as its disk
truncate -s "${size}M" "$disk"
sfdisk --quiet "$disk" <<-PARTITIONS
	label: gpt
	label-id: $(uuid disk)
	start=1MiB, size=${efi}MiB, type=uefi, name=esp, uuid=$(uuid esp)
	type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root, uuid=$(uuid root)
PARTITIONS
id=$(uuid vfat)
truncate -s "${efi}M" "$work/esp.img"
mkfs.vfat --invariant -F 32 -s 1 -n ESP -i "${id%%-*}" "$work/esp.img" >/dev/null
(cd "$esp" && find . -mindepth 1 -printf '%P\n' | sort | while read -r path; do
	if [ -d "$path" ]; then mmd -i "$work/esp.img" "::$path"; else mcopy -m -i "$work/esp.img" "$path" "::$path"; fi
done)
dd if="$work/esp.img" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
# The last MiB is the table's copy.
offset=$(((1 + efi) * 1024 * 1024))
mke2fs -q -t ext4 -L root -m 1 -U "$(uuid ext4)" -E "offset=$offset,hash_seed=$(uuid hash),lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0" \
	-d "$root" "$disk" "$((size - efi - 2))M"
# It has also taken over when each file was last read and changed in the tree, which nobody can set there.
find "$root" -printf "sif \"/%P\" atime @$SOURCE_DATE_EPOCH\nsif \"/%P\" ctime @$SOURCE_DATE_EPOCH\n" |
	debugfs -w -f - "$disk?offset=$offset" >"$work/times" 2>&1

qemu-img convert -c -O qcow2 -o compression_type=zstd "$disk" "$work/$name.qcow2"
(cd "$work" && sha256sum "$name.raw" "$name.qcow2" >"$name.sha256")
# What is in it. jq keeps the order that it is given.
jq -n --arg name "$name" --arg date "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" --argjson size "$((size * 1024 * 1024))" \
	--arg kernel "$kernel" --rawfile sums "$work/$name.sha256" --rawfile os "$root/etc/os-release" \
	--arg berth "$(version berth)" --arg containerd "$(version containerd)" --arg runc "$(version runc)" --arg systemd "$(version systemd)" \
	--arg cloudinit "$(version cloud-init)" '{
		name: $name, created: $date, architecture: "x86_64", boot: "uefi", size: $size, defaultUser: "admin",
		os: ($os | capture("PRETTY_NAME=\"(?<n>[^\"]*)\"").n),
		versions: {berth: $berth, containerd: $containerd, runc: $runc, kernel: $kernel, systemd: $systemd, "cloud-init": $cloudinit},
		sha256: ([$sums | scan("([0-9a-f]{64})  (.*)\n") | {(.[1]): .[0]}] | add)}' >"$work/$name.json"
cp "$root/usr/share/berth/sbom.json" "$work/$name.cdx.json"
mv "$work/$name".* "$out/"
ls -sh1 "$out/$name".*

#!/usr/bin/env bash
# provision.sh makes of a Debian 12 or an Amazon Linux 2023 a host of Berth to make an image of. Run again it changes nothing. It needs
# no systemd that runs: in the directory tree of an image it does the same, called by chroot with /proc mounted.
#
#   provision.sh --package FILE [--containerd VERSION] [--runc VERSION] [--images PATH]…
#
# FILE is Berth's .deb or .rpm. The versions are those of the distribution's packages, of which a star matches any end, and are held: an
# upgrade of the host does not change what runs its containers. Without one, the file "versions" beside this script says it. PATH is what
# `berth bake` takes: a list of image references, an OCI archive, or a directory of such; these images are on the host from the start,
# and stay. What the image consists of is written to /usr/share/berth/sbom.json (CycloneDX).
#
# The agent is not started, now or by the image, before user data has been read (berth-boot.service). Settings for all instances of the
# image belong into /etc/ecs/ecs.config after this script: a package that is installed where there are some starts the agent.
set -euo pipefail

beside=$(dirname "$(realpath "$0")")
package='' images=()
declare -A versions=([containerd]='' [runc]='')
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || { echo "provision.sh: $1 needs a value" >&2 && exit 2; }
	case $1 in
	--package) package=$2 ;;
	--containerd) versions[containerd]=$2 ;;
	--runc) versions[runc]=$2 ;;
	--images) images+=("$(realpath "$2")") ;;
	*) echo "provision.sh: unknown argument $1" >&2 && exit 2 ;;
	esac
	shift 2
done
[ -f "$package" ] || { echo "provision.sh: --package needs Berth's .deb or .rpm" >&2 && exit 2; }
package=$(realpath "$package")

say() { echo "provision: $*"; }
fail() { echo "provision.sh: $*" >&2 && exit 1; }
booted() { [ -d /run/systemd/system ]; }

debian() {
	export DEBIAN_FRONTEND=noninteractive
	installed() { { dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null || true; } | sed -n 's/^installed //p'; }
	no_docker docker.io docker-ce docker-ce-cli containerd.io podman-docker
	local name version have wanted=()
	for name in containerd runc; do
		version=${versions[$name]}
		have=$(installed "$name")
		# shellcheck disable=SC2053 # a version may be a pattern
		[ -n "$have" ] && [[ $have == ${version:-*} ]] || wanted+=("$name${version:+=$version}")
	done
	# mkfs for EBS volumes, and certificates to speak to anybody.
	for name in xfsprogs e2fsprogs ca-certificates; do
		[ -n "$(installed "$name")" ] || wanted+=("$name")
	done
	# Asked only when something is missing: a host that has all of it needs no mirror.
	if [ ${#wanted[@]} -gt 0 ]; then
		apt-get update -q
		apt-get install -yq --no-install-recommends --allow-downgrades --allow-change-held-packages "${wanted[@]}"
		say "installed ${wanted[*]}"
	fi
	apt-mark hold containerd runc >/dev/null
	if [ "$(dpkg-deb --field "$package" Version)" != "$(installed berth)" ]; then
		apt-get install -yq --no-install-recommends "$package"
		say "installed berth $(installed berth)"
	fi
	no_docker docker.io docker-ce docker-ce-cli containerd.io podman-docker
}

amazon() {
	# rpm says what is not installed where it says what is.
	installed() { if rpm -q "$1" >/dev/null; then rpm -q --queryformat '%{VERSION}-%{RELEASE}' "$1"; fi; }
	no_docker docker docker-ce docker-ce-cli moby-engine containerd.io podman-docker
	local name version have
	dnf versionlock list >/dev/null 2>&1 || dnf install -yq 'dnf-command(versionlock)'
	for name in containerd runc; do
		version=${versions[$name]}
		have=$(installed "$name")
		# shellcheck disable=SC2053 # a version may be a pattern
		if [ -z "$have" ] || [[ $have != ${version:-*} && $have != $version-* ]]; then
			dnf versionlock delete "$name" >/dev/null 2>&1 || true
			dnf install -yq --allowerasing "$name${version:+-$version}"
			say "installed $name $(installed "$name")"
		fi
		dnf versionlock list 2>/dev/null | grep -q "^$name-" || dnf versionlock add "$name" >/dev/null
	done
	for name in xfsprogs e2fsprogs ca-certificates; do
		[ -n "$(installed "$name")" ] || dnf install -yq "$name"
	done
	if [ "$(rpm -qp --queryformat '%{VERSION}-%{RELEASE}' "$package")" != "$(installed berth)" ]; then
		dnf install -yq "$package"
		say "installed berth $(installed berth)"
	fi
	no_docker docker docker-ce docker-ce-cli moby-engine containerd.io podman-docker
}

# no_docker fails where one of these packages is installed: Docker's daemon would be a second one at the same network rules, and its
# containerd is not the one that is pinned.
no_docker() {
	local name
	for name in "$@"; do
		[ -z "$(installed "$name")" ] || fail "the package $name is installed; an image of Berth has no Docker: remove it first"
	done
}

# host_files lays down what an image has beyond the packages.
host_files() {
	local file changed=''
	while read -r file; do
		cmp -s "$beside/host/$file" "/$file" && continue
		install -D -m 0644 "$beside/host/$file" "/$file"
		changed=yes
	done < <(cd "$beside/host" && find . -type f -printf '%P\n' | sort)
	[ -z "$changed" ] || say "wrote the files of the image"
	# The agent is started by berth-boot.service, at each boot and not before.
	systemctl disable --quiet berth.service
	systemctl enable --quiet containerd.service berth-boot.service
	if booted && [ -n "$changed" ]; then
		systemctl daemon-reload
		systemctl try-restart systemd-journald.service
	fi
}

# with_containerd runs a command beside a containerd: the host's, or where no systemd runs one that ends with the command.
with_containerd() {
	if booted; then
		systemctl start containerd.service
		"$@"
		return
	fi
	local pid status=0 socket=/run/containerd/containerd.sock log
	log=$(mktemp)
	containerd >"$log" 2>&1 &
	pid=$!
	timeout 60 sh -c "until ctr version >/dev/null 2>&1; do kill -0 $pid && sleep 0.1 || exit 1; done" || status=$?
	if [ $status = 0 ]; then
		"$@" || status=$?
	else
		echo "provision.sh: containerd does not answer at $socket:" >&2
		cat "$log" >&2
	fi
	kill "$pid" 2>/dev/null || true
	wait "$pid" || true
	rm -rf "$log" /run/containerd
	return $status
}

# finish bakes the images in, and writes down what the image consists of.
finish() {
	[ ${#images[@]} = 0 ] || berth bake "${images[@]}" || return
	local bom=/usr/share/berth/sbom.json
	berth sbom >"$bom.new" || return
	chmod 0644 "$bom.new"
	if cmp -s "$bom.new" "$bom"; then
		rm "$bom.new"
	else
		mv "$bom.new" "$bom"
		say "wrote $bom"
	fi
}

# shellcheck source=/dev/null
. /etc/os-release
case $ID-$VERSION_ID in
debian-12) distribution=debian-12 ;;
amzn-2023*) distribution=amzn-2023 ;;
*) fail "$PRETTY_NAME is neither Debian 12 nor Amazon Linux 2023" ;;
esac
if [ -f "$beside/versions" ]; then
	while read -r of name version; do
		[ "$of" != "$distribution" ] || : "${versions[$name]:=$version}"
	done <"$beside/versions"
fi
case $distribution in
debian-12) debian ;;
amzn-2023) amazon ;;
esac
host_files
# Where nothing was ever put into containerd, it need not be started to say so.
if [ ${#images[@]} -gt 0 ] || booted || [ -e /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db ]; then
	with_containerd finish
else
	finish
fi

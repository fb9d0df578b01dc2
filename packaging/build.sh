#!/usr/bin/env bash
# build.sh builds the packages: a .deb and an .rpm for each architecture. The same commit gives the same bytes, wherever and whenever it
# is built with the same Go: no time, path, user or tag of the builder gets in.
#
#   packaging/build.sh [--nfpm PROGRAM] [--out DIR] [--version VERSION] [--root FILE] [--repo REPO] [ARCHITECTURE…]
#
# FILE is what `release root` made: whose updates a host with this package believes. Without it there is `berth update` only where the
# settings name another one (BERTH_UPDATE_ROOT). The very programs of the packages are added to REPO, for `release publish` to sign.
set -euo pipefail
cd "$(dirname "$0")/.."

nfpm=nfpm out=dist version='' root='' repo='' archs=()
while [ $# -gt 0 ]; do
	case $1 in
	--nfpm) nfpm=$2 && shift 2 ;;
	--out) out=$2 && shift 2 ;;
	--version) version=$2 && shift 2 ;;
	--root) root=${2:?--root names no file} && shift 2 ;;
	--repo) repo=$2 && shift 2 ;;
	-*) echo "build.sh: unknown option $1" >&2 && exit 2 ;;
	*) archs+=("$1") && shift ;;
	esac
done
[ ${#archs[@]} -gt 0 ] || archs=(amd64 arm64)

# When it is of: the last commit's time, or what whoever has no git says.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
if [ -z "$version" ]; then
	# A tag v1.2.3 on this very commit makes a release. Everything else is older than the first.
	version=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null || true)
	version=${version#v}
	: "${version:=0.1.0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$revision}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$out"
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C # nfpm takes the time of all files from the first

build() { # GOARCH PACKAGE OUTPUT
	GOOS=linux GOARCH=$1 CGO_ENABLED=0 GOFLAGS='' go build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X github.com/berthd/berth/agent/cli.stamped=$version@$revision" -o "$3" "$2"
}

if [ -n "$root$repo" ]; then
	build "$(go env GOHOSTARCH)" ./packaging/release "$work/release"
fi
if [ -n "$root" ]; then
	"$work/release" show "$root" >&2 || exit 1
else
	echo "build.sh: without --root hosts with these packages can be updated by packages alone, or by BERTH_UPDATE_ROOT" >&2
fi

echo "$version" >"$work/version"
build "$(go env GOHOSTARCH)" ./packaging/pages "$work/pages-of"
env -i PATH="$PATH" "$work/pages-of" "$work/pages" "$SOURCE_DATE_EPOCH"
find "$work/pages/man" -type f -exec gzip -9n {} +

cat >"$work/changelog.yaml" <<YAML
- semver: "$version"
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: The Berth developers <berth@users.noreply.github.com>
  changes:
    - note: "Built from commit $revision; what changed is in its history."
YAML
printf 'berth (%s) unstable; urgency=medium\n\n  * Built from commit %s; what changed is in its history.\n\n -- %s  %s\n' \
	"$version-1" "$revision" 'The Berth developers <berth@users.noreply.github.com>' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" |
	gzip -9n >"$work/changelog.Debian.gz"

# nfpm writes the name of the machine it runs on into an .rpm. So it runs on one of the same name everywhere.
nameless() {
	local unshare=(unshare --uts)
	[ "$(id -u)" = 0 ] || unshare+=(--user --map-root-user)
	"${unshare[@]}" sh -c 'echo localhost >/proc/sys/kernel/hostname && exec "$@"' sh "$@"
}

for arch in "${archs[@]}"; do
	build "$arch" ./agent/cmd/berth "$work/berth"
	[ -z "$repo" ] || "$work/release" add "$repo" "$version" "linux-$arch" "$work/berth"
	for format in deb rpm; do
		changelog='' # of Debian there is one of our own above: nfpm's has a form that Debian's tools do not read
		[ "$format" = deb ] || changelog="changelog: $work/changelog.yaml"
		trusted=''
		[ -z "$root" ] || trusted="- {src: $root, dst: /usr/lib/berth/root.json}"
		sed -e "s|\${BERTH_ROOT}|$trusted|; s|\${BERTH_WORK}|$work|; s|\${BERTH_VERSION}|$version|; s|\${BERTH_ARCH}|$arch|; s|\${BERTH_CHANGELOG}|$changelog|" \
			packaging/nfpm.yaml >"$work/nfpm.yaml"
		nameless "$nfpm" package --config "$work/nfpm.yaml" --packager "$format" --target "$out/" >"$work/said" ||
			{ cat "$work/said" >&2; exit 1; }
	done
done
ls -1 "$out"

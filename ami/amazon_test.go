package ami_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The stand-ins of dnf and rpm keep what is installed as /rpms, a line "NAME VERSION-RELEASE" for each, what is locked as /locked, and
// what dnf was asked for as /asked. They speak as the real ones do where provision.sh listens: rpm says on standard output too that
// something is not installed, and knows a package by the beginning of what is asked.
const (
	standInDNF = `#!/bin/sh
echo "$*" >>/asked
case $1 in
versionlock)
	case $2 in
	list) [ -e /plugin ] || exit 1; cat /locked ;;
	add) echo "$3-0:$(sed -n "s/^$3 //p" /rpms).*" >>/locked ;;
	delete) sed -i "/^$3-0:/d" /locked ;;
	esac ;;
install)
	for last in "$@"; do :; done
	case $last in
	'dnf-command(versionlock)') : >/plugin ;;
	*.rpm) cp -a /payload/. / && /usr/lib/berth/package/setup switch && echo 'berth 1.0.0~test-1' >>/rpms ;;
	containerd-*|runc-*) sed -i "/^${last%%-*} /d" /rpms; echo "${last%%-*} ${last#*-}-1.amzn2023.0.1" >>/rpms ;;
	*) echo "$last 1-1.amzn2023" >>/rpms ;;
	esac ;;
esac
`
	standInRPM = `#!/bin/sh
for last in "$@"; do :; done
case "$*" in
*-qp*) printf '1.0.0~test-1' ;;
*-qa*) sed 's/^\([^ ]*\) \(.*\)/\1\t0\t\2\tx86_64\t\1.src.rpm/' /rpms ;;
*) have=$(sed -n "s/^$last //p" /rpms)
	[ -n "$have" ] || { echo "package $last is not installed"; exit 1; }
	printf %s "$have" ;;
esac
`
)

// TestProvisionAmazonLinux compares what Amazon Linux 2023 is asked for: its own packages cannot be had here.
func TestProvisionAmazonLinux(t *testing.T) {
	x := newTree(t)
	p := build(t)
	x.put("/payload/")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--extract", p.deb, filepath.Join(x.root, "payload")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// As rpm has it; the tree's /lib is a link.
	x.run("cp -a /payload/lib/. /payload/usr/lib/ && rm -r /payload/lib && rm /var/lib/dpkg/status")
	for path, text := range map[string]string{
		"/etc/os-release": "ID=\"amzn\"\nVERSION_ID=\"2023\"\nPRETTY_NAME=\"Amazon Linux 2023\"\n", "/rpms": "ca-certificates 1-1\n", "/locked": "", "/asked": "",
		"/usr/local/bin/dnf": standInDNF, "/usr/local/bin/rpm": standInRPM, "/image/berth.rpm": "",
	} {
		if err := os.Remove(x.put(path)); err != nil && !errors.Is(err, fs.ErrNotExist) { // It may be a link.
			t.Fatal(err)
		}
		write(t, x.put(path), text)
	}
	x.run("chmod +x /usr/local/bin/dnf /usr/local/bin/rpm")
	provision := "bash /image/provision.sh --package /image/berth.rpm"
	asked := func(args string) string {
		t.Helper()
		write(t, x.put("/asked"), "")
		x.run(provision + args)
		return strings.TrimSpace(strings.ReplaceAll(read(t, x.put("/asked")), "versionlock list\n", ""))
	}
	want := `install -yq dnf-command(versionlock)
versionlock delete containerd
install -yq --allowerasing containerd-2.2.5
versionlock add containerd
versionlock delete runc
install -yq --allowerasing runc-1.3.5
versionlock add runc
install -yq xfsprogs
install -yq e2fsprogs
install -yq /image/berth.rpm`
	if got := asked(""); got != want {
		t.Errorf("dnf is asked for\n%s\nnot\n%s", got, want)
	}
	if got := x.run("cat /locked; systemctl is-enabled containerd berth-boot berth || true"); got !=
		"containerd-0:2.2.5-1.amzn2023.0.1.*\nrunc-0:1.3.5-1.amzn2023.0.1.*\nenabled\nenabled\ndisabled" {
		t.Errorf("what was made is\n%s", got)
	}
	bom := x.run("cat /usr/share/berth/sbom.json")
	for _, part := range []string{"pkg:rpm/amzn/containerd@2.2.5-1.amzn2023.0.1?arch=x86_64&distro=amzn-2023&upstream=containerd.src.rpm", "pkg:rpm/amzn/berth@1.0.0~test-1?"} {
		if !strings.Contains(bom, part) {
			t.Errorf("the bill of materials does not have %s", part)
		}
	}

	if got := asked(""); got != "" {
		t.Errorf("the second time dnf is asked for\n%s", got)
	}
	if got := asked(" --containerd 2.2.6"); got != "versionlock delete containerd\ninstall -yq --allowerasing containerd-2.2.6\nversionlock add containerd" {
		t.Errorf("for another version dnf is asked for\n%s", got)
	}
	if got := asked(" --containerd '2.2.*'"); got != "" {
		t.Errorf("for what is there already dnf is asked for\n%s", got)
	}
	x.run("echo 'docker 25.0.16-1' >>/rpms")
	if said, err := x.try(provision); err == nil || !strings.Contains(said, "the package docker is installed") {
		t.Errorf("with Docker: %v\n%s", err, said)
	}
}

// Each version that is pinned is one that provision.sh reads, and the other way round.
func TestVersionsAreWhole(t *testing.T) {
	pinned := map[string]string{}
	for line := range strings.Lines(read(t, "versions")) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			if len(f) != 3 {
				t.Errorf("a line that provision.sh does not understand: %q", line)
				continue
			}
			pinned[f[0]+" "+f[1]] = f[2]
		}
	}
	for _, name := range []string{"debian-12 containerd", "debian-12 runc", "amzn-2023 containerd", "amzn-2023 runc"} {
		if pinned[name] == "" {
			t.Errorf("%s is not pinned", name)
		}
		delete(pinned, name)
	}
	if len(pinned) > 0 {
		t.Errorf("nobody reads %v", pinned)
	}
}

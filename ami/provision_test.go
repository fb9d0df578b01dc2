package ami_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berthd/berth/packaging/machine"
)

// Scripts and units say nothing to those who look at such.
func TestScriptsAndUnits(t *testing.T) {
	unit := filepath.Join(t.TempDir(), "berth-boot.service")
	write(t, unit, read(t, "host/usr/lib/systemd/system/berth-boot.service"))
	for _, command := range [][]string{{"shellcheck", "provision.sh"}, {"systemd-analyze", "verify", "--man=no", unit}} {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Skipf("needs %s: %v (make deps installs it)", command[0], err)
		}
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
	}
}

// tree is a machine's root directory, in which commands are run as when an image is made: no systemd runs, and there is no network.
type tree struct {
	t          *testing.T
	root       string
	containerd string // of overlayfs it cannot be a part
}

func newTree(t *testing.T) *tree {
	t.Helper()
	m := machine.New(t, os.Getenv("BERTH_TEST_MACHINE")).Make(t, "tree")
	x := &tree{t: t, root: m.Root(), containerd: t.TempDir()}
	x.put("/var/lib/containerd/")
	write(t, x.put("/etc/apt/apt.conf.d/99-nobody"), "Acquire::Retries \"0\";\n") // Nobody answers, and nobody will.
	for _, file := range []string{"provision.sh", "versions", "host"} {
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", file, x.put("image/")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return x
}

// put makes the directories that lead to a path of the tree, and answers where the path is for the test.
func (x *tree) put(path string) string {
	x.t.Helper()
	outside := filepath.Join(x.root, path)
	dir := outside
	if !strings.HasSuffix(path, "/") {
		dir = filepath.Dir(outside)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.t.Fatal(err)
	}
	return outside
}

// copy copies a file into the tree, and answers its path there.
func (x *tree) copy(file string) string {
	x.t.Helper()
	inside := "/image/" + filepath.Base(file)
	write(x.t, x.put(inside), read(x.t, file))
	return inside
}

// try runs a line of shell in the tree.
func (x *tree) try(line string) (string, error) {
	script := `mount --bind "$2" "$1/var/lib/containerd" && mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" && ip link set lo up &&
		exec chroot "$1" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 sh -c "$3"`
	cmd := exec.CommandContext(context.WithoutCancel(x.t.Context()), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
		"sh", "-c", script, "sh", x.root, x.containerd, line)
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

func (x *tree) run(line string) string {
	x.t.Helper()
	out, err := x.try(line)
	if err != nil {
		x.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// TestProvision makes an image's tree, and does it again.
func TestProvision(t *testing.T) {
	x := newTree(t)
	deb := x.copy(build(t).deb)
	archive, digest := imageArchive(t, "registry.test/team/app:1", nil)
	provision := "bash /image/provision.sh --package " + deb + " --images " + x.copy(archive)
	said := x.run(provision)
	for _, want := range []string{"provision: installed berth 1.0.0~test-1\n", "registry.test/team/app:1  " + digest + "  3 blobs, ", "provision: wrote /usr/share/berth/sbom.json"} {
		if !strings.Contains(said, want) {
			t.Errorf("the first time it does not say %q:\n%s", want, said)
		}
	}
	state := `apt-mark showhold; systemctl is-enabled containerd berth-boot berth; dpkg -l | grep '^i.*docker'
		find /etc /usr /var/lib/berth -newer /image/now -type f`
	want := "containerd\nrunc\nenabled\nenabled\ndisabled"
	write(t, filepath.Join(x.root, "image/now"), "")
	if got := x.run("(" + state + ") || true"); got != want {
		t.Errorf("what was made is\n%s", got)
	}
	bom := x.run("cat /usr/share/berth/sbom.json")
	completeBOM(t, bom, x.run(`dpkg-query -W -f '${Package}@${Version}\n'`), digest)

	if said := x.run(provision); strings.Contains(said, "provision: ") {
		t.Errorf("the second time it says:\n%s", said)
	}
	if got := x.run("(" + state + ") || true"); got != want {
		t.Errorf("the second time changes something:\n%s", got)
	}
	if left := x.run("ls -A /run/containerd 2>/dev/null; ps -e -o comm= | grep containerd || true"); left != "" {
		t.Errorf("of its containerd is left:\n%s", left)
	}
	refusals(t, x, deb)
	missing(t, x, deb)
}

// refusals are the things that no image is made of.
func refusals(t *testing.T, x *tree, deb string) {
	t.Helper()
	damaged, _ := imageArchive(t, "registry.test/team/damaged:1", func(layer []byte) { layer[len(layer)/3] ^= 1 })
	nameless, _ := imageArchive(t, "7", nil)
	write(t, x.put("/image/list"), "# one that nobody has\n127.0.0.1:9/nobody:1\n")
	for _, tt := range []struct{ args, says string }{
		{"--package /image/none.deb", "--package needs Berth's .deb or .rpm"},
		{"--package " + deb + " --docker yes", "unknown argument --docker"},
		{"--package " + deb + " --runc", "--runc needs a value"},
		{"--package " + deb + " --runc 9.9", "runc"},
		{"--package " + deb + " --images " + x.copy(damaged), "cannot bake /image/" + filepath.Base(damaged)},
		{"--package " + deb + " --images " + x.copy(nameless), `is called "7", which is no whole reference`},
		{"--package " + deb + " --images /image/list", "cannot bake 127.0.0.1:9/nobody:1"},
	} {
		if said, err := x.try("bash /image/provision.sh " + tt.args); err == nil || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %v\n%s", tt.args, err, said)
		}
	}
	write(t, x.put("/image/docker"), "\nPackage: docker.io\nStatus: install ok installed\nVersion: 20.10\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n")
	x.run("cat /image/docker >>/var/lib/dpkg/status")
	if said, err := x.try("bash /image/provision.sh --package " + deb); err == nil || !strings.Contains(said, "the package docker.io is installed") {
		t.Errorf("with Docker: %v\n%s", err, said)
	}
}

// missing takes packages away, and looks at what apt-get is asked for then: it reaches nobody here.
func missing(t *testing.T, x *tree, deb string) {
	t.Helper()
	x.run("sed -i '/^Package: docker.io$/,$d' /var/lib/dpkg/status && dpkg --force-depends --force-hold --purge runc xfsprogs")
	write(t, x.put("/usr/local/bin/apt-get"), "#!/bin/sh\necho \"$*\" >>/asked\n")
	said, _ := x.try("chmod +x /usr/local/bin/apt-get; bash /image/provision.sh --package " + deb) // What it asks for does not come.
	if got, want := read(t, x.put("/asked")), "update -q\ninstall -yq --no-install-recommends --allow-downgrades --allow-change-held-packages runc=1.1.5+* xfsprogs\n"; got != want {
		t.Errorf("apt-get is asked for\n%s\nnot\n%s\n%s", got, want, said)
	}
}

// completeBOM fails unless the bill of materials has every package, the modules of the program, and the image.
func completeBOM(t *testing.T, text, packages, image string) {
	t.Helper()
	var bom struct {
		Format       string `json:"bomFormat"`
		SpecVersion  string `json:"specVersion"`
		SerialNumber string `json:"serialNumber"`
		Version      int    `json:"version"`
		Metadata     struct {
			Component struct{ Type, Name, Version string } `json:"component"`
		} `json:"metadata"`
		Components []struct{ Type, Name, Version, PURL string } `json:"components"`
	}
	if err := json.Unmarshal([]byte(text), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.Format != "CycloneDX" || bom.SpecVersion != "1.5" || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") || bom.Version != 1 ||
		fmt.Sprint(bom.Metadata.Component) != "{operating-system debian 12}" {
		t.Errorf("it is of %+v", bom.Metadata)
	}
	kinds := map[string][]string{}
	for _, c := range bom.Components {
		kind, _, _ := strings.Cut(strings.TrimPrefix(c.PURL, "pkg:"), "/")
		kinds[kind] = append(kinds[kind], c.Name+"@"+c.Version)
	}
	wanted := strings.Fields(packages)
	slices.Sort(wanted)
	slices.Sort(kinds["deb"])
	if !slices.Equal(wanted, kinds["deb"]) || len(wanted) < 50 {
		t.Errorf("it has the packages\n%v\nand there are\n%v", kinds["deb"], wanted)
	}
	if !slices.Contains(kinds["golang"], "github.com/berthd/berth@1.0.0~test") || len(kinds["golang"]) < 20 ||
		!slices.ContainsFunc(kinds["golang"], func(m string) bool { return strings.HasPrefix(m, "github.com/containerd/containerd/v2@v2.") }) {
		t.Errorf("it has the modules %v", kinds["golang"])
	}
	if want := []string{"registry.test/team/app@" + image}; !slices.Equal(kinds["oci"], want) {
		t.Errorf("it has the images %v, not %v", kinds["oci"], want)
	}
}

// imageArchive writes an OCI archive with a small image, and answers the image's digest. damage is called with the layer in it; nil
// leaves it whole.
func imageArchive(t *testing.T, called string, damage func(layer []byte)) (path, digest string) {
	t.Helper()
	layer := static.NewLayer(tarOf(t, "all that there is of the image "+called+"\n"), types.OCIUncompressedLayer)
	image, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	index, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": called})); err != nil {
		t.Fatal(err)
	}
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if damage != nil {
		id, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		blob := filepath.Join(dir, "blobs/sha256", id.Hex)
		content := []byte(read(t, blob))
		damage(content)
		write(t, blob, string(content))
	}
	path = filepath.Join(t.TempDir(), strings.NewReplacer("/", "-", ":", "-").Replace(called)+".tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path, d.String()
}

// tarOf is an archive of one file.
func tarOf(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

package vm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// rootOffset is where the root file system begins on the disk: after the table and the boot loader's partition.
const rootOffset = "269484032"

// beside is a file that was made with the image.
func beside(t *testing.T, ending string) string {
	t.Helper()
	image := os.Getenv("BERTH_TEST_IMAGE")
	name, ok := strings.CutSuffix(image, ".qcow2")
	if _, err := os.Stat(image); !ok || err != nil {
		t.Skip("needs an image in BERTH_TEST_IMAGE (make image-test makes it)")
	}
	return name + ending
}

// debugfs reads the file system of the disk without mounting it.
func debugfs(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "debugfs", "-R", command, beside(t, ".raw")+"?offset="+rootOffset)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v\n%s", command, err, said.String())
	}
	return string(out)
}

// names are those in a directory of the disk.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(debugfs(t, "ls -p "+dir)) {
		if fields := strings.Split(line, "/"); len(fields) > 5 && fields[5] != "." && fields[5] != ".." {
			found = append(found, fields[5])
		}
	}
	return found
}

// A disk has no identity, no state and no leftovers of the machine that made it.
func TestDiskIsNobodys(t *testing.T) {
	if found := names(t, "/etc"); len(found) < 50 {
		t.Fatalf("the directory /etc has %d names", len(found))
	}
	if id := debugfs(t, "cat /etc/machine-id"); id != "" {
		t.Errorf("the machine has an id: %s", id)
	}
	for _, name := range names(t, "/etc/ssh") {
		if strings.HasPrefix(name, "ssh_host_") {
			t.Errorf("the machine has a key: %s", name)
		}
	}
	for _, dir := range []string{
		"/tmp", "/var/tmp", "/var/lib/cloud", "/var/lib/berth", "/var/log/journal", "/var/log/apt", "/var/lib/apt/lists", "/srv", "/boot/efi",
	} {
		if found := names(t, dir); len(found) > 0 {
			t.Errorf("%s has %v", dir, found)
		}
	}
	for _, name := range names(t, "/etc") {
		if name == "hostname" {
			t.Error("the machine has a name")
		}
	}
	if got := debugfs(t, "cat /etc/ecs/ecs.config"); strings.Contains(got, "\nECS_CLUSTER=") {
		t.Errorf("the host is of a cluster:\n%s", got)
	}
	for _, name := range append(names(t, "/usr/bin"), names(t, "/usr/sbin")...) {
		if strings.HasPrefix(name, "docker") {
			t.Errorf("the image has %s", name)
		}
	}
}

// What is said of an image beside it is true.
func TestManifest(t *testing.T) {
	var manifest struct {
		Name, Created, Architecture, OS string
		Versions, SHA256                map[string]string
	}
	text, err := os.ReadFile(beside(t, ".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(manifest.OS, "Debian GNU/Linux 12") || manifest.Created == "" {
		t.Errorf("the manifest says:\n%s", text)
	}
	status := debugfs(t, "cat /var/lib/dpkg/status")
	for _, name := range []string{"berth", "containerd", "runc", "systemd", "cloud-init"} {
		_, rest, _ := strings.Cut(status, "\nPackage: "+name+"\n")
		rest, _, _ = strings.Cut(rest, "\n\n")
		if version := manifest.Versions[name]; version == "" || !strings.Contains(rest, "\nVersion: "+version+"\n") {
			t.Errorf("%s is not version %q:\n%s", name, version, rest)
		}
	}
	if kernel := manifest.Versions["kernel"]; kernel == "" || !strings.Contains(strings.Join(names(t, "/boot"), " "), "vmlinuz-"+kernel) {
		t.Errorf("the kernel is not %q", kernel)
	}
	disk, err := os.Open(beside(t, ".qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, disk); err != nil {
		t.Fatal(err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != manifest.SHA256[manifest.Name+".qcow2"] {
		t.Errorf("the sum of the disk is %s: %v", sum, manifest.SHA256)
	}
	var bill struct {
		Components []struct{ Name, Version string }
	}
	text, err = os.ReadFile(beside(t, ".cdx.json"))
	if err == nil {
		err = json.Unmarshal(text, &bill)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range bill.Components {
		found = found || c.Name == "containerd" && c.Version == manifest.Versions["containerd"]
	}
	if !found {
		t.Errorf("the bill of materials of %d components has no containerd %s", len(bill.Components), manifest.Versions["containerd"])
	}
}

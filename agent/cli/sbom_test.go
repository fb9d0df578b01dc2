package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/berthd/berth/runtime/container"
)

const dpkgStatus = `Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+deb12u1
Description: a library
 with more to say
 Package: that is no package

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: passwd
Status: hold ok installed
Architecture: all
Source: shadow
Version: 1:4.13+dfsg1-1
`

// What a bill of materials has of a system, word for word.
func TestSBOM(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{"etc/os-release": "NAME=x\nID=debian\nVERSION_ID=\"12\"\n", "var/lib/dpkg/status": dpkgStatus} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	system, packages, err := systemComponents(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	modules := moduleComponents(&debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "example.test/berth"}, Deps: []*debug.Module{
		{Path: "example.test/a/v2", Version: "v2.0.0"},
		{Path: "example.test/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.test/new", Version: "v1.1.0+incompatible"}},
	}})
	images := imageComponents([]container.ImageRecord{
		{Image: container.Image{Ref: "registry.test:5000/team/app:1", Digest: "sha256:0aff"}},
		{Image: container.Image{Ref: "registry.test/app@sha256:1aff", Digest: "sha256:1aff"}},
	})
	a := &app{}
	text := func(components ...[]component) string {
		var out bytes.Buffer
		a.Out = &out
		var all []component
		for _, c := range components {
			all = append(all, c...)
		}
		if err := a.encode(newBOM(system, all), "  "); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	one := text(packages, modules, images)
	golden(t, "sbom", one)
	if other := text(images, modules, packages, images); other != one {
		t.Error("it is another text when its parts come in another order, or twice")
	}
	less := text(packages, modules)
	if number(t, less) == number(t, one) {
		t.Error("another list has the same number")
	}
}

func number(t *testing.T, text string) string {
	t.Helper()
	var b bom
	if err := json.Unmarshal([]byte(text), &b); err != nil || b.SerialNumber == "" {
		t.Fatalf("%v in %s", err, text)
	}
	return b.SerialNumber
}

// A system that nothing can be said of is an error and no empty list.
func TestSBOMOfNothing(t *testing.T) {
	root := t.TempDir()
	if _, _, err := systemComponents(t.Context(), root); err == nil || !strings.Contains(err.Error(), "cannot tell the operating system") {
		t.Errorf("without a name: %v", err)
	}
	for path, text := range map[string]string{"etc/os-release": "ID=debian\nVERSION_ID=12\n", "var/lib/dpkg/status": ""} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := systemComponents(t.Context(), root); err == nil || !strings.Contains(err.Error(), "neither dpkg nor rpm has installed a package") {
		t.Errorf("without packages: %v", err)
	}
}

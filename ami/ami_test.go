package ami_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// packages are Berth's, for this machine's architecture.
type packages struct{ version, deb, rpm string }

// built is where they are, once for all tests. TestMain removes them.
var built struct {
	sync.Mutex // guards the rest

	dir string
	packages
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// build builds the packages as make packages does.
func build(t *testing.T) packages {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.version != "" {
		return built.packages
	}
	nfpm := os.Getenv("BERTH_TEST_NFPM")
	if nfpm == "" {
		t.Skip("needs nfpm in BERTH_TEST_NFPM (make test builds it)")
	}
	if built.dir != "" {
		t.Fatal("the packages could not be built before")
	}
	dir, err := os.MkdirTemp("", "berth-ami-")
	if err != nil {
		t.Fatal(err)
	}
	built.dir = dir
	p := packages{version: "1.0.0~test"}
	cmd := exec.CommandContext(t.Context(), "../packaging/build.sh", "--nfpm", nfpm, "--out", dir, "--version", p.version, runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build packages: %v\n%s", err, out)
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	p.deb = filepath.Join(dir, fmt.Sprintf("berth_%s-1_%s.deb", p.version, runtime.GOARCH))
	p.rpm = filepath.Join(dir, fmt.Sprintf("berth-%s-1.%s.rpm", p.version, arch))
	for _, file := range []string{p.deb, p.rpm} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
	built.packages = p
	return p
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

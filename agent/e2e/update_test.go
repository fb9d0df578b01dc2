package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestUpdate runs the stories of an update, with two versions of the program, and
// the tool that signs releases.
func TestUpdate(t *testing.T) {
	needPrograms(t)
	const stamped, program = "-X github.com/berthd/berth/agent/cli.stamped=", "github.com/berthd/berth/agent/cmd/berth"
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"first":   {"-ldflags", stamped + "1.0.0@0000000001", program},
		"next":    {"-ldflags", stamped + "1.1.0@1111111111", program},
		"release": {"github.com/berthd/berth/packaging/release"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-trimpath", "-o", filepath.Join(dir, name)}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cannot build %s: %v\n%s", name, err, out)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	tell(t, []string{updating, fetching}, t.TempDir(), "FIRST="+at("first"), "NEXT="+at("next"), "RELEASE="+at("release"))
}

package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/packaging/machine"
)

// An .rpm is installed, upgraded and removed on a machine that is off, as when an image is made: its scripts have no systemd to talk to.
func TestRPMOnMachineThatIsOff(t *testing.T) {
	m := machine.New(t, os.Getenv("BERTH_TEST_MACHINE")).Make(t, "rpm")
	older, newer := build(t, "1.0.0"), build(t, "1.1.0")
	rpm := func(args ...string) string {
		t.Helper()
		// Debian's libraries are none that an rpm could depend on.
		args = append([]string{"--root", m.Root(), "--dbpath", "/var/lib/rpm", "--nodeps"}, args...)
		out, err := exec.CommandContext(t.Context(), "rpm", args...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "scriptlet failed") {
			t.Fatalf("rpm %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	current := func() string {
		t.Helper()
		to, err := os.Readlink(filepath.Join(m.Root(), "usr/lib/berth/current"))
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	if said := rpm("--install", older.rpm); !strings.Contains(said, "systemctl enable --now berth") || current() != "versions/1.0.0" {
		t.Errorf("the installation leads to %s and says:\n%s", current(), said)
	}
	m.Write("/etc/ecs/ecs.config", "ECS_CLUSTER=mine\n")
	rpm("--upgrade", newer.rpm)
	if to := current(); to != "versions/1.1.0" {
		t.Errorf("the upgrade leads to %s", to)
	}
	if text, err := os.ReadFile(filepath.Join(m.Root(), "etc/ecs/ecs.config")); string(text) != "ECS_CLUSTER=mine\n" {
		t.Errorf("the settings are %q (%v)", text, err)
	}
	// The program stays for the tasks that there may be, and what removes them is named.
	said := rpm("--erase", "berth")
	if !strings.Contains(said, "/usr/lib/berth/setup purge") {
		t.Errorf("the removal says:\n%s", said)
	}
	for path, want := range map[string]bool{
		"usr/lib/berth/setup": true, "usr/lib/berth/versions/1.1.0/berth": true, "usr/lib/berth/package/berth": false,
		"usr/lib/systemd/system/berth.service": false, "usr/bin/berth": false, "etc/ecs/ecs.config": true,
	} {
		if _, err := os.Lstat(filepath.Join(m.Root(), path)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}

	// Settings that were there first: the unit is enabled for the first boot.
	rpm("--install", newer.rpm)
	if link, err := os.Readlink(filepath.Join(m.Root(), "etc/systemd/system/multi-user.target.wants/berth.service")); err != nil {
		t.Errorf("not enabled, with settings: %s %v", link, err)
	}
}

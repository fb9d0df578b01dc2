package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/store"
)

// TestSealNeedsTheState: while an agent has the state nothing is changed, whether its log process answers or not.
func TestSealNeedsTheState(t *testing.T) {
	dir := t.TempDir()
	c := config.Config{Paths: config.Paths{
		Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run"), LogSocket: filepath.Join(dir, "run", "logs.sock"),
	}}
	s, err := store.Open(filepath.Join(c.Paths.Data, "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	write(t, dir, "etc/machine-id", "0123")
	if _, err = Seal(t.Context(), Options{Config: c, Log: zap.NewNop()}, dir); !errors.Is(err, ErrInUse) || !errors.Is(err, store.ErrLocked) {
		t.Errorf("a host whose agent runs: %v", err)
	}
	if id, err := os.ReadFile(filepath.Join(dir, "etc/machine-id")); err != nil || string(id) != "0123" {
		t.Errorf("the machine's id is %q, %v", id, err)
	}
}

// TestSealAsksForTasks: without a containerd, tasks on record may run for all that is known.
func TestSealAsksForTasks(t *testing.T) {
	s, err := store.Open(filepath.Join(t.TempDir(), "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := unused(s, nil); err != nil {
		t.Errorf("no task on record: %v", err)
	}
	if err := s.Commit("t1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := unused(s, nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "1 tasks are on record") {
		t.Errorf("a task on record: %v", err)
	}
}

func TestSealMachine(t *testing.T) {
	root := t.TempDir()
	gone := []string{
		"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
		"var/lib/amazon/ssm/registration", "var/lib/amazon/ssm/Vault/Store/RegistrationKey", "var/log/journal/0123/system.journal",
	}
	kept := []string{"etc/ssh/sshd_config", "var/log/dpkg.log", "var/lib/systemd/timers/stamp"}
	for _, name := range slices.Concat(gone, kept, []string{"etc/machine-id"}) {
		write(t, root, name, "x")
	}
	if err := os.MkdirAll(filepath.Join(root, "var/lib/dbus"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/machine-id", filepath.Join(root, "var/lib/dbus/machine-id")); err != nil {
		t.Fatal(err)
	}
	var first, again Sealed
	if err := errors.Join(sealMachine(root, &first), sealMachine(root, &again)); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(root, "etc/machine-id")}; !slices.Equal(first.Emptied, want) || len(first.Removed) != len(gone) {
		t.Errorf("it says: %+v", first)
	}
	if len(again.Emptied)+len(again.Removed) > 0 {
		t.Errorf("the second time it says: %+v", again)
	}
	for _, name := range gone {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if text, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(text) != "x" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	// The file stays, and is empty: systemd cannot make one where /etc is not yet to be written.
	if info, err := os.Stat(filepath.Join(root, "etc/machine-id")); err != nil || info.Size() != 0 {
		t.Errorf("the machine's id: %+v, %v", info, err)
	}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

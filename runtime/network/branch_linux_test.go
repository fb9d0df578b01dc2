package network

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHasModule(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		want          bool
	}{
		"built in":   {"modules.builtin", "kernel/net/802/garp.ko\nkernel/net/8021q/8021q.ko\n", true},
		"compressed": {"modules.dep", "kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz\n", true},
		"no list":    {"modules.alias", "kernel/net/8021q/8021q.ko\n", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := hasModule(dir, "8021q"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

package ctrd

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestX32: an architecture is left out of the filter only where something says
// that the kernel does not have it.
func TestX32(t *testing.T) {
	const without, with = "CONFIG_X86_64=y\n# CONFIG_X86_X32_ABI is not set\n", "CONFIG_X86_64=y\nCONFIG_X86_X32_ABI=y\n"
	plain := func(t *testing.T, root, text string) {
		t.Helper()
		write(t, root, "proc/sys/kernel/osrelease", "6.1.0\n")
		write(t, root, "boot/config-6.1.0", text)
	}
	packed := func(t *testing.T, root, text string) {
		t.Helper()
		write(t, root, "proc/config.gz", "")
		f, err := os.Create(filepath.Join(root, "proc/config.gz"))
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		make func(t *testing.T, root, text string)
		text string
		want bool // x32 in the filter
	}{
		"the file says without": {plain, without, false},
		"the file says with":    {plain, with, true},
		"the kernel says so":    {packed, without, false},
		"a damaged file":        {func(t *testing.T, root, text string) { t.Helper(); write(t, root, "proc/config.gz", text) }, without, true},
		"nothing says anything": {func(*testing.T, string, string) {}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			test.make(t, root, test.text)
			s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, Linux: &specs.Linux{}}
			profile := defaultSeccomp(s, detectHost(root))
			full := slices.Contains(defaultSeccomp(s, host{}).Architectures, specs.ArchX32)
			if got := slices.Contains(profile.Architectures, specs.ArchX32); got != (test.want && full) {
				t.Errorf("the filter has %v", profile.Architectures)
			}
		})
	}
}

// write makes a file below root.
func write(t *testing.T, root, path, text string) {
	t.Helper()
	file := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGPUDriver(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := gpuDriver(root); got != "" {
		t.Errorf("without a driver: %q", got)
	}
	write("sys/module/nvidia/version", "580.95.05\n")
	if got := gpuDriver(root); got != "580.95.05" {
		t.Errorf("from the kernel: %q", got)
	}
	write("var/lib/ecs/gpu/nvidia-gpu-info.json", `{"DriverVersion":"570.1","GPUIDs":["GPU-a"]}`)
	if got := gpuDriver(root); got != "570.1" {
		t.Errorf("from the host's own note: %q", got)
	}
}

package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// gpuDriver is the version of the NVIDIA driver: what hosts of ECS have written
// down at their start, else what the kernel says; "" when neither is there. root is
// "/" but for tests.
func gpuDriver(root string) string {
	var info struct{ DriverVersion string }
	if data, err := os.ReadFile(filepath.Join(root, "var/lib/ecs/gpu/nvidia-gpu-info.json")); err == nil &&
		json.Unmarshal(data, &info) == nil && info.DriverVersion != "" {
		return info.DriverVersion
	}
	data, err := os.ReadFile(filepath.Join(root, "sys/module/nvidia/version"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

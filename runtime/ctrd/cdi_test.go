package ctrd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// nvidia is as nvidia-ctk makes one, with character devices that every host has.
const nvidia = `
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void, DRIVER=1]
devices:
  - name: "0"
    containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}]}
  - name: GPU-aaaa
    containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}]}
  - name: GPU-bbbb
    containerEdits: {deviceNodes: [{path: /dev/nvidia1, hostPath: /dev/zero}]}
  - name: all
    containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}, {path: /dev/nvidia1, hostPath: /dev/zero}]}
`

const others = `{"cdiVersion":"0.5.0","kind":"vendor.com/net","devices":[{"name":"GPU-none","containerEdits":{"env":["A=1"]}}]}`

func TestGPUs(t *testing.T) {
	write := func(files map[string]string) *Runtime {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return &Runtime{cfg: Config{CDIDirs: []string{dir, filepath.Join(dir, "absent")}}}
	}
	whole := map[string]string{"nvidia.yaml": nvidia, "net.json": others}
	numbers := map[string]string{"amd.json": `{"cdiVersion":"0.5.0","kind":"amd.com/gpu","devices":[` +
		`{"name":"1","containerEdits":{"env":["B=1"]}},{"name":"0","containerEdits":{"env":["B=0"]}}]}`}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"UUIDs before numbers, and GPUs alone", whole, []string{"GPU-aaaa", "GPU-bbbb"}},
		{"numbers where there is nothing else", numbers, []string{"0", "1"}},
		{"none", nil, nil},
		{"one file that cannot be read does not hide the others", map[string]string{"nvidia.yaml": nvidia, "bad.json": "{"}, []string{"GPU-aaaa", "GPU-bbbb"}},
	} {
		if got, err := write(c.files).GPUs(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}

	for _, c := range []struct {
		name  string
		files map[string]string
		ids   []string
		nodes string
		env   string
		fails string
	}{
		{name: "none", files: whole, env: "A=1"},
		{name: "by its UUID", files: whole, ids: []string{"GPU-bbbb"}, nodes: "/dev/nvidia1", env: "A=1 NVIDIA_VISIBLE_DEVICES=GPU-bbbb DRIVER=1"},
		{name: "two", files: whole, ids: []string{"GPU-aaaa", "GPU-bbbb"}, nodes: "/dev/nvidia0 /dev/nvidia1", env: "A=1 NVIDIA_VISIBLE_DEVICES=GPU-aaaa,GPU-bbbb DRIVER=1"},
		{name: "all", files: whole, ids: []string{"all"}, nodes: "/dev/nvidia0 /dev/nvidia1", env: "A=1 NVIDIA_VISIBLE_DEVICES=all DRIVER=1"},
		{name: "all without a name for it", files: numbers, ids: []string{"all"}, env: "A=1 B=1 NVIDIA_VISIBLE_DEVICES=all"},
		{name: "by its whole name", files: numbers, ids: []string{"amd.com/gpu=0"}, env: "A=1 B=0 NVIDIA_VISIBLE_DEVICES=amd.com/gpu=0"},
		{name: "no GPU of that name", files: whole, ids: []string{"GPU-none"}, fails: "GPU GPU-none is not to be had"},
		{name: "no CDI files", ids: []string{"all"}, fails: "GPU all is not to be had: no CDI file in "},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := write(c.files)
			s := &specs.Spec{Version: ociVersion, Process: &specs.Process{Env: []string{"A=1"}}, Linux: &specs.Linux{}}
			err := r.giveGPUs(s, c.ids)
			if c.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.fails) || container.KindOf(err, "") != container.KindHost {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var nodes []string
			for _, d := range s.Linux.Devices {
				nodes = append(nodes, d.Path)
			}
			if got := strings.Join(nodes, " "); got != c.nodes {
				t.Errorf("devices %q, want %q", got, c.nodes)
			}
			if got := strings.Join(s.Process.Env, " "); got != c.env {
				t.Errorf("environment %q, want %q", got, c.env)
			}
			allowed := 0
			if s.Linux.Resources != nil {
				allowed = len(s.Linux.Resources.Devices)
			}
			if allowed != len(nodes) {
				t.Errorf("%d devices may be used of %d", allowed, len(nodes))
			}
		})
	}
}

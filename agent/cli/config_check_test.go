package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigCheckFile(t *testing.T) {
	tests := []struct {
		name, file, text string
		code             int
		says             []string
		silent           string
	}{
		{"all well", "a.config", "ECS_CLUSTER=blue\n", ExitOK, nil, "warning"},
		{"misspelt", "a.config", "ECS_CLUSTER=blue\nECS_CLUSTR=green\n", ExitFailure, []string{"ECS_CLUSTR", ":2", "did you mean ECS_CLUSTER?"}, ""},
		{"unknown", "a.config", "BERTH_FLUX_CAPACITOR=1\n", ExitFailure, []string{"BERTH_FLUX_CAPACITOR", "is not a setting"}, "did you mean"},
		{"no line", "a.config", "hello world\n", ExitFailure, []string{"line 1 is not KEY=VALUE"}, ""},
		{"passed over", "a.config", "ECS_CONTAINER_STOP_TIMEOUT=soon\n", ExitFailure, []string{"is passed over"}, ""},
		{"of no use", "a.config", "DOCKER_HOST=unix:///x\n", ExitOK, []string{"note: DOCKER_HOST is not honoured"}, "warning"},
		{"would not start", "a.config", "ECS_INSTANCE_ATTRIBUTES=x\nECS_CLUSTR=green\n", ExitTerminal, []string{"ECS_INSTANCE_ATTRIBUTES", "ECS_CLUSTER?"}, ""},
		{"JSON", "a.json", `{"Cluster": "blue", "Clustre": "green"}`, ExitFailure, []string{"Clustre", "did you mean Cluster?"}, ""},
		{"no JSON", "a.json", `{`, ExitTerminal, []string{"is not a JSON object"}, ""},
		{"secrets stay", "a.config", "ECS_ENGINE_AUTH_DATA=hunter2\nECS_CLUSTR=x\n", ExitFailure, nil, "hunter2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := runWith(t, "", "", "config", "--check", path)
			if r.code != tt.code {
				t.Errorf("code %d, want %d: %s", r.code, tt.code, r.err)
			}
			for _, s := range tt.says {
				if !strings.Contains(r.err, s) {
					t.Errorf("%q is not said: %s", s, r.err)
				}
			}
			if tt.silent != "" && strings.Contains(r.err+r.out, tt.silent) {
				t.Errorf("%q is said: %s%s", tt.silent, r.err, r.out)
			}
			j := runWith(t, "", "", "config", "--check", "--json", path)
			if j.code != tt.code || !strings.Contains(j.out, `"warnings"`) {
				t.Errorf("JSON: code %d, want %d: %s", j.code, tt.code, j.out)
			}
		})
	}
	if r := runWith(t, "", "", "config", "--check", filepath.Join(t.TempDir(), "absent.json")); r.code != ExitFailure {
		t.Errorf("a file that is not there: code %d", r.code)
	}
	if r := runWith(t, "", "", "config", "x.config"); r.code != ExitUsage {
		t.Errorf("a file without --check: code %d", r.code)
	}
}

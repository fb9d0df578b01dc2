package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorNeighbours(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		check  string
		status verdict
		why    string
	}{
		{"ports outside of the range", map[string]string{"range": "1024\t50000\n", "reserved": "\n"}, "reserved ports", good, "51678"},
		{"ports not reserved", map[string]string{"range": "32768\t60999\n", "reserved": "\n"}, "reserved ports", poor, "51678"},
		{"one port reserved", map[string]string{"range": "32768\t60999\n", "reserved": "80,51678\n"}, "reserved ports", poor, "51679"},
		{"both reserved", map[string]string{"range": "32768\t60999\n", "reserved": "80,51000-51679,60000\n"}, "reserved ports", good, "51679"},
		{"the kernel does not say", map[string]string{"range": "32768\t60999\n"}, "reserved ports", poor, "cannot read"},
		{"the ECS agent at boot", map[string]string{"etc/systemd/system/multi-user.target.wants/ecs.service": ""}, "other agents", bad, "ecs.service"},
		{"the ECS agent now", map[string]string{"proc/77/cmdline": "/usr/libexec/amazon-ecs-init\x00start\x00"}, "other agents", bad, "process 77"},
		{"somebody who talks about it", map[string]string{"proc/77/cmdline": "vi\x00amazon-ecs-agent\x00"}, "other agents", good, "no other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &patient{root: t.TempDir()}
			for name, text := range tt.files {
				switch name {
				case "range":
					name = "proc/sys/net/ipv4/ip_local_port_range"
				case "reserved":
					name = "proc/sys/net/ipv4/ip_local_reserved_ports"
				}
				if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range checks() {
				if c.name != tt.check {
					continue
				}
				if f := c.look(t.Context(), p); f.Status != tt.status || !strings.Contains(f.Why, tt.why) {
					t.Errorf("%s: %s", f.Status, f.Why)
				}
				return
			}
			t.Fatalf("no check %q", tt.check)
		})
	}
}

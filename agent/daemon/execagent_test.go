package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/task"
)

// put makes a file of a directory below dir.
func put(t *testing.T, dir, name string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
		t.Fatal(err)
	}
}

func TestExecAgentAvailable(t *testing.T) {
	a := execAgent{dir: t.TempDir()}
	for _, step := range []string{"bin/3.1.9.0/amazon-ssm-agent", "bin/3.1.9.0/ssm-agent-worker", "bin/3.1.9.0/ssm-session-worker", "config/x", "certs/tls-ca-bundle.pem"} {
		if got := a.available(); got != nil {
			t.Errorf("before %s: %v", step, got)
		}
		put(t, a.dir, step, 0o755)
	}
	if got := a.available(); !slices.Equal(got, []string{"ExecuteCommandAgent"}) {
		t.Errorf("available: %v", got)
	}
	// The newest complete version counts, by number and not by letter.
	put(t, a.dir, "bin/3.2.0.0/amazon-ssm-agent", 0o755)
	for _, name := range a.binaries() {
		put(t, a.dir, "bin/3.1.10.0/"+name, 0o755)
		put(t, a.dir, "bin/4.0.0.0/"+name, 0o644) // not executable
		put(t, a.dir, "bin/latest/"+name, 0o755)
	}
	if got, err := a.version(); err != nil || filepath.Base(got) != "3.1.10.0" {
		t.Errorf("version: %s, %v", got, err)
	}
}

func TestExecAgentOutfit(t *testing.T) {
	a := execAgent{dir: t.TempDir(), logs: filepath.Join(t.TempDir(), "logs")}
	for _, name := range a.binaries() {
		put(t, a.dir, "bin/3.1.9.0/"+name, 0o755)
	}
	d := &task.Definition{ARN: "arn:task/c/t1", ID: "t1", Containers: []task.Container{{Name: "web"}}}
	c := &d.Containers[0]
	for limit, want := range map[string]float64{"5": 5, "": 2, "many": 2} {
		agent := task.ManagedAgent{Name: executeCommand, Properties: map[string]string{"sessionLimit": limit}}
		mounts, err := a.Outfit(t.Context(), d, c, agent)
		if err != nil {
			t.Fatal(err)
		}
		home := a.home(d, c)
		if command := a.Command(d, c, agent); len(command) != 1 || command[0] != home+"/amazon-ssm-agent" {
			t.Errorf("command: %q", command)
		}
		var inside []string
		for _, m := range mounts {
			inside = append(inside, m.Destination)
			if writable := !slices.Contains(m.Options, "ro"); writable != (m.Destination == "/var/log/amazon/ssm") {
				t.Errorf("%s is writable: %v", m.Destination, writable)
			}
			if strings.HasSuffix(m.Destination, "amazon-ssm-agent.json") {
				var settings struct {
					Mgs   map[string]any
					Agent map[string]any
				}
				text, err := os.ReadFile(m.Source)
				if err != nil || json.Unmarshal(text, &settings) != nil {
					t.Fatal(err, string(text))
				}
				if settings.Mgs["SessionWorkersLimit"] != want || settings.Agent["ContainerMode"] != true || settings.Agent["UseDualStackEndpoint"] != false {
					t.Errorf("settings with limit %q: %s", limit, text)
				}
			}
		}
		slices.Sort(inside)
		for i, name := range []string{
			home + "/amazon-ssm-agent", home + "/certs/amazon-ssm-agent.crt", home + "/configuration/amazon-ssm-agent.json",
			home + "/configuration/seelog.xml", home + "/ssm-agent-worker", home + "/ssm-session-worker", "/var/log/amazon/ssm",
		} {
			if i >= len(inside) || inside[i] != name {
				t.Errorf("mounts are %q; want %s at %d", inside, name, i)
			}
		}
	}
	// The same content is one file, however often it was asked for.
	files, err := os.ReadDir(filepath.Join(a.dir, "config"))
	if err != nil || len(files) != 3 { // two limits, one logging
		t.Errorf("config has %v, %v", files, err)
	}
	if err := a.Remove(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(a.logs, "t1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the task's logs: %v", err)
	}
}

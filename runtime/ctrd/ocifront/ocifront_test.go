package ocifront

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMergeSpec(t *testing.T) {
	for _, c := range []struct {
		name, spec, want string
		env              []string
	}{
		{
			"over the spec's own, and all else as it is",
			`{"ociVersion":"1.0.2","process":{"args":["sh"],"env":["A=1","PASSWORD=old","B=2"],"x":7},"root":{"path":"rootfs","readonly":true},"y":{"z":[1]}}`,
			`{"ociVersion":"1.0.2","process":{"args":["sh"],"env":["A=1","B=2","PASSWORD=new=er","C=\u0026"],"x":7},"root":{"path":"/b/rootfs","readonly":true},"y":{"z":[1]}}`,
			[]string{"PASSWORD=new=er", "C=&"},
		},
		{
			"a spec without variables, an absolute root, the last of a name",
			`{"process":{},"root":{"path":"/r"}}`,
			`{"process":{"env":["A=2"]},"root":{"path":"/r"}}`,
			[]string{"A=1", "A=2"},
		},
		{
			"a name that begins like another", `{"process":{"env":["AB=1"]},"root":{"path":"/r"}}`,
			`{"process":{"env":["AB=1","A=2"]},"root":{"path":"/r"}}`,
			[]string{"A=2"},
		},
	} {
		got, err := mergeSpec([]byte(c.spec), "/b", c.env)
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{``, `[]`, `{"root":{"path":"r"}}`, `{"process":{"env":"hunter2"},"root":{"path":"r"}}`, `{"process":{}}`} {
		if got, err := mergeSpec([]byte(bad), "/b", nil); !errors.Is(err, errSpec) {
			t.Errorf("mergeSpec(%s) = %s, %v", bad, got, err)
		}
	}
}

func TestMergeProcess(t *testing.T) {
	got, err := mergeProcess([]byte(`{"args":["env"],"env":["A=given","B=1"]}`), []string{"A=secret", "C=3"})
	if want := `{"args":["env"],"env":["A=given","B=1","C=3"]}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ args, verb, log string }{
		{"/s/oci-runtime --root /run/x --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid web", "create", "/b/log.json"},
		{"/s/oci-runtime --root=/run/x --log=/l exec --process /tmp/p web", "exec", "/l"},
		{"/s/oci-runtime --rootless true --debug delete --force web", "delete", ""},
		{"/s/oci-runtime --version", "", ""},
		{"/s/oci-runtime", "", ""},
	} {
		p := parse(strings.Fields(c.args))
		if p.verb != c.verb || p.log != c.log || p.state != "/s" {
			t.Errorf("%s: verb %q, log %q, state %q", c.args, p.verb, p.log, p.state)
		}
	}
	if !Called([]string{"/run/berth/ctrd/oci-runtime", "state"}) || Called([]string{"/usr/bin/berth", "oci-runtime"}) || Called(nil) {
		t.Error("Called does not go by argv[0]")
	}
}

// TestFront runs the front itself, before a runtime that prints what it is given.
func TestFront(t *testing.T) {
	dir := t.TempDir()
	state, bundle := filepath.Join(dir, "state"), filepath.Join(dir, "bundle")
	binary, runtime := filepath.Join(dir, "front"), filepath.Join(dir, "runtime")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../testdata/ocifront").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the front: %v\n%s", err, out)
	}
	script := `#!/bin/sh
echo "$@"
while [ $# -gt 1 ]; do
	case $1 in --bundle) cat "$2/config.json" ;; --process) cat "$2" ;; esac
	shift
done
`
	spec := `{"process":{"env":["A=1"]},"root":{"path":"rootfs"}}`
	for path, text := range map[string]string{runtime: script, filepath.Join(bundle, "config.json"): spec, filepath.Join(dir, "process"): `{"env":["B=2"]}`} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	front, err := Install(state, binary, runtime)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Install(state, binary, runtime); err != nil || again != front {
		t.Fatalf("installed again: %s, %v", again, err)
	}
	if err := Write(state, "web", []string{"A=hunter2"}); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), front, args...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	out, err := run("--root", "/x", "create", "--bundle", bundle, "web")
	own := filepath.Join(Dir(state), "web")
	want := "--root /x create --bundle " + own + " web\n" + `{"process":{"env":["A=hunter2"]},"root":{"path":"` + bundle + `/rootfs"}}`
	if err != nil || out != want {
		t.Errorf("create:\n got %s, %v\nwant %s", out, err, want)
	}
	if text, err := os.ReadFile(filepath.Join(bundle, "config.json")); err != nil || string(text) != spec {
		t.Errorf("containerd's own bundle was changed: %s, %v", text, err)
	}

	out, err = run("exec", "--process", filepath.Join(dir, "process"), "web")
	if err != nil || !strings.HasPrefix(out, "exec --process /proc/self/fd/") || !strings.HasSuffix(out, "\n"+`{"env":["B=2","A=hunter2"]}`) {
		t.Errorf("exec: %s, %v", out, err)
	}
	files, err := filepath.Glob(filepath.Join(own, "*"))
	hidden, herr := filepath.Glob(filepath.Join(own, ".*"))
	if err := errors.Join(err, herr); err != nil || len(files) != 2 || slices.ContainsFunc(hidden, func(f string) bool { return strings.Contains(f, "exec") }) {
		t.Errorf("files of the container: %v %v, %v", files, hidden, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want 0600", f, st.Mode(), err)
		}
	}

	if out, err := run("state", "other"); err != nil || out != "state other\n" {
		t.Errorf("state: %s, %v", out, err)
	}

	log := filepath.Join(dir, "log.json")
	if out, err := run("--log", log, "create", "--bundle", bundle, "other"); err == nil || out != "" {
		t.Errorf("create without secrets: %q, %v", out, err)
	}
	var line struct{ Level, Msg string }
	text, err := os.ReadFile(log)
	if err != nil || json.Unmarshal(text, &line) != nil || line.Level != "error" || !strings.Contains(line.Msg, "cannot read secret variables") {
		t.Errorf("log: %s, %v", text, err)
	}
	if out, err := run("create", "--bundle", bundle, "../web"); err == nil || !strings.Contains(out, "invalid container ID") {
		t.Errorf("an ID that leaves the directory: %s, %v", out, err)
	}

	if ids, err := Containers(state); err != nil || !slices.Equal(ids, []string{"web"}) {
		t.Errorf("Containers = %v, %v", ids, err)
	}
	if names, err := Names(state, "web"); err != nil || !slices.Equal(names, []string{"A"}) {
		t.Errorf("Names = %v, %v", names, err)
	}
	if err := errors.Join(Remove(state, "web"), Remove(state, "web")); err != nil {
		t.Error(err)
	}
	if _, err := Names(state, "web"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Names of a removed container: %v", err)
	}
}

package packaging_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/cli"
	"github.com/berthd/berth/agent/config"
)

// Every path in a script is one that the code, the package or the system has, and every verb exists.
func TestScriptsAgreeWithCodeAndPackage(t *testing.T) {
	list, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var packaged []string
	for _, m := range regexp.MustCompile(`dst: ([^,}\s]+)`).FindAllStringSubmatch(string(list), -1) {
		packaged = append(packaged, m[1])
	}
	known := slices.Concat(packaged, []string{
		config.DefaultFile, filepath.Dir(config.DefaultFile), config.DefaultDataDir, config.DefaultRunDir, config.DefaultRunDir + "/netns",
		config.DefaultDataDir + "/removed", // setup's own
		filepath.Dir(config.DefaultAuditLog), filepath.Dir(config.DefaultFile) + "/ecs.config.json",
		"/usr/lib/berth/setup", "/usr/lib/berth/versions", "/usr/lib/berth/current", // setup makes them
		"/usr/share/berth/sbom.json", // ami/provision.sh makes it
		"/sys/fs/cgroup/*/ecs",
		"/bin/sh", "/dev/null", "/run/systemd/system", "/usr/lib/systemd/systemd-sysctl", "/net/ipv4/ip_local_reserved_ports",
	})
	scripts, err := filepath.Glob("scripts/*")
	if err != nil || len(scripts) < 7 {
		t.Fatalf("scripts: %v %v", scripts, err)
	}
	path := regexp.MustCompile(`(?:^|[\s"'=!>-])(/[A-Za-z][^\s"';)}:|]*)`)
	verb := regexp.MustCompile(`(?:current/berth"?|\bberth) ([a-z]+) --`)
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), `"$lib"/`, "$lib/")) {
			for _, m := range path.FindAllStringSubmatch(line, -1) {
				if !slices.Contains(known, m[1]) {
					t.Errorf("%s: who has %s?  %s", script, m[1], line)
				}
			}
			for _, m := range verb.FindAllStringSubmatch(line, -1) {
				if !slices.Contains(cli.Verbs(), m[1]) {
					t.Errorf("%s: there is no verb %s", script, m[1])
				}
			}
			if name, isGroup := strings.CutPrefix(strings.TrimSpace(line), "groupdel "); isGroup && !strings.HasPrefix(name, config.Group+" ") {
				t.Errorf("%s: the group is %s: %s", script, config.Group, line)
			}
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", script, out)
		}
	}
	// What is in the directory of units is in the packages, for both.
	units, err := filepath.Glob("systemd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range units {
		if n := strings.Count(string(list), "packaging/"+unit); n == 0 || strings.HasSuffix(unit, ".service") && n != 2 {
			t.Errorf("nfpm.yaml has %s %d times", unit, n)
		}
	}
}

// begin makes a lib directory as a package leaves it, and answers a function that runs setup on it.
func begin(t *testing.T) (lib string, setup func(verb string) string) {
	t.Helper()
	lib = t.TempDir()
	script, err := filepath.Abs("scripts/setup")
	if err != nil {
		t.Fatal(err)
	}
	return lib, func(verb string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", script, verb)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "BERTH_LIB=" + lib, "BERTH_ETC=" + lib + "/etc", "BERTH_DATA=" + lib + "/data", "BERTH_KEPT=" + lib + "/kept"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("setup %s: %v\n%s", verb, err, out)
		}
		return string(out)
	}
}

// Versions of packages and of updates live side by side: the rules of setup switch, and of what it keeps.
func TestSetupSwitch(t *testing.T) {
	lib, setup := begin(t)
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(lib, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install := func(version string) string {
		t.Helper()
		write("package/berth", "program "+version)
		write("package/version", version+"\n")
		return setup("switch")
	}
	state := func(current, previous, versions string) {
		t.Helper()
		for link, want := range map[string]string{"current": current, "previous": previous} {
			got, _ := os.Readlink(filepath.Join(lib, link)) // No link is no version.
			if got = strings.TrimPrefix(got, "versions/"); got != want {
				t.Errorf("%s is %q, want %q", link, got, want)
			}
		}
		entries, err := os.ReadDir(filepath.Join(lib, "versions"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			if text, err := os.ReadFile(filepath.Join(lib, "versions", e.Name(), "berth")); string(text) != "program "+e.Name() {
				t.Errorf("the program of %s is %q (%v)", e.Name(), text, err)
			}
		}
		if got := strings.Join(names, " "); got != versions {
			t.Errorf("versions %s, want %s", got, versions)
		}
	}
	install("1.0.0")
	state("1.0.0", "", "1.0.0")
	install("1.0.0") // again, as dpkg --configure after a crash
	state("1.0.0", "", "1.0.0")
	install("1.10.0")
	state("1.10.0", "1.0.0", "1.0.0 1.10.0")
	install("1.9.0") // whoever installs an older package means it
	state("1.9.0", "1.10.0", "1.10.0 1.9.0")
	install("2.0.0~rc1")
	state("2.0.0~rc1", "1.9.0", "1.9.0 2.0.0~rc1")

	// berth update went on to 3.0.0: an older package does not take that back, a newer one goes on from there.
	write("versions/3.0.0/berth", "program 3.0.0")
	for _, link := range [][2]string{{"previous", "versions/2.0.0~rc1"}, {"current", "versions/3.0.0"}} {
		if err := os.Remove(filepath.Join(lib, link[0])); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link[1], filepath.Join(lib, link[0])); err != nil {
			t.Fatal(err)
		}
	}
	if said := install("2.0.0"); !strings.Contains(said, "3.0.0") || !strings.Contains(said, "berth update --to 2.0.0") {
		t.Errorf("an older package says %q", said)
	}
	state("3.0.0", "2.0.0~rc1", "1.9.0 2.0.0 2.0.0~rc1 3.0.0")
	install("3.0.1")
	state("3.0.1", "3.0.0", "3.0.0 3.0.1")
}

// What counts as configured decides whether an installation starts anything.
func TestSetupStartsWhatIsConfigured(t *testing.T) {
	template, err := os.ReadFile("ecs.config")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("scripts/setup")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "configured() {\n")
	body, _, _ = strings.Cut(body, "\n}")
	for settings, want := range map[string]bool{
		string(template): false, "": false, "# ECS_CLUSTER=x\n": false, "ECS_CLUSTER=\n": false,
		"ECS_CLUSTER=x\n": true, "  export ECS_CLUSTER=x\n": true, string(template) + "ECS_CLUSTER=x": true, "HTTP_PROXY=http://p:3128\n": true,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ecs.config"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "etc=$1\n"+body, "sh", dir)
		if err := cmd.Run(); (err == nil) != want {
			t.Errorf("%q: configured is %v, want %v", settings, err == nil, want)
		}
	}
	// The template itself has nothing that the program does not know.
	for line := range strings.Lines(string(template)) {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), "=")
		if !ok || strings.ContainsAny(name, " ") {
			continue
		}
		if !slices.ContainsFunc(config.Reference(), func(d config.Documented) bool { return d.Name == name }) {
			t.Errorf("ecs.config has %s, which is no setting", name)
		}
	}
}

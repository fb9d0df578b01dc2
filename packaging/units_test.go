package packaging_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/cli"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/runtime/cgroups"
)

// binary is where the packages put the program.
const binary = "/usr/bin/berth"

// previous is the version that a bad update returns to; agent/update makes the link.
const previous = "/usr/lib/berth/previous/berth"

// unit is a unit file: section, key, and every value it was given.
type unit map[string]map[string][]string

func read(t *testing.T, name string) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%s:%d is neither comment nor section nor assignment: %s", name, i+1, line)
			}
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

// want checks keys of a section against the code.
func want(t *testing.T, u unit, section string, values map[string]string) {
	t.Helper()
	for key, value := range values {
		if got := strings.Join(u[section][key], " + "); got != value {
			t.Errorf("[%s] %s=%s, want %s", section, key, got, value)
		}
	}
}

func TestAgentUnitAgreesWithTheCode(t *testing.T) {
	u := read(t, "berth.service")
	want(t, u, "Unit", map[string]string{
		"After": "network.target", "Wants": "berth-logs.service berth-shutdown.service", "StartLimitIntervalSec": "0",
	})
	want(t, u, "Service", map[string]string{
		"Type": "notify", "NotifyAccess": "main", "ExecStart": binary + " agent", "Restart": "always", "KillMode": "process",
		"ExecStartPre": "-" + previous + " update --guard start", "ExecStopPost": "-" + previous + " update --guard stop",
		"SuccessExitStatus":        fmt.Sprint(cli.ExitUpdate),
		"RestartPreventExitStatus": fmt.Sprint(cli.ExitTerminal), "RuntimeDirectoryPreserve": "yes",
		"RuntimeDirectory": under(t, "/run", config.DefaultRunDir),
		"StateDirectory":   under(t, "/var/lib", config.DefaultDataDir),
		"CacheDirectory":   under(t, "/var/cache", config.DefaultCacheDir),
		"LogsDirectory":    under(t, "/var/log", filepath.Dir(config.DefaultAuditLog)),
	})
	if got := u["Service"]["FileDescriptorStoreMax"]; len(got) != 1 || got[0] != "1" {
		t.Errorf("FileDescriptorStoreMax=%s: a shutdown would not wait for an agent that was just killed", got)
	}
	if len(u["Service"]["WatchdogSec"]) != 1 {
		t.Error("no watchdog")
	}
	// The agent reads the file with its own rules; systemd's are others.
	if e := u["Service"]["EnvironmentFile"]; e != nil {
		t.Errorf("EnvironmentFile=%s", e)
	}
}

func TestLogUnitAgreesWithTheCode(t *testing.T) {
	u := read(t, "berth-logs.service")
	want(t, u, "Unit", map[string]string{"After": "network.target", "Before": "berth.service"})
	want(t, u, "Service", map[string]string{
		"Type": "notify", "ExecStart": binary + " logd", "Restart": "always", "RuntimeDirectoryPreserve": "yes",
		"RuntimeDirectory": under(t, "/run", filepath.Dir(config.DefaultLogSocket)),
		"StateDirectory":   under(t, "/var/lib", config.DefaultDataDir),
	})
}

// What the farewell needs is kept, the agent is not told anything that systemd does not tell it, and nothing waits for it at boot.
func TestShutdownUnitOrdersTheStopAlone(t *testing.T) {
	u := read(t, "berth-shutdown.service")
	want(t, u, "Unit", map[string]string{
		"After": "network.target dbus.service containerd.service berth-logs.service", "Before": "", "Wants": "", "DefaultDependencies": "",
	})
	want(t, u, "Service", map[string]string{"Type": "oneshot", "RemainAfterExit": "yes", "ExecStart": "", "TimeoutStopSec": "3min"})
	if u["Install"] != nil {
		t.Error("a target that wants this unit would wait at boot for all that it is after; berth.service wants it")
	}

	// What it does when it is stopped depends on what systemd does then.
	command, ok := strings.CutPrefix(strings.Join(u["Service"]["ExecStop"], " + "), "/bin/sh -c '")
	command, closed := strings.CutSuffix(command, "'")
	if !ok || !closed {
		t.Fatalf("ExecStop=%v is not one command of a shell", u["Service"]["ExecStop"])
	}
	for state, stops := range map[string]string{
		"stopping": "stop berth.service\n", "running": "", "degraded": "", "starting": "", "maintenance": "", "": "",
	} {
		dir := t.TempDir()
		said := filepath.Join(dir, "said")
		script := "#!/bin/sh\n[ $1 = is-system-running ] && { echo " + state + "; exit 1; }\necho \"$@\" >>" + said + "\n"
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
		cmd.Env = []string{"PATH=" + dir}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("state %q: %v\n%s", state, err, out)
		}
		if got, err := os.ReadFile(said); string(got) != stops || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("state %q: systemctl was told %q (%v), want %q", state, got, err, stops)
		}
	}
}

// Where logind announces a shutdown, it waits for all that the agent may take.
func TestLogindWaitsLongEnough(t *testing.T) {
	u := read(t, "berth.logind.conf")
	delay, err := time.ParseDuration(strings.Join(u["Login"]["InhibitDelayMaxSec"], " + "))
	if err != nil || delay < config.MaxShutdownTimeout+5*time.Second {
		t.Errorf("logind waits %s, and the tasks may take %s (%v)", delay, config.MaxShutdownTimeout, err)
	}
	if list, err := os.ReadFile("nfpm.yaml"); err != nil || !strings.Contains(string(list), "berth.logind.conf, dst: /usr/lib/systemd/logind.conf.d/") {
		t.Errorf("it is not where logind reads it (%v)", err)
	}
}

// The cgroups of the tasks are below slices of these names, which systemd must not stop by itself.
func TestSlicesOfTasksAreNotStoppedAtShutdown(t *testing.T) {
	for _, name := range []string{"ecstasks.slice", "ecstasks-.slice.d/shutdown.conf"} {
		want(t, read(t, name), "Unit", map[string]string{"DefaultDependencies": "no", "Conflicts": ""})
	}
	// systemd nests a-b.slice in a.slice, and reads a-.slice.d for it.
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := cgroups.New(cgroups.Config{Driver: cgroups.Systemd, Mode: cgroups.V2, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if parent, _, _ := strings.Cut(m.Parent("1a2b"), "-"); parent != "ecstasks" {
		t.Errorf("the tasks are in the slice %s", m.Parent("1a2b"))
	}
}

// under answers path relative to base, as systemd wants its directories.
func under(t *testing.T, base, path string) string {
	t.Helper()
	rel, err := filepath.Rel(base, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		t.Fatalf("%s is not under %s", path, base)
	}
	return rel
}

// Stopping, restarting or upgrading one thing must not take another with it, and nothing may wait for what is not ours.
func TestUnitsAreBoundToNothing(t *testing.T) {
	for _, name := range []string{"berth.service", "berth-logs.service", "berth-shutdown.service"} {
		u := read(t, name)
		for _, key := range []string{"BindsTo", "PartOf", "Requires", "Requisite", "Upholds", "PropagatesStopTo"} {
			if v := u["Unit"][key]; v != nil {
				t.Errorf("%s: %s=%s", name, key, v)
			}
		}
		for _, key := range []string{"After", "Wants", "Before"} {
			if name == "berth-shutdown.service" && key == "After" {
				continue // That is what it is for, and nobody waits for it.
			}
			for _, v := range u["Unit"][key] {
				for _, foreign := range []string{"containerd", "docker", "cloud", "network-online"} {
					if strings.Contains(v, foreign) {
						t.Errorf("%s: %s=%s", name, key, v)
					}
				}
			}
		}
	}
}

// A service with mounts of its own shows containerd nothing of what it mounts: the agent is handed the host's, and may go there. What it is
// updated in it can write.
func TestAgentIsHandedTheHost(t *testing.T) {
	u := read(t, "berth.service")
	want(t, u, "Service", map[string]string{
		"StandardInput": "file:/proc/1/ns/mnt", "ProtectSystem": "strict", "PrivateMounts": "yes", "PrivateDevices": "yes",
		"ReadWritePaths": filepath.Dir(filepath.Dir(previous)), "DeviceAllow": "block-* rw",
		// Its own network and users would be another host's.
		"PrivateNetwork": "", "PrivateUsers": "", "DynamicUser": "", "RootDirectory": "", "RootImage": "",
	})
	for key, needed := range map[string][]string{
		"RestrictNamespaces": {"net", "mnt"}, "CapabilityBoundingSet": {"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"},
	} {
		for _, word := range needed {
			if !slices.Contains(strings.Fields(strings.Join(u["Service"][key], " ")), word) {
				t.Errorf("%s=%s is without %s", key, u["Service"][key], word)
			}
		}
	}
}

func TestVerbsInUnitsExist(t *testing.T) {
	verbs := cli.Verbs()
	for _, name := range []string{"berth.service", "berth-logs.service"} {
		u := read(t, name)
		for key, values := range u["Service"] {
			if !strings.HasPrefix(key, "Exec") || key == "ExecReload" && slices.Equal(values, []string{"/bin/kill -HUP $MAINPID"}) {
				continue
			}
			for _, v := range values {
				f := strings.Fields(v)
				if len(f) > 0 && f[0] == "-"+previous {
					f[0] = binary
				}
				if len(f) < 2 || f[0] != binary || !slices.Contains(verbs, f[1]) {
					t.Errorf("%s: %s=%s: the program has the verbs %v", name, key, v, verbs)
				}
			}
		}
	}
}

func TestGroupAndDirectories(t *testing.T) {
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if s := text("berth.sysusers.conf"); !strings.Contains(s, "\ng "+config.Group+" -") || !strings.Contains(s, config.DefaultSocket) {
		t.Errorf("sysusers does not make group %s for %s:\n%s", config.Group, config.DefaultSocket, s)
	}
	var dirs []string
	for line := range strings.Lines(text("berth.tmpfiles.conf")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "d" {
			dirs = append(dirs, f[1])
		}
	}
	for _, dir := range []string{config.DefaultRunDir, config.DefaultDataDir, filepath.Dir(config.DefaultFile), filepath.Dir(config.DefaultAuditLog)} {
		if !slices.Contains(dirs, dir) {
			t.Errorf("tmpfiles does not make %s", dir)
		}
	}
}

// The kernel gives nobody's connection a port on which the agent listens.
func TestPortsAreReserved(t *testing.T) {
	text, err := os.ReadFile("systemd/berth.sysctl.conf")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^net\.ipv4\.ip_local_reserved_ports = (\d+)-(\d+)$`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("no range of ports is reserved:\n%s", text)
	}
	for _, address := range []string{config.DefaultIntrospectionAddress, config.DefaultTaskMetadataAddress} {
		// All have five digits.
		if _, port, err := net.SplitHostPort(address); err != nil || port < m[1] || port > m[2] {
			t.Errorf("the port of %s is not in %s-%s (%v)", address, m[1], m[2], err)
		}
	}
}

// systemd itself has nothing to say about the units. It answers 0 for a misspelt key, so what counts is what it prints.
func TestSystemdVerifies(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze: apt-get install systemd")
	}
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"berth.slice", "ecstasks.slice", "berth-logs.service", "berth-shutdown.service", "berth.service"} {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// Verification wants a program that exists; which one is checked above.
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), binary, "/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, paths...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	// And it would have said something about a slip.
	slip := filepath.Join(dir, "slip.service")
	if err := os.WriteFile(slip, []byte("[Service]\nExecStart=/bin/true\nKillMoode=process\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", slip).CombinedOutput(); !strings.Contains(string(out), "KillMoode") {
		t.Errorf("systemd-analyze does not see a misspelt key: %s", out)
	}
}

// exposure is what systemd-analyze security says of one thing.
type exposure struct {
	Set         *bool  `json:"set"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Exposure    string `json:"exposure"`
}

// No unit gets softer, and what a unit leaves open it explains: each thing that systemd-analyze counts stands in a comment.
func TestExposureIsExplained(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze: apt-get install systemd")
	}
	for name, limit := range map[string]float64{"berth.service": 3.5, "berth-logs.service": 2.0} {
		path := filepath.Join("systemd", name)
		var found []exposure
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--json=short", "--no-pager", path).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal(out, &found); err != nil || len(found) < 50 {
			t.Fatalf("%s: %d things: %v", name, len(found), err)
		}
		overall, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", path).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, text, _ := strings.Cut(string(overall), "Overall exposure level for "+name+": ")
		level, err := strconv.ParseFloat(strings.Fields(text + " none")[0], 64)
		if err != nil || level > limit {
			t.Errorf("%s is exposed %v (%v), at most %v", name, level, err, limit)
		}
		unit, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var comments strings.Builder
		for line := range strings.Lines(string(unit)) {
			if strings.HasPrefix(line, "#") {
				comments.WriteString(line)
			}
		}
		for _, e := range found {
			if e.Set != nil && !*e.Set && e.Exposure != "" && !explained(comments.String(), e.Name) {
				t.Errorf("%s does not say why %s: %s", name, e.Name, e.Description)
			}
		}
	}
}

// explained says whether a comment names the thing: the option, or one of what it is about, as in CapabilityBoundingSet=~CAP_(CHOWN|FOWNER).
func explained(comments, thing string) bool {
	option, about, of := strings.Cut(thing, "=~")
	if !of {
		return slices.ContainsFunc(strings.Split(thing, "/"), func(o string) bool { return strings.Contains(comments, strings.TrimSuffix(o, "=")) })
	}
	if option == "RestrictNamespaces" {
		return strings.Contains(comments, thing)
	}
	prefix, group, of := strings.Cut(about, "(")
	if !of {
		return strings.Contains(comments, strings.TrimSuffix(about, "*"))
	}
	return slices.ContainsFunc(strings.Split(strings.Trim(group, "()"), "|"), func(one string) bool {
		one = strings.TrimSuffix(one, "*")
		return strings.Contains(comments, prefix+one) || strings.Contains(comments, " _"+one)
	})
}

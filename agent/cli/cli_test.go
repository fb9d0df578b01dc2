package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

// runWith runs a command line one minute after the host's start, so that ages are known.
func runWith(t *testing.T, socket, stdin string, argv ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	a := &app{
		Streams: Streams{In: strings.NewReader(stdin), Out: &out, Err: &errOut},
		now:     func() time.Time { return hostapitest.Start().Add(90 * time.Second) },
		env:     []string{},
	}
	code := a.main(t.Context(), append([]string{"--socket", socket}, argv...))
	return result{out.String(), errOut.String(), code}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("output differs from %s (-want +got):\n%s", path, diff)
	}
}

// What each verb prints about the host of hostapitest.
func TestGolden(t *testing.T) {
	tests := []struct {
		name string
		args []string
	}{
		{"ps", []string{"ps"}},
		{"ps-all", []string{"ps", "--all", "--full"}},
		{"ps-task", []string{"ps", "fedc"}},
		{"ps-json", []string{"ps", "--json", "fedc"}},
		{"why", []string{"why", "01f"}},
		{"why-nothing", []string{"why", "fedc"}},
		{"why-json", []string{"why", "--json", "01f"}},
		{"logs", []string{"logs", "0123"}},
		{"logs-one", []string{"logs", "--timestamps", "0123/log"}},
		{"logs-tail", []string{"logs", "--tail", "1", "0123"}},
		{"logs-since", []string{"logs", "--since", "88s", "0123"}},
		{"logs-json", []string{"logs", "--json", "0123/web"}},
		{"top", []string{"top"}},
		{"top-json", []string{"top", "--json"}},
		{"events", []string{"events"}},
		{"events-task", []string{"events", "--task", "01f"}},
		{"events-json", []string{"events", "--json"}},
		{"images", []string{"images"}},
		{"images-json", []string{"images", "--json"}},
		{"config-running", []string{"config", "--running"}},
		{"config-running-changed", []string{"config", "--running", "--changed", "--json"}},
		{"help-logs", []string{"logs", "--help"}},
	}
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runWith(t, socket, "", tt.args...)
			if r.code != ExitOK || r.err != "" {
				t.Errorf("code %d, stderr %q", r.code, r.err)
			}
			golden(t, tt.name, strings.ReplaceAll(r.out, socket, "SOCKET"))
		})
	}
}

func TestFailures(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	absent := filepath.Join(t.TempDir(), "absent.sock")
	tests := []struct {
		name   string
		socket string
		args   []string
		code   int
		says   []string
	}{
		{"unknown verb", socket, []string{"pss"}, ExitUsage, []string{`there is no verb "pss"; did you mean ps?`}},
		{"unknown flag", socket, []string{"ps", "--al"}, ExitUsage, []string{"unknown flag: --al", "berth ps --help"}},
		{"too few", socket, []string{"why"}, ExitUsage, []string{"berth why needs more: berth why TASK"}},
		{"too many", socket, []string{"ps", "a", "b"}, ExitUsage, []string{`"b" is too much`}},
		{"bad since", socket, []string{"logs", "--since", "yesterday", "0123"}, ExitUsage, []string{"--since"}},
		{"bad interval", socket, []string{"top", "--interval", "0s"}, ExitUsage, []string{"0s"}},
		{"check and running", socket, []string{"config", "--check", "--running"}, ExitUsage, []string{"take one"}},
		{"several containers", socket, []string{"exec", "0123", "ls"}, ExitUsage, []string{"2 containers", "web, log"}},
		{"no such container", socket, []string{"logs", "0123/db"}, ExitFailure, []string{`no container "db"`, "it has web, log"}},
		{"no such task", socket, []string{"ps", "beef"}, ExitFailure, []string{`there is no task "beef"`, "berth ps --all"}},
		{"ambiguous", socket, []string{"stop", "01"}, ExitFailure, []string{"2 tasks", hostapitest.WebTask, hostapitest.PendingTask, "write more"}},
		{"nothing created yet", socket, []string{"logs", "01f"}, ExitFailure, []string{"berth why 01f"}},
		{"exec in a stopped one", socket, []string{"exec", "fedc", "ls"}, ExitFailure, []string{"app is STOPPED"}},
		{"terminal without one", socket, []string{"exec", "-t", "0123/web", "echo"}, ExitUsage, []string{"-t needs a terminal"}},
		{"no agent", absent, []string{"ps"}, ExitFailure, []string{"does not answer", "systemctl status berth"}},
		{"no settings file", socket, []string{"config", "--config", absent}, ExitFailure, []string{"cannot read settings"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runWith(t, tt.socket, "", tt.args...)
			if r.code != tt.code || r.out != "" {
				t.Errorf("code %d, want %d; stdout %q", r.code, tt.code, r.out)
			}
			for _, s := range tt.says {
				if !strings.Contains(r.err, s) {
					t.Errorf("stderr %q does not say %q", r.err, s)
				}
			}
		})
	}
}

func TestFailuresAsJSON(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	for code, argv := range map[string][]string{
		hostapi.CodeAmbiguous: {"--json", "ps", "01"},
		"Usage":               {"--json", "why"},
		"Failed":              {"--json", "logs", "01f"},
	} {
		r := runWith(t, socket, "", argv...)
		var e struct{ Error hostapi.Error }
		if err := json.Unmarshal([]byte(r.err), &e); err != nil || e.Error.Code != code {
			t.Errorf("%v: stderr %q, want code %s", argv, r.err, code)
		}
	}
}

func TestStop(t *testing.T) {
	h := hostapitest.New()
	socket := hostapitest.Serve(t, h.Providers())
	// One slip, and nothing is stopped.
	if r := runWith(t, socket, "", "stop", "0123", "beef"); r.code != ExitFailure || h.Tasks()[0].KnownStatus != "RUNNING" {
		t.Errorf("code %d, the first task is %s", r.code, h.Tasks()[0].KnownStatus)
	}
	r := runWith(t, socket, "", "stop", "--wait", "--reason", "because", "0123", "01f")
	if r.code != ExitOK || r.out != hostapitest.WebTask+"\n"+hostapitest.PendingTask+"\n" {
		t.Errorf("code %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
	for _, task := range h.Tasks()[:2] {
		if task.KnownStatus != "STOPPED" || task.Reason != "because" {
			t.Errorf("task %s is %s: %s", task.ID, task.KnownStatus, task.Reason)
		}
	}
}

func TestExec(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	tests := []struct {
		name  string
		stdin string
		args  []string
		want  result
	}{
		{"output", "", []string{"exec", "0123/web", "echo", "-n", "--json", "a b"}, result{"-n --json a b\n", "", 0}},
		{"two dashes", "", []string{"exec", "0123/web", "--", "echo", "--", "x"}, result{"-- x\n", "", 0}},
		{"stderr and code", "", []string{"exec", "0123/web", "fail", "no"}, result{"", "no\n", 1}},
		{"code passes through", "", []string{"exec", "0123/web", "exit", "42"}, result{"", "", 42}},
		{"stdin", "x\ny", []string{"exec", "-i", "0123/web", "cat"}, result{"x\ny", "", 0}},
		{"no stdin", "x\ny", []string{"exec", "0123/web", "cat"}, result{"", "", 0}},
		{"not there", "", []string{"exec", "0123/web", "nope"}, result{"", "berth: invalid request: executable \"nope\" not found\n", 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := runWith(t, socket, tt.stdin, tt.args...); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLogsOfOneContainerPartStderr(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	r := runWith(t, socket, "", "logs", "0123/web")
	want := result{"listening on :80\nGET /\n", "no <config>, using defaults\n", 0}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

func TestFollowEndsInPeaceWhenInterrupted(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	for _, argv := range [][]string{{"events", "-f"}, {"logs", "-f", "0123"}, {"logs", "-f", "0123/log"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		out := &firstWrite{then: func() { cancel(errors.New("ctrl-c")) }}
		a := &app{Streams: Streams{Out: out, Err: out}, now: time.Now}
		if code := a.main(ctx, append([]string{"--socket", socket}, argv...)); code != ExitOK {
			t.Errorf("%v: code %d, %s", argv, code, out.String())
		}
	}
}

// firstWrite does something once output begins.
type firstWrite struct {
	bytes.Buffer

	then func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.then()
	return w.Buffer.Write(p)
}

func TestSplitRef(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	tests := [][3]string{
		{"4f2a", "4f2a", ""},
		{"4f2a/web", "4f2a", "web"},
		{"arn:aws:ecs:r:1:task/blue/" + id, "arn:aws:ecs:r:1:task/blue/" + id, ""},
		{"arn:aws:ecs:r:1:task/blue/" + id + "/web", "arn:aws:ecs:r:1:task/blue/" + id, "web"},
		{"arn:aws:ecs:r:1:task/" + id, "arn:aws:ecs:r:1:task/" + id, ""},
		{"arn:aws:ecs:r:1:task/" + id + "/web", "arn:aws:ecs:r:1:task/" + id, "web"},
	}
	for _, tt := range tests {
		if task, container := splitRef(tt[0]); task != tt[1] || container != tt[2] {
			t.Errorf("%s is task %q, container %q; want %q, %q", tt[0], task, container, tt[1], tt[2])
		}
	}
}

func TestCompletion(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"ps", "01"}, "0123456789ab\tweb:7 running\n01ffffffffff\tbatch:1 pending\n:4\n"},
		{[]string{"logs", "0123456789ab/w"}, "0123456789ab/web\tweb:7 running\n:4\n"},
		{[]string{"stop", "0123456789ab", "fe"}, "fedcba987654\told:3 stopped\n:4\n"},
	}
	for _, tt := range tests {
		r := runWith(t, socket, "", append([]string{"__complete"}, tt.args...)...)
		if r.code != ExitOK || r.out != tt.want {
			t.Errorf("%v suggests %q (code %d), want %q", tt.args, r.out, r.code, tt.want)
		}
	}
	if r := runWith(t, socket, "", "completion", "bash"); r.code != ExitOK || !strings.Contains(r.out, "__start_berth") {
		t.Errorf("completion script: code %d", r.code)
	}
}

// Every verb says what it is, how it is used, and checks its arguments.
func TestEveryVerbIsDocumented(t *testing.T) {
	root := (&app{Streams: Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, now: time.Now}).root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		if c.Runnable() && c.Args == nil {
			t.Errorf("%s does not check its arguments", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

func TestShort(t *testing.T) {
	now := time.Unix(10_000_000, 0)
	for seconds, want := range map[int]string{0: "0s", 59: "59s", 60: "1m", 3599: "59m", 3600: "1h", 47 * 3600: "47h", 48 * 3600: "2d", -5: "0s"} {
		then := now.Add(-time.Duration(seconds) * time.Second)
		if got := short(now, &then); got != want {
			t.Errorf("%d s ago is %q, want %q", seconds, got, want)
		}
	}
	if got := short(now, nil); got != "" {
		t.Errorf("an unknown time is %q", got)
	}
}

// contextWithStop is a context that the test ends as ctrl-c would.
func contextWithStop(t *testing.T) (context.Context, func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, func() { cancel(errors.New("ctrl-c")) }
}

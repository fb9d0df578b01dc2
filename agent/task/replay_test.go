package task

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
)

var update = flag.Bool("update", false, "write the answers in testdata again")

// TestReplay runs the scripts of testdata: "> fact" lines are applied, and what
// Next answers must be what the indented lines below them say.
func TestReplay(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := newReplay(t).run(string(want))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s differs; got:\n%s", path, got)
			}
		})
	}
}

type replay struct {
	t          *testing.T
	now        time.Time
	definition Definition
	options    Options
	m          *Machine
	exits      map[string]time.Time // the time of each container's latest exit
}

func newReplay(t *testing.T) *replay {
	t.Helper()
	return &replay{t: t, now: time.Unix(1_700_000_000, 0).UTC(), definition: Definition{ARN: "arn:task/c/t1", ID: "t1"}, exits: map[string]time.Time{}}
}

func (r *replay) run(script string) string {
	var out strings.Builder
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "  "):
			continue
		case strings.HasPrefix(line, "container "):
			r.container(strings.Fields(line)[1:])
		case strings.HasPrefix(line, "option upfront"):
			r.options.PullUpfront = true
		}
		out.WriteString(line + "\n")
		if fact, ok := strings.CutPrefix(line, "> "); ok {
			out.WriteString(r.answer(strings.Fields(fact)))
		}
	}
	return out.String()
}

// answer applies a fact and asks Next until it has nothing more to say.
func (r *replay) answer(words []string) string {
	r.now = r.now.Add(time.Second)
	r.apply(words)
	work := r.m.Next()
	if again := r.m.Next(); len(again) > 0 {
		r.t.Errorf("Next called for more after %v: %v", words, render(again))
	}
	if len(work) == 0 {
		return "  nothing\n"
	}
	return "  " + render(work) + "\n"
}

func (r *replay) apply(words []string) {
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	rest := strings.Join(words[min(len(words), 2):], " ")
	switch words[0] {
	case "accepted":
		r.m = New(r.definition, r.now, r.options)
	case "agent-restarted":
		data, err := json.Marshal(r.m.State())
		if err != nil {
			r.t.Fatal(err)
		}
		var s State
		if err := json.Unmarshal(data, &s); err != nil {
			r.t.Fatal(err)
		}
		r.m = Restore(s, r.options)
	case "wait":
		d, err := time.ParseDuration(name)
		if err != nil {
			r.t.Fatal(err)
		}
		r.now = r.now.Add(d)
	default:
		r.m.Apply(r.fact(words[0], name, rest))
	}
}

func (r *replay) fact(kind, name, rest string) Fact {
	failure := Failure{"SomeError", rest}
	switch kind {
	case "stop":
		return StopRequested{At: r.now, Reason: strings.TrimSpace(name + " " + rest)}
	case "admitted":
		return Admitted{}
	case "refused":
		return Refused{Container: name, Failure: failure}
	case "prepared":
		return Prepared{}
	case "released":
		return Released{}
	case "drain-due":
		return DrainDue{}
	case "cleanup-due":
		return CleanupDue{}
	case "removed":
		return Removed{}
	case "resolved":
		return Resolved{Container: name, Digest: "sha256:aa", ByAgent: rest != "locally"}
	case "pull-began":
		return PullBegan{Container: name, At: r.now}
	case "pulled":
		if rest == "with-check" {
			return Pulled{Container: name, Digest: "sha256:aa", Asked: true, At: r.now, Shell: []string{"/bin/bash", "-c"}, Healthcheck: &container.Healthcheck{
				Test: []string{"CMD-SHELL", "curl localhost"}, Interval: 7 * time.Second,
			}}
		}
		return Pulled{Container: name, Digest: "sha256:aa", Asked: true, At: r.now}
	case "pull-failed":
		f := PullFailed{Container: name, Failure: failure, At: r.now, StopTask: rest == "always", Cancelled: rest == "cancelled"}
		if rest == "upfront" {
			f.StopTask, f.Reason = true, failure.String()
		}
		return f
	case "created":
		return Created{Container: name, RuntimeID: name + "-id"}
	case "create-failed":
		return CreateFailed{Container: name, Failure: failure, Cancelled: rest == "cancelled", At: r.now}
	case "started":
		if strings.Contains(rest, "clock-back") {
			return Started{Container: name, At: r.now.Add(-time.Hour)}
		}
		return Started{Container: name, At: r.now}
	case "start-failed":
		return StartFailed{Container: name, Failure: failure, At: r.now}
	case "exited":
		exit := container.Exit{Known: !strings.Contains(rest, "unseen"), At: r.now, OOMKilled: strings.Contains(rest, "oom")}
		exit.Code, _ = strconv.Atoi(strings.Fields(rest + " 0")[0])
		if strings.Contains(rest, "again") {
			exit.At = r.exits[name]
		}
		r.exits[name] = exit.At
		return Exited{Container: name, Exit: exit}
	case "vanished":
		return Vanished{Container: name, At: r.now}
	case "signalled":
		return Signalled{Container: name, At: r.now, Kill: rest == "kill"}
	case "signal-failed":
		if rest == "" {
			return SignalFailed{Container: name}
		}
		return SignalFailed{Container: name, Kill: rest == "kill", At: r.now}
	case "stop-timed-out":
		return StopTimedOut{Container: name}
	case "start-timed-out":
		return StartTimedOut{Container: name}
	case "health":
		return HealthChanged{Container: name, Health: Health(rest), At: r.now}
	case "health-of-old-run":
		return HealthChanged{Container: name, Health: Health(rest), Run: r.now.Add(-24 * time.Hour), At: r.now}
	case "agent":
		status, reason, _ := strings.Cut(rest, " ")
		return ManagedAgentChanged{Container: name, Name: "ExecuteCommandAgent", Status: ReportStatus(status), Reason: reason, At: r.now}
	}
	r.t.Fatalf("unknown fact %q", kind)
	return nil
}

// container reads "NAME [essential] [depends=OTHER:CONDITION] [stop=5s]
// [start=5s] [restart=1m] [ignore=3] [health] [check=CMD] [managed]".
func (r *replay) container(words []string) {
	c := Container{Name: words[0], Image: words[0] + ":1"}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "essential":
			c.Essential = true
		case "health":
			c.ReportHealth = true
		case "check":
			c.HealthCheck, c.ReportHealth = &container.Healthcheck{Test: []string{value, "true"}}, value != "NONE"
		case "managed":
			c.ManagedAgents = append(c.ManagedAgents, ManagedAgent{Name: "ExecuteCommandAgent"})
		case "depends":
			on, condition, _ := strings.Cut(value, ":")
			c.DependsOn = append(c.DependsOn, Dependency{on, Condition(condition)})
		case "stop":
			c.StopTimeout = r.duration(value)
		case "start":
			c.StartTimeout = r.duration(value)
		case "restart":
			c.Restart = &RestartPolicy{AttemptPeriod: r.duration(value)}
		case "ignore":
			code, err := strconv.Atoi(value)
			if err != nil {
				r.t.Fatal(err)
			}
			c.Restart.IgnoredExitCodes = append(c.Restart.IgnoredExitCodes, code)
		default:
			r.t.Fatalf("unknown word %q", word)
		}
	}
	r.definition.Containers = append(r.definition.Containers, c)
}

func (r *replay) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// render writes work as the scripts have it.
func render(work []Work) string {
	words := make([]string, 0, len(work))
	for _, w := range work {
		words = append(words, renderOne(w))
	}
	return strings.Join(words, " · ")
}

func renderOne(w Work) string {
	switch w := w.(type) {
	case Persist:
		return "persist"
	case Admit:
		return "admit"
	case CancelAdmit:
		return "cancel admit"
	case Prepare:
		return "prepare"
	case Report:
		return renderReport(w.Change)
	case ArmDrain:
		return "arm drain"
	case Release:
		return "release"
	case ArmCleanup:
		return "arm clean-up"
	case Remove:
		return "remove"
	case Forget:
		return "forget"
	case Pull:
		return "pull " + w.Container
	case CancelPull:
		return "cancel pull " + w.Container
	case Create:
		return "create " + w.Container
	case Start:
		return "start " + w.Container
	case Signal:
		if w.Kill {
			return "kill " + w.Container
		}
		return "signal " + w.Container
	case Attend:
		words := "attend " + w.Container
		if w.Check != nil {
			words += fmt.Sprintf(" by %s every %s", strings.Join(w.Check.Test, " "), w.Check.Interval)
		}
		return strings.Join(append([]string{words}, w.Agents...), " with ")
	case Leave:
		return "leave " + w.Container
	case ArmStop:
		return fmt.Sprintf("arm stop %s %s", w.Container, w.After)
	case ArmStart:
		return fmt.Sprintf("arm start %s %s", w.Container, w.After)
	}
	return "?"
}

func renderReport(c Change) string {
	text := "report task " + string(c.Status)
	if c.Reason != "" {
		text += fmt.Sprintf(" %q", c.Reason)
	}
	for _, cc := range c.Containers {
		text += fmt.Sprintf(", %s %s", cc.Name, cc.Status)
		if cc.ExitCode != nil {
			text += fmt.Sprintf(" exit %d", *cc.ExitCode)
		}
		if cc.Reason != "" {
			text += fmt.Sprintf(" %q", cc.Reason)
		}
	}
	for _, a := range c.ManagedAgents {
		text += fmt.Sprintf(", %s of %s %s %q", a.Name, a.Container, a.Status, a.Reason)
	}
	return text
}

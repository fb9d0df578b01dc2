package update_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/update"
)

// step is one thing that happens to a host, and what is current afterwards.
type step struct {
	do      string
	current string
	phase   update.Phase
	reason  string // part of it
}

// play carries a step out, as the process that it happens in would.
func (w *world) play(do string) {
	w.Helper()
	u := w.updater()
	verb, rest, _ := strings.Cut(do, " ")
	switch verb {
	case "update":
		w.stages(rest)
		w.must(u.Switch(rest, update.Before{Tasks: []string{"t1"}, Connected: true}))
	case "start":
		_, _, err := u.GuardStart()
		w.must(err)
	case "end":
		f := append(strings.Fields(rest), "", "")
		r, returned, err := u.GuardStop(update.Stopped{Result: f[0], Code: f[1], Status: f[2]})
		w.must(err)
		if returned && (r.Phase != update.Returned || r.Reason == "") {
			w.Errorf("returned as %+v", r)
		}
	case "gate":
		if rest == "opens" {
			_, err := u.Confirm()
			w.must(err)
			return
		}
		_, err := u.Return(rest)
		w.must(err)
	case "rollback":
		_, err := u.Rollback(update.Before{})
		w.must(err)
	case "release":
		w.add(rest)
	default:
		w.Fatalf("unknown step %q", do)
	}
}

func TestLifeOfAnUpdate(t *testing.T) {
	const old, next = "1.0.0", "1.1.0"
	for name, steps := range map[string][]step{
		"good": {
			{"update 1.1.0", next, update.Switched, ""},
			{"end exit-code exited 42", next, update.Switched, ""}, // the old one's end
			{"start", next, update.Switched, ""},
			{"gate opens", next, update.Confirmed, ""},
			{"end signal killed KILL", next, update.Confirmed, ""},
			{"start", next, update.Confirmed, ""},
		},
		"the gate stays shut": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"gate ACS is not connected", old, update.Returned, "ACS is not connected"},
			{"end exit-code exited 42", old, update.Returned, "ACS is not connected"},
			{"start", old, update.Returned, "ACS is not connected"},
		},
		"cannot be executed": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end exit-code exited 203", old, update.Returned, "could not start: exit-code, exited 203"},
		},
		"wants somebody to mend something": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end exit-code exited 5", old, update.Returned, "exited 5"},
		},
		"hangs": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end watchdog killed ABRT", old, update.Returned, "watchdog"},
		},
		"crashes": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end exit-code exited 2", next, update.Switched, "exited 2"},
			{"start", next, update.Switched, ""},
			{"end exit-code exited 2", next, update.Switched, "exited 2"},
			{"start", next, update.Switched, ""},
			{"end exit-code exited 2", next, update.Switched, "exited 2"},
			{"start", old, update.Returned, "started 3 times and never came up: it ended: exit-code, exited 2"},
		},
		"loses power three times": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"start", old, update.Returned, "started 3 times and never came up"},
		},
		"stopped by somebody, often": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end success", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end success", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"end success", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"gate opens", next, update.Confirmed, ""},
		},
		"back, because a person says so": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"gate opens", next, update.Confirmed, ""},
			{"rollback", old, update.Switched, ""},
			{"start", old, update.Switched, ""},
			{"gate opens", old, update.Confirmed, ""},
			{"rollback", next, update.Switched, ""}, // and forth
		},
		"back, while it proves itself": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"rollback", old, update.Returned, "somebody asked"},
		},
		"a third version": {
			{"update 1.1.0", next, update.Switched, ""},
			{"start", next, update.Switched, ""},
			{"gate opens", next, update.Confirmed, ""},
			{"release 1.2.0", next, update.Confirmed, ""},
			{"update 1.2.0", "1.2.0", update.Switched, ""},
			{"start", "1.2.0", update.Switched, ""},
			{"gate metrics do not flow", next, update.Returned, "metrics do not flow"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add("1.1.0")
			for i, s := range steps {
				w.play(s.do)
				status, err := w.updater().Check(t.Context())
				w.must(err)
				if w.current() != s.current || status.Last.Phase != s.phase || !strings.Contains(status.Last.Reason, s.reason) {
					t.Fatalf("after step %d, %q: current %s, %+v; want %+v", i+1, s.do, w.current(), status.Last, s)
				}
			}
		})
	}
}

// A process that dies between any two of its changes leaves something that the next one understands: a program is always there, and the
// record ends Confirmed or Returned.
func TestKilledAtAnyStep(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.stages("1.1.0")
	record := filepath.Join(w.state, "record.json")
	link := filepath.Join(w.install, "current")
	switched := func() {
		w.must(errors.Join(os.RemoveAll(record), os.Remove(link), os.Symlink("versions/1.0.0", link)))
		w.must(w.updater().Switch("1.1.0", update.Before{}))
	}
	point := func(version string) {
		w.must(errors.Join(os.Remove(link), os.Symlink("versions/"+version, link)))
	}

	// Before the switch: the record is there, current is not yet changed.
	switched()
	point("1.0.0")
	if _, pending, err := w.updater().Begin(); pending || err != nil || w.current() != "1.0.0" {
		t.Errorf("the switch did not happen: pending %v, current %s: %v", pending, w.current(), err)
	}
	if r, err := w.updater().Confirm(); err != nil || r.Phase != update.Returned || !strings.Contains(r.Reason, "before the switch") {
		t.Errorf("%+v: %v", r, err)
	}

	// In the return: current is back, the record does not say so yet.
	switched()
	data, err := os.ReadFile(record)
	w.must(err)
	if _, err := w.updater().Return("no good"); err != nil {
		t.Fatal(err)
	}
	w.must(os.WriteFile(record, []byte(strings.Replace(string(data), `"phase"`, `"reason":"no good","phase"`, 1)), 0o600))
	r, returned, err := w.updater().GuardStart()
	if err != nil || returned || r.Phase != update.Returned || r.Reason != "no good" || w.current() != "1.0.0" {
		t.Errorf("%+v, current %s: %v", r, w.current(), err)
	}

	// Half-made things are cleaned up by the next update.
	w.must(os.MkdirAll(filepath.Join(w.install, "versions/.stage-123"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.install, ".current-new"), nil, 0o600))
	w.add("1.2.0")
	w.play("update 1.2.0")
	entries, err := os.ReadDir(filepath.Join(w.install, "versions"))
	w.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"1.0.0", "1.2.0"}; !slices.Equal(names, want) {
		t.Errorf("versions %v, want %v", names, want)
	}
}

func TestOneUpdateAtATime(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.play("update 1.1.0")
	w.add("1.2.0")
	w.stages("1.2.0")
	if err := w.updater().Switch("1.2.0", update.Before{}); !errors.Is(err, update.ErrUnproven) {
		t.Errorf("%v, want %v", err, update.ErrUnproven)
	}
	if w.current() != "1.1.0" {
		t.Errorf("current %s", w.current())
	}
}

// What came back is not tried again by itself, but by name, and a newer one is.
func TestCameBack(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.play("update 1.1.0")
	w.play("gate ACS is not connected")
	if _, err := w.updater().Stage(t.Context(), update.Choice{}); !errors.Is(err, update.ErrCameBack) || !strings.Contains(err.Error(), "--to 1.1.0 tries it again") {
		t.Errorf("%v, want %v", err, update.ErrCameBack)
	}
	for _, asked := range []update.Choice{{Version: "1.1.0"}, {SHA256: "named by ECS"}} {
		if _, err := w.updater().Stage(t.Context(), asked); err != nil {
			t.Errorf("%+v: %v", asked, err)
		}
	}
	// A person who wants to go back learns that this has happened, why, and what to do about it.
	_, err := w.updater().Rollback(update.Before{})
	for _, want := range []string{"version 1.0.0 is back already, since ", "Of version 1.1.0: it came back", "(ACS is not connected)", "berth update --to 1.1.0 tries it again"} {
		if !errors.Is(err, update.ErrCameBack) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	w.add("1.2.0")
	w.stages("1.2.0")
}

// What ECS's order led to is known after the version has returned, and that of a person is none of ECS's.
func TestOrderIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.stages("1.1.0")
	w.must(w.updater().Switch("1.1.0", update.Before{Order: "m1"}))
	w.play("gate ACS is not connected")
	if r, err := w.updater().Outcome(); err != nil || r.Order != "m1" {
		t.Errorf("%+v: %v", r, err)
	}
	w.must(w.updater().Switch("1.1.0", update.Before{}))
	if r, err := w.updater().Outcome(); err != nil || r.Order != "" {
		t.Errorf("%+v: %v", r, err)
	}
}

func TestNothingToGoBackTo(t *testing.T) {
	if _, err := newWorld(t).updater().Rollback(update.Before{}); !errors.Is(err, update.ErrNoPrevious) {
		t.Errorf("%v, want %v", err, update.ErrNoPrevious)
	}
}

// A program that was changed on the disk after it was staged is fetched again.
func TestStagedIsVerifiedAgain(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.stages("1.1.0")
	path := filepath.Join(w.install, "versions/1.1.0/berth")
	w.must(os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	w.stages("1.1.0")
	if got, err := os.ReadFile(path); err != nil || string(got) != string(program("1.1.0")) {
		t.Errorf("%q: %v", got, err)
	}
}

func TestFindInstall(t *testing.T) {
	w := newWorld(t)
	in, version, err := update.FindInstall(filepath.Join(w.install, "current/berth"))
	if err != nil || version != "1.0.0" || in.CurrentProgram() != filepath.Join(w.install, "current/berth") {
		t.Errorf("%+v %s: %v", in, version, err)
	}
	loose := filepath.Join(t.TempDir(), "berth")
	w.must(os.WriteFile(loose, nil, 0o755))
	if _, _, err := update.FindInstall(loose); !errors.Is(err, update.ErrNotInstalled) {
		t.Errorf("%v, want %v", err, update.ErrNotInstalled)
	}
}

func TestCompare(t *testing.T) {
	ordered := []string{"0.9.9", "1.0.0~rc.1", "1.0.0", "1.0.1-alpha", "1.0.1-alpha.1", "1.0.1-alpha.beta", "1.0.1-rc.2", "1.0.1-rc.10", "1.0.1", "1.10.0", "2.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := update.Compare(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("Compare(%s, %s) = %d", a, b, got)
			}
		}
	}
	if update.Compare("v1.2.3+debian1", "1.2.3") != 0 {
		t.Error("build metadata counts")
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := func(name string, d time.Duration) update.Condition {
			return update.Condition{Name: name, Met: func(context.Context) error {
				if time.Since(began) < d {
					return errors.New("not yet")
				}
				return nil
			}}
		}
		if err := update.Gate(t.Context(), time.Minute, []update.Condition{after("containerd", 0), after("ACS", 3*time.Second)}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("it opened after %s", took)
		}
		err := update.Gate(t.Context(), time.Minute, []update.Condition{after("containerd", 0), after("metrics", time.Hour)})
		if !errors.Is(err, update.ErrGate) || !strings.Contains(err.Error(), "metrics: not yet") || strings.Contains(err.Error(), "containerd") {
			t.Error(err)
		}
		began = time.Now()
		hopeless := update.Condition{Name: "log process", Met: func(context.Context) error { return update.ErrHopeless }}
		if err := update.Gate(t.Context(), time.Minute, []update.Condition{hopeless}); !errors.Is(err, update.ErrGate) || time.Since(began) > 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the host goes down")
		cancel(why)
		if err := update.Gate(ctx, time.Minute, []update.Condition{after("metrics", 2*time.Hour)}); !errors.Is(err, why) {
			t.Error(err)
		}
	})
}

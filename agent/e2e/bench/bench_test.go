package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	proc := t.TempDir()
	for pid, p := range map[string]struct{ cmdline, status, stat string }{
		"7": {"/usr/bin/berth\x00agent\x00", "Name:\tberth\nVmRSS:\t   2048 kB\nRssAnon:\t 1024 kB\n", "7 (ber) th) S 1 7 7 0 -1 4 1 2 3 4 150 50 9 9 20 0"},
		"8": {"/x/containerd-shim-runc-v2\x00-id\x00", "VmRSS:\t1024 kB\nRssAnon:\t0 kB\n", "8 (shim) S 1 7 7 0 -1 4 1 2 3 4 1 2 9 9 20 0"},
		"9": {"/x/containerd-shim-runc-v2\x00-id\x00", "VmRSS:\t1024 kB\nRssAnon:\t0 kB\n", "9 (shim) S 1 7 7 0 -1 4 1 2 3 4 1 2 9 9 20 0"},
		// A process that is ending, and one that is none of ours.
		"10": {"containerd\x00", "Name:\tcontainerd\n", ""},
		"11": {"", "", ""},
	} {
		for name, text := range map[string]string{"cmdline": p.cmdline, "status": p.status, "stat": p.stat} {
			if err := os.MkdirAll(filepath.Join(proc, pid), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(proc, pid, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := look(proc)
	if err != nil {
		t.Fatal(err)
	}
	if want := (usage{1, 2 << 20, 1 << 20, 2 * time.Second}); all[kindAgent] != want {
		t.Errorf("agent: %+v, want %+v", all[kindAgent], want)
	}
	if want := (usage{2, 2 << 20, 0, 60 * time.Millisecond}); all[kindShims] != want {
		t.Errorf("shims: %+v, want %+v", all[kindShims], want)
	}
	if len(all) != 2 {
		t.Errorf("found %v", all)
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	for i := range 100 {
		values = append(values, time.Duration(99-i))
	}
	for share, want := range map[float64]time.Duration{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := percentile(values, share); got != want {
			t.Errorf("percentile %v is %d, want %d", share, got, want)
		}
	}
	if values[0] != 99 {
		t.Error("the values were sorted in place")
	}
}

func TestResult(t *testing.T) {
	r := result{Load: "0.1 0.2 0.3"}
	r.add("start p50", "ms", 120, 100, goal{mostOfBare: 1.3})
	r.add("stop p50", "ms", 60, 10, goal{most: 50})
	r.add("40 tasks in one payload", "/s", 14, 15, goal{least: 15, leastBare: 0.9})
	r.add("shims: memory", "MiB", 0.1234, 0, goal{})
	var table, asJSON bytes.Buffer
	if err := r.write(&table, false); err != nil {
		t.Fatal(err)
	}
	const want = `FIGURE                   BERTH      BARE     RATIO  GOAL                  
start p50                120 ms     100 ms   1.20   ≤ 1.3 × bare          ok
stop p50                 60.0 ms    10.0 ms  6.00   ≤ 50                  over
40 tasks in one payload  14.0 /s    15.0 /s  0.93   ≥ 15 or ≥ 0.9 × bare  ok
shims: memory            0.123 MiB                                        

load before the run: 0.1 0.2 0.3
`
	if table.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", &table, want)
	}
	if err := r.write(&asJSON, true); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Figures []struct {
			Figure, Verdict, Goal string
			Ratio                 float64
		}
	}
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if f := back.Figures[1]; f.Figure != "stop p50" || f.Verdict != "over" || f.Goal != "≤ 50" || f.Ratio != 6 {
		t.Errorf("JSON: %s", &asJSON)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {"-rounds", "0"}, {"-idle", "0s"}, {"-nonsense"}, {"extra"}} {
		if _, _, err := parse(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%s is accepted", strings.Join(args, " "))
		}
	}
}

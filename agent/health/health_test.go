package health

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(seconds int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(seconds) * time.Second)
}

func TestVerdictIsTheWorstPart(t *testing.T) {
	tests := []struct {
		name    string
		reports map[string]Status
		want    Status
		healthy bool
	}{
		{"nobody reported", nil, Initializing, true},
		{"all ok", map[string]Status{"containerd": OK, "acs": OK}, OK, true},
		{"one initializing", map[string]Status{"containerd": OK}, Initializing, true},
		{"one without data", map[string]Status{"containerd": OK, "acs": InsufficientData}, InsufficientData, true},
		{"one impaired", map[string]Status{"containerd": Impaired, "acs": OK}, Impaired, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBoard()
			b.Declare("containerd", ContainerRuntime, 0, at(0))
			b.Declare("acs", Agent, 0, at(0))
			for name, s := range tt.reports {
				b.Report(name, s, "", at(1))
			}
			v := b.Verdict(at(2))
			if v.Status != tt.want || v.Healthy() != tt.healthy {
				t.Errorf("verdict %s, healthy %t; want %s, %t", v.Status, v.Healthy(), tt.want, tt.healthy)
			}
		})
	}
}

func TestEmptyBoardHasNoData(t *testing.T) {
	if v := NewBoard().Verdict(at(0)); v.Status != InsufficientData {
		t.Errorf("status %s, want %s", v.Status, InsufficientData)
	}
}

func TestReportKeepsTimes(t *testing.T) {
	b := NewBoard()
	b.Declare("containerd", ContainerRuntime, 0, at(0))
	if !b.Report("containerd", Impaired, "connection refused", at(5)) {
		t.Error("the first report did not count as a change")
	}
	if b.Report("containerd", Impaired, "still refused", at(9)) {
		t.Error("the same status again counted as a change")
	}
	want := []Part{{
		Name: "containerd", Type: ContainerRuntime, Status: Impaired, Reason: "still refused", Changed: at(5), Updated: at(9),
	}}
	if diff := cmp.Diff(want, b.Verdict(at(10)).Parts); diff != "" {
		t.Error(diff)
	}
	if b.Report("nobody", OK, "", at(10)) || len(b.Verdict(at(10)).Parts) != 1 {
		t.Error("an undeclared part was let in")
	}
}

func TestBeats(t *testing.T) {
	b := NewBoard()
	b.Declare("engine", Agent, 10*time.Second, at(0))
	b.Declare("silent", Agent, 0, at(0))
	steps := []struct {
		beat, ask int
		alive     bool
	}{
		{-1, 10, true},  // exactly in time
		{-1, 11, false}, // overdue
		{12, 20, true},
		{5, 22, true}, // a late word about an earlier turn does not turn back the clock
		{-1, 23, false},
	}
	for _, s := range steps {
		if s.beat >= 0 {
			b.Beat("engine", at(s.beat))
		}
		if got := b.Alive(at(s.ask)); got != s.alive {
			t.Errorf("alive at %d s: %t, want %t", s.ask, got, s.alive)
		}
	}
	b.Report("engine", OK, "", at(23))
	b.Report("silent", OK, "", at(23))
	if v := b.Verdict(at(23)); v.Healthy() || v.Summary() != "engine stands still" {
		t.Errorf("healthy %t, summary %q", v.Healthy(), v.Summary())
	}
	b.Retire("engine")
	if !b.Alive(at(100)) {
		t.Error("a retired part is still expected to beat")
	}
}

func TestImpairedHostDoesNotStopTheWatchdog(t *testing.T) {
	b := NewBoard()
	b.Declare("containerd", ContainerRuntime, time.Minute, at(0))
	b.Report("containerd", Impaired, "connection refused", at(1))
	if !b.Alive(at(2)) {
		t.Error("an impaired part counts as dead")
	}
	if got, want := b.Verdict(at(2)).Summary(), "containerd impaired: connection refused"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}

func TestInstanceAnswersTheWorstPartOfEachType(t *testing.T) {
	b := NewBoard()
	b.Declare("containerd", ContainerRuntime, 0, at(0))
	b.Declare("acs", Agent, 0, at(0))
	b.Declare("disk", Agent, 0, at(0))
	b.Report("containerd", OK, "", at(1))
	b.Report("acs", OK, "", at(1))
	b.Report("disk", Impaired, "98 % full", at(2))
	want := []Part{
		{Name: "containerd", Type: ContainerRuntime, Status: OK, Changed: at(1), Updated: at(1)},
		{Name: "disk", Type: Agent, Status: Impaired, Reason: "98 % full", Changed: at(2), Updated: at(2)},
	}
	if diff := cmp.Diff(want, b.Instance()); diff != "" {
		t.Error(diff)
	}
}

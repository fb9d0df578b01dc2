package prom

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/berthd/berth/metrics"
)

var update = flag.Bool("update", false, "write the golden files anew")

func page() Page {
	at := time.Unix(1_740_830_400, 0)
	web := metrics.Reading{
		Container: metrics.Container{
			ID: "c1", Name: "web", TaskARN: "arn:aws:ecs:eu-west-1:111122223333:task/blue/9ab0", Family: "shop", Revision: "7",
		},
		Sample: metrics.Sample{
			Time: at, Version: metrics.V2,
			CPU: metrics.CPU{
				Usage: 12_500_000_000, User: 10e9, System: 2.5e9, Periods: 100, ThrottledPeriods: 3, ThrottledTime: 250e6,
			},
			Memory: metrics.Memory{
				Usage: 100 << 20, Limit: 256 << 20, Peak: 120 << 20, Anon: 50 << 20, File: 40 << 20, InactiveFile: 30 << 20,
				Slab: 4 << 20, Kernel: 6 << 20, Swap: 4096, FailCount: 2, MajorFaults: 9, OOMKills: 1,
			},
			IO:   metrics.BlockIO{ReadBytes: 8192, WriteBytes: 4096, ReadOps: 2, WriteOps: 1},
			PIDs: metrics.PIDs{Current: 12, Limit: 100},
			Pressure: metrics.Pressure{
				Known: true, CPU: metrics.Stall{Some: 4 * time.Second, Full: time.Second},
				Memory: metrics.Stall{Some: 12 * time.Microsecond}, IO: metrics.Stall{Some: 2500 * time.Millisecond},
			},
			Network: &metrics.Network{Total: metrics.Traffic{
				RxBytes: 1 << 40, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8,
			}},
		},
		Rates:    metrics.Rates{Known: true, CPUPercent: 12.5},
		Restarts: 3, RestartPolicy: true, Dropped: 1,
	}
	// A v1 container of host network mode, without limits, which has been read once. Its name must be escaped.
	side := metrics.Reading{
		Container: metrics.Container{Name: "side\"\\\ncar", TaskARN: web.Container.TaskARN, Family: "shop", Revision: "7"},
		Sample: metrics.Sample{
			Time: at, Version: metrics.V1, Memory: metrics.Memory{Usage: 5 << 20, Limit: metrics.NoLimit, Cache: 1 << 20},
			PIDs: metrics.PIDs{Current: 1, Limit: metrics.NoLimit},
		},
	}
	whole := metrics.Reading{
		Container: metrics.Container{TaskARN: web.Container.TaskARN, Family: "shop", Revision: "7"},
		Sample:    metrics.Sample{Time: at, Version: metrics.V2, CPU: metrics.CPU{Usage: 13e9}},
	}
	older := web
	older.Container.ID = "c0"
	older.Sample.Time = at.Add(-time.Hour)
	older.Sample.CPU.Usage = 1
	return Page{
		Cluster: "blue", Readings: []metrics.Reading{older, web, side, whole},
		Agent: []Value{
			{Name: "berth_agent_tasks", Help: "Tasks by last status.", Value: 3, Labels: []Label{{"status", "RUNNING"}}},
			{Name: "berth_agent_sampling_seconds_total", Help: "Time spent reading metrics.", Counter: true, Value: 0.25},
			{Name: "berth_agent_tasks", Help: "Tasks by last status.", Value: 1, Labels: []Label{{"status", "PENDING"}}},
		},
	}
}

func TestGolden(t *testing.T) {
	for file, format := range map[string]expfmt.Format{
		"testdata/page.openmetrics": expfmt.NewFormat(expfmt.TypeOpenMetrics),
		"testdata/page.prometheus":  expfmt.NewFormat(expfmt.TypeTextPlain),
	} {
		var got bytes.Buffer
		if err := write(&got, page(), format); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s differs; if that is meant, run with -update (-want +got):\n%s", file, diff)
		}
	}
}

// TestParsersAgree reads both formats with the parsers of the library, and demands the same values of the same series in both.
func TestParsersAgree(t *testing.T) {
	var open, plain bytes.Buffer
	if err := write(&open, page(), expfmt.NewFormat(expfmt.TypeOpenMetrics)); err != nil {
		t.Fatal(err)
	}
	if err := write(&plain, page(), expfmt.NewFormat(expfmt.TypeTextPlain)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(open.String(), "\n# EOF\n") {
		t.Error("OpenMetrics does not end in # EOF")
	}
	fromOpen := parse(t, &open, expfmt.NewFormat(expfmt.TypeOpenMetrics))
	fromPlain := parse(t, &plain, expfmt.NewFormat(expfmt.TypeTextPlain))
	if len(fromPlain) < 60 {
		t.Errorf("only %d series", len(fromPlain))
	}
	if diff := cmp.Diff(fromPlain, fromOpen); diff != "" {
		t.Errorf("the formats differ (-plain +open):\n%s", diff)
	}
	for _, want := range []struct {
		name, container string
		value           float64
	}{
		{"cpu_usage_seconds_total", "web", 12.5},
		{"memory_ecs_bytes", "web", 70 << 20},
		{"memory_ecs_bytes", "side\"\\\ncar", 4 << 20},
		{"memory_working_set_bytes", "side\"\\\ncar", 5 << 20},
		{"memory_working_set_bytes", "web", 70 << 20},
		{"memory_slab_bytes", "web", 4 << 20},
		{"memory_limit_bytes", "web", 256 << 20},
		{"cpu_ecs_percent", "web", 12.5},
		{"cpu_throttled_seconds_total", "web", 0.25},
		{"cpu_throttled_periods_total", "web", 3},
		{"network_receive_bytes_total", "web", 1 << 40},
		{"network_transmit_dropped_total", "web", 8},
		{"block_write_bytes_total", "web", 4096},
		{"oom_kills_total", "web", 1},
		{"restarts_total", "web", 3},
		{"samples_dropped_total", "web", 1},
		{"pids_limit", "web", 100},
		{"pressure_io_waiting_seconds_total", "web", 2.5},
		{"pressure_memory_waiting_seconds_total", "web", 12e-6},
	} {
		series := model.Metric{
			"__name__": model.LabelValue("berth_container_" + want.name), "cluster": "blue", "task_id": "9ab0",
			"family": "shop", "revision": "7", "container": model.LabelValue(want.container),
		}.String()
		if got, ok := fromPlain[series]; !ok || got != want.value {
			t.Errorf("%s is %v, %v; want %v", series, got, ok, want.value)
		}
	}
	for series, want := range map[string]float64{
		`berth_task_cpu_usage_seconds_total{cluster="blue", family="shop", revision="7", task_id="9ab0"}`: 13,
		`berth_agent_tasks{cluster="blue", status="PENDING"}`:                                             1,
		`berth_agent_sampling_seconds_total{cluster="blue"}`:                                              0.25,
	} {
		if got, ok := fromPlain[series]; !ok || got != want {
			t.Errorf("%s is %v, %v; want %v", series, got, ok, want)
		}
	}
}

// TestWhatIsNotKnownIsNotShown looks for series that would be lies.
func TestWhatIsNotKnownIsNotShown(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, page(), expfmt.NewFormat(expfmt.TypeTextPlain)); err != nil {
		t.Fatal(err)
	}
	all := parse(t, &b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for series := range all {
		if !strings.Contains(series, `container="side`) {
			continue
		}
		for _, absent := range []string{
			"_network_", "_pressure_", "_limit_bytes", "_pids_limit", "_restarts_", "_peak_", "_slab_", "_ecs_percent",
		} {
			if strings.Contains(series, absent) {
				t.Errorf("%s = %v is not known", series, all[series])
			}
		}
	}
}

// TestNames holds the conventions of OpenMetrics.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	legal := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, f := range families() {
		if seen[f.name] || !legal.MatchString(f.name) {
			t.Errorf("%s is there twice or not legal", f.name)
		}
		seen[f.name] = true
		if strings.HasSuffix(f.name, "_total") != (f.kind == counter) {
			t.Errorf("%s: counters and only counters end in _total", f.name)
		}
		if !strings.HasSuffix(f.help, ".") {
			t.Errorf("the help of %s is no sentence", f.name)
		}
	}
}

func TestEmptyPage(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, Page{}, expfmt.NewFormat(expfmt.TypeOpenMetrics)); err != nil || b.String() != "# EOF\n" {
		t.Errorf("an empty page is %q, %v", b.String(), err)
	}
}

func TestHandler(t *testing.T) {
	server := httptest.NewServer(Handler(page))
	defer server.Close()
	ask := func(method, accept string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(body)
	}
	answer, body := ask(http.MethodGet, "application/openmetrics-text; version=1.0.0; charset=utf-8")
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("OpenMetrics was asked for, the answer is %s", answer.Header.Get("Content-Type"))
	}
	answer, body = ask(http.MethodGet, "*/*")
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") || strings.Contains(body, "# EOF") {
		t.Errorf("anything was asked for, the answer is %s", answer.Header.Get("Content-Type"))
	}
	if answer, body = ask(http.MethodHead, ""); answer.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD: %s %q", answer.Status, body)
	}
	if answer, _ = ask(http.MethodPost, ""); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") == "" {
		t.Errorf("POST: %s", answer.Status)
	}
}

// full is a disk that takes a few bytes.
type full struct{ left int }

var errFull = errors.New("no space")

func (f *full) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return 0, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

func TestWriteFails(t *testing.T) {
	for _, left := range []int{0, 100, 5000} {
		if err := write(&full{left}, page(), expfmt.NewFormat(expfmt.TypeOpenMetrics)); !errors.Is(err, errFull) {
			t.Errorf("with room for %d bytes: %v", left, err)
		}
	}
}

// parse reads a page in one of the text formats into values by series.
func parse(t *testing.T, r io.Reader, format expfmt.Format) map[string]float64 {
	t.Helper()
	decoder := expfmt.SampleDecoder{Dec: expfmt.NewDecoder(r, format), Opts: &expfmt.DecodeOptions{}}
	all := make(map[string]float64)
	for {
		var samples model.Vector
		err := decoder.Decode(&samples)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		for _, s := range samples {
			series := s.Metric.String()
			if _, twice := all[series]; twice {
				t.Errorf("%s is there twice", series)
			}
			all[series] = float64(s.Value)
		}
	}
}

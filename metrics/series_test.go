package metrics_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthd/berth/metrics"
)

// at is a sample some milliseconds into the test with so many milliseconds of processor time used.
func at(ms, cpuMs int) metrics.Sample {
	s := metrics.Sample{Time: time.Unix(1_700_000_000, 0).Add(time.Duration(ms) * time.Millisecond), Version: metrics.V2, CgroupID: 7}
	s.CPU.Usage = uint64(cpuMs) * uint64(time.Millisecond)
	return s
}

// with changes a sample.
func with(s metrics.Sample, change func(s *metrics.Sample)) metrics.Sample {
	change(&s)
	return s
}

// received is a sample's network.
func received(id, bytes uint64) func(s *metrics.Sample) {
	return func(s *metrics.Sample) {
		total := metrics.Traffic{RxBytes: bytes, TxBytes: 2 * bytes}
		s.Network = &metrics.Network{ID: id, Total: total, Interfaces: []metrics.Interface{{Name: "eth0", Traffic: total}}}
	}
}

func TestCPUPercent(t *testing.T) {
	tests := []struct {
		name    string
		cpus    int
		samples []metrics.Sample
		want    metrics.Stats
	}{
		{
			"one of four processors is a quarter of the host", 4,
			[]metrics.Sample{at(0, 0), at(1000, 1000)},
			metrics.Stats{Min: 25, Max: 25, Sum: 25, SampleCount: 1},
		},
		{
			"the first sample has no rate", 1,
			[]metrics.Sample{at(0, 900), at(1000, 1000), at(2000, 1200)},
			metrics.Stats{Min: 10, Max: 20, Sum: 30, SampleCount: 2},
		},
		{
			"the rate is over the time that passed", 2,
			[]metrics.Sample{at(0, 0), at(4000, 2000)},
			metrics.Stats{Min: 25, Max: 25, Sum: 25, SampleCount: 1},
		},
		{
			"an equal timestamp repeats the rate", 1,
			[]metrics.Sample{at(0, 0), at(1000, 500), at(1000, 510), at(2000, 600)},
			// The last rate is from the newest reading: (600−510) ms in a second.
			metrics.Stats{Min: 9, Max: 50, Sum: 109, SampleCount: 3},
		},
		{
			"the usage is divided by the processors before it is subtracted", 3,
			[]metrics.Sample{
				with(at(0, 0), func(s *metrics.Sample) { s.CPU.Usage = 2 }),
				with(at(1000, 0), func(s *metrics.Sample) { s.CPU.Usage = 3 }),
			},
			metrics.Stats{Min: 1e-7, Max: 1e-7, Sum: 1e-7, SampleCount: 1},
		},
		{
			"jitter above the whole host is cut", 1,
			[]metrics.Sample{at(0, 0), at(1000, 1040)},
			metrics.Stats{Min: 100, Max: 100, Sum: 100, SampleCount: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := metrics.NewSeries(metrics.SeriesConfig{CPUs: tt.cpus})
			for _, sample := range tt.samples {
				if !s.Add(sample, 0) {
					t.Fatalf("sample at %v was dropped", sample.Time)
				}
			}
			r, ok := s.Collect()
			if !ok {
				t.Fatal("nothing to report")
			}
			if diff := cmp.Diff(tt.want, r.CPUPercent, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
				t.Errorf("CPU differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingToReport(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	refuse := func(when string) {
		t.Helper()
		if r, ok := s.Collect(); ok {
			t.Errorf("%s: reported %+v", when, r)
		}
	}
	refuse("empty")
	s.Add(at(0, 0), 0)
	refuse("one sample")
	s.Add(at(1000, 10), 0)
	if r, ok := s.Collect(); !ok || r.MemoryMiB.SampleCount != 2 || r.CPUPercent.SampleCount != 1 {
		t.Errorf("two samples: %+v, %v; want both memory readings and one rate", r, ok)
	}
	refuse("all reported")
	s.Add(at(2000, 20), 0)
	if r, ok := s.Collect(); !ok || r.CPUPercent.SampleCount != 1 || r.MemoryMiB.SampleCount != 1 {
		t.Errorf("one more sample: %+v, %v; want it alone, with its rate against the reported one", r, ok)
	}
}

func TestReport(t *testing.T) {
	const mib = 1 << 20
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 2})
	for i := range 3 {
		s.Add(with(at(1000*i, 200*i), func(s *metrics.Sample) {
			n := uint64(i)
			s.Memory = metrics.Memory{Usage: (10+n)*mib + 5, InactiveFile: mib}
			s.IO = metrics.BlockIO{ReadBytes: 4096 * n, WriteBytes: 100}
			s.Network = &metrics.Network{Total: metrics.Traffic{
				RxBytes: 1000 * n, RxPackets: 10 * n, RxErrors: 1, RxDropped: n, TxBytes: 500, TxPackets: n + 1, TxErrors: 2, TxDropped: 3,
			}}
		}), i)
	}
	got, ok := s.Collect()
	if !ok {
		t.Fatal("nothing to report")
	}
	u := func(lowest, highest, sum uint64) metrics.UnsignedStats {
		return metrics.UnsignedStats{Min: lowest, Max: highest, Sum: sum, SampleCount: 3}
	}
	want := metrics.Report{
		CPUPercent: metrics.Stats{Min: 10, Max: 10, Sum: 20, SampleCount: 2},
		MemoryMiB:  metrics.Stats{Min: 9, Max: 11, Sum: 30, SampleCount: 3},
		ReadBytes:  u(0, 8192, 12288), WriteBytes: u(100, 100, 300),
		Network: &metrics.NetworkReport{
			RxBytes: u(0, 2000, 3000), RxPackets: u(0, 20, 30), RxErrors: u(1, 1, 3), RxDropped: u(0, 2, 3),
			TxBytes: u(500, 500, 1500), TxPackets: u(1, 3, 6), TxErrors: u(2, 2, 6), TxDropped: u(3, 3, 9),
			RxBytesPerSecond: metrics.Stats{Min: 1000, Max: 1000, Sum: 2000, SampleCount: 2},
			TxBytesPerSecond: metrics.Stats{SampleCount: 2},
		},
		Restarts: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report differs (-want +got):\n%s", diff)
	}
	if r := s.Rates(); r != (metrics.Rates{Known: true, CPUPercent: 10, RxBytesPerSecond: 1000}) {
		t.Errorf("rates are %+v", r)
	}
}

func TestNoNetworkNoReportOfIt(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	s.Add(at(0, 0), 0)
	s.Add(at(1000, 0), 0)
	if r, _ := s.Collect(); r.Network != nil {
		t.Errorf("reported %+v", r.Network)
	}
}

func TestRestartCountIsADelta(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	ms := 0
	collect := func(restarts ...int) int {
		for _, n := range restarts {
			s.Add(at(ms, 0), n)
			ms += 1000
		}
		r, _ := s.Collect()
		return r.Restarts
	}
	for i, step := range []struct {
		restarts []int
		want     int
	}{
		{[]int{5, 5, 6}, 1}, // what was before the first sample was reported by an earlier agent
		{[]int{6, 6}, 0},
		{[]int{8}, 2},
		{[]int{8, 9, 11}, 3},
	} {
		if got := collect(step.restarts...); got != step.want {
			t.Errorf("report %d: %d restarts, want %d", i, got, step.want)
		}
	}
}

func TestOnlyTheNewestAreKept(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	for i := range 200 {
		s.Add(with(at(1000*i, 0), func(s *metrics.Sample) { s.IO.ReadBytes = uint64(i) }), 0)
	}
	r, _ := s.Collect()
	if r.ReadBytes.Min != 120 || r.ReadBytes.Max != 199 || r.ReadBytes.SampleCount != metrics.DefaultSize {
		t.Errorf("reported %+v, want the last 80 readings", r.ReadBytes)
	}
	s.Add(with(at(200_000, 0), func(s *metrics.Sample) { s.IO.ReadBytes = 300 }), 0)
	if r, _ = s.Collect(); r.ReadBytes.Min != 300 || r.ReadBytes.SampleCount != 1 {
		t.Errorf("then reported %+v, want the one new reading", r.ReadBytes)
	}
}

func TestNonsenseIsDropped(t *testing.T) {
	type step struct {
		sample   metrics.Sample
		believed bool
		cpuMs    uint64 // the carried total afterwards
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a counter that falls for one reading", []step{
			{at(0, 5000), true, 5000},
			{at(1000, 1), false, 5000},
			{at(2000, 6000), true, 6000},
		}},
		{"a counter that leaps for one reading", []step{
			{at(0, 100), true, 100},
			{at(1000, 90_000_000), false, 100},
			{at(2000, 300), true, 300},
		}},
		{"a counter that starts again is carried on", []step{
			{at(0, 5000), true, 5000},
			{at(1000, 10), false, 5000},
			{at(2000, 60), true, 5050},
			{at(3000, 160), true, 5150},
		}},
		{"a leap that lasts is left out", []step{
			{at(0, 100), true, 100},
			{at(1000, 90_000_000), false, 100},
			{at(2000, 90_000_500), true, 600},
			{at(3000, 90_000_600), true, 700},
		}},
		{"two different odd readings are both dropped", []step{
			{at(0, 5000), true, 5000},
			{at(1000, 90_000_000), false, 5000},
			{at(2000, 3), false, 5000},
			{at(3000, 5100), true, 5100},
		}},
		{"a clock that runs back", []step{
			{at(5000, 100), true, 100},
			{at(4000, 200), false, 100},
			{at(6000, 300), true, 300},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
			var dropped uint64
			for i, step := range tt.steps {
				if !step.believed {
					dropped++
				}
				if got := s.Add(step.sample, 0); got != step.believed {
					t.Errorf("step %d: believed %v, want %v", i, got, step.believed)
				}
				newest, _, _ := s.Newest()
				if got := newest.CPU.Usage / uint64(time.Millisecond); got != step.cpuMs {
					t.Errorf("step %d: the total is %d ms, want %d", i, got, step.cpuMs)
				}
			}
			if s.Dropped() != dropped {
				t.Errorf("%d dropped, want %d", s.Dropped(), dropped)
			}
			if r := s.Rates(); r.CPUPercent < 0 || r.CPUPercent > 100 {
				t.Errorf("the rate is %v", r.CPUPercent)
			}
		})
	}
}

func TestRateAfterAJumpIsFromTheSuspect(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	s.Add(at(0, 5000), 0)
	s.Add(at(1000, 10), 0)
	s.Add(at(2000, 260), 0)
	if got := s.Rates().CPUPercent; math.Abs(got-25) > 1e-9 {
		t.Errorf("the rate is %v %%, want 25: 250 ms in the second since the suspect", got)
	}
}

func TestNewCgroupCarriesTheTotals(t *testing.T) {
	s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
	life := func(id uint64, failures, peak, kills uint64) func(s *metrics.Sample) {
		return func(s *metrics.Sample) {
			s.CgroupID = id
			s.Memory.FailCount, s.Memory.Peak, s.Memory.OOMKills = failures, peak, kills
			s.IO.WriteBytes = 1000
		}
	}
	s.Add(with(at(0, 4000), life(1, 9, 500, 1)), 0)
	s.Add(with(at(1000, 4500), life(1, 9, 500, 1)), 0)
	reached := s.Reached()
	// A new cgroup. It has used more than the old one had: only its identity shows that it is new.
	s.Add(with(at(7000, 4600), life(2, 1, 300, 1)), 1)
	if diff := cmp.Diff(s.Base(), reached); diff != "" {
		t.Errorf("between the two lives it was foretold otherwise (-is +foretold):\n%s", diff)
	}
	newest, previous, _ := s.Newest()
	if newest.CPU.Usage != uint64(9100*time.Millisecond) || newest.IO.WriteBytes != 2000 || newest.Memory.OOMKills != 2 {
		t.Errorf("after the restart %v CPU, %d written, %d OOM kills; want the sums",
			time.Duration(newest.CPU.Usage), newest.IO.WriteBytes, newest.Memory.OOMKills)
	}
	if newest.Memory.FailCount != 9 || newest.Memory.Peak != 500 {
		t.Errorf("fail count %d, peak %d; want the maxima", newest.Memory.FailCount, newest.Memory.Peak)
	}
	if previous.CPU.Usage != uint64(4500*time.Millisecond) {
		t.Errorf("previous is %v", time.Duration(previous.CPU.Usage))
	}
	if got, want := s.Rates().CPUPercent, 100*4600.0/6000; math.Abs(got-want) > 1e-9 {
		t.Errorf("the rate is %v, want %v: what the new life has used since", got, want)
	}
	if s.Dropped() != 0 {
		t.Errorf("%d dropped", s.Dropped())
	}

	// An agent that starts again with the stored base sees the same totals.
	again := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1, Base: s.Base()})
	again.Add(with(at(8000, 4700), life(2, 1, 300, 1)), 1)
	restored, _, _ := again.Newest()
	if restored.CPU.Usage != uint64(9200*time.Millisecond) || restored.IO.WriteBytes != 2000 ||
		restored.Memory.FailCount != 9 || restored.Memory.Peak != 500 || restored.Memory.OOMKills != 2 {
		t.Errorf("restored with %+v %+v %+v", restored.CPU, restored.IO, restored.Memory)
	}
	if diff := cmp.Diff(s.Base(), again.Base()); diff != "" {
		t.Errorf("the base changed (-want +got):\n%s", diff)
	}
}

func TestNetworkCarry(t *testing.T) {
	tests := []struct {
		name    string
		samples []metrics.Sample
		want    uint64 // received in all
		rate    float64
	}{
		{
			"a namespace that outlives the cgroup is not counted twice",
			[]metrics.Sample{
				with(at(0, 0), received(3, 100)),
				with(with(at(1000, 0), received(3, 150)), func(s *metrics.Sample) { s.CgroupID = 8 }),
			},
			150, 50,
		},
		{
			"a new namespace is carried",
			[]metrics.Sample{with(at(0, 0), received(3, 100)), with(at(1000, 0), received(4, 150))},
			250, 150,
		},
		{
			"a reading without network in between has no rate after it, and no loss",
			[]metrics.Sample{with(at(0, 0), received(3, 100)), at(1000, 0), with(at(2000, 0), received(3, 400))},
			400, 0,
		},
		{
			"a new namespace after a gap is carried",
			[]metrics.Sample{with(at(0, 0), received(3, 100)), at(1000, 0), with(at(2000, 0), received(4, 40))},
			140, 0,
		},
		{
			"a reused inode is noticed by the fall of the counter",
			[]metrics.Sample{
				with(at(0, 0), received(3, 100)), with(at(1000, 0), received(3, 5)), with(at(2000, 0), received(3, 15)),
			},
			110, 10,
		},
		{
			"the same after a gap",
			[]metrics.Sample{
				with(at(0, 0), received(3, 100)), at(1000, 0),
				with(at(2000, 0), received(3, 5)), with(at(3000, 0), received(3, 15)),
			},
			110, 0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1})
			for _, sample := range tt.samples {
				before := uint64(0)
				if sample.Network != nil {
					before = sample.Network.Total.RxBytes
				}
				s.Add(sample, 0)
				if sample.Network != nil && sample.Network.Total.RxBytes != before {
					t.Fatal("the shared network was written to")
				}
			}
			newest, _, _ := s.Newest()
			if got := newest.Network.Total.RxBytes; got != tt.want {
				t.Errorf("received %d in all, want %d", got, tt.want)
			}
			if got := newest.Network.Interfaces[0].Traffic; got != newest.Network.Total {
				t.Errorf("the interface says %+v, the total %+v", got, newest.Network.Total)
			}
			if got := s.Rates().RxBytesPerSecond; got != tt.rate {
				t.Errorf("rate %v, want %v", got, tt.rate)
			}
		})
	}
}

// TestWhateverComes feeds random nonsense and demands what a dashboard relies on.
func TestWhateverComes(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			s := metrics.NewSeries(metrics.SeriesConfig{CPUs: 1 + random.IntN(8), Size: 1 + random.IntN(30)})
			var cpu, io, rx uint64
			ms := 0
			added, believed := uint64(0), uint64(0)
			for range 300 {
				ms += random.IntN(1500) - 100
				switch random.IntN(12) {
				case 0:
					cpu, io = random.Uint64(), random.Uint64()
				case 1:
					cpu, rx = uint64(random.IntN(100)), random.Uint64()
				default:
					cpu += uint64(random.IntN(1_000_000_000))
					io += uint64(random.IntN(1 << 20))
					rx += uint64(random.IntN(1 << 20))
				}
				sample := with(at(ms, 0), func(s *metrics.Sample) {
					s.CPU.Usage, s.IO.ReadBytes, s.CgroupID = cpu, io, uint64(1+random.IntN(40)/39)
					s.Memory.Usage = random.Uint64()
				})
				if random.IntN(5) > 0 {
					received(uint64(1+random.IntN(40)/39), rx/4)(&sample)
				}
				before, _, _ := s.Newest()
				added++
				if s.Add(sample, 0) {
					believed++
				}
				after, _, _ := s.Newest()
				check(t, s, before, after)
			}
			if s.Dropped() != added-believed {
				t.Errorf("%d added, %d believed, %d dropped", added, believed, s.Dropped())
			}
			if r, ok := s.Collect(); ok && (r.CPUPercent.Min < 0 || r.CPUPercent.Max > 100) {
				t.Errorf("CPU is %+v", r.CPUPercent)
			}
		})
	}
}

func check(t *testing.T, s *metrics.Series, before, after metrics.Sample) {
	t.Helper()
	fell := after.CPU.Usage < before.CPU.Usage || after.IO.ReadBytes < before.IO.ReadBytes
	if before.Network != nil && after.Network != nil {
		fell = fell || after.Network.Total.RxBytes < before.Network.Total.RxBytes
	}
	// A total near the top may pass it: that takes 584 years of processor time, or random numbers.
	if fell && before.CPU.Usage < math.MaxUint64/2 && before.IO.ReadBytes < math.MaxUint64/2 &&
		(before.Network == nil || before.Network.Total.RxBytes < math.MaxUint64/2) {
		t.Errorf("a counter fell from %+v %+v %+v to %+v %+v %+v", before.CPU, before.IO, before.Network, after.CPU, after.IO, after.Network)
	}
	if r := s.Rates(); r.CPUPercent < 0 || r.CPUPercent > 100 || r.RxBytesPerSecond < 0 || math.IsNaN(r.RxBytesPerSecond) {
		t.Errorf("rates are %+v", r)
	}
}

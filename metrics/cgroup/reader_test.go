package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthd/berth/metrics"
)

const (
	container2 = "ecstasks.slice/ecstasks-9ab04c1d.slice/web"
	container1 = "/ecs/9ab04c1d/3f0e6d1c"
)

func layout(version metrics.Version) Layout {
	if version == metrics.V2 {
		return Under("testdata/v2", version)
	}
	return Under("testdata/v1", version)
}

func open(tb testing.TB, l Layout, path string) *Reader {
	tb.Helper()
	r, err := Open(l, path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

func read(tb testing.TB, r *Reader) metrics.Sample {
	tb.Helper()
	var s metrics.Sample
	if err := r.Read(&s); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestRead(t *testing.T) {
	const none = metrics.NoLimit
	tests := []struct {
		name    string
		version metrics.Version
		path    string
		want    metrics.Sample
	}{
		{"v2 container", metrics.V2, container2, metrics.Sample{
			CPU: metrics.CPU{
				Usage: 1234567000, User: 1e9, System: 234567000, Periods: 50, ThrottledPeriods: 7, ThrottledTime: 90e6,
			},
			Memory: metrics.Memory{
				Usage: 100 << 20, Limit: 256 << 20, Peak: 120 << 20, Anon: 50 << 20, File: 40 << 20,
				InactiveFile: 30 << 20, ActiveFile: 9 << 20, Shmem: 1 << 20, Slab: 4 << 20, Sock: 4096, Kernel: 6 << 20,
				Swap: 65536, PageFaults: 123456, MajorFaults: 78, FailCount: 21, OOMKills: 1,
			},
			IO:   metrics.BlockIO{ReadBytes: 9192, WriteBytes: 4096, ReadOps: 3, WriteOps: 1},
			PIDs: metrics.PIDs{Current: 12, Limit: 100},
			Pressure: metrics.Pressure{
				Known:  true,
				CPU:    metrics.Stall{Some: 4 * time.Second, Full: 1500 * time.Millisecond, SomeAvg10: 1.53, FullAvg10: 0.5},
				Memory: metrics.Stall{Some: 12 * time.Microsecond, Full: 10 * time.Microsecond},
				IO:     metrics.Stall{Some: 2500 * time.Millisecond, Full: 2 * time.Second, SomeAvg10: 99.99, FullAvg10: 12},
			},
		}},
		{"v2 task without io, peak, swap and pressure", metrics.V2, "/ecstasks.slice/ecstasks-9ab04c1d.slice", metrics.Sample{
			CPU:    metrics.CPU{Usage: 2e9, User: 1.5e9, System: 5e8},
			Memory: metrics.Memory{Usage: 200 << 20, Limit: none, Anon: 1, File: 2, InactiveFile: 100 << 20},
			PIDs:   metrics.PIDs{Current: 15, Limit: none},
		}},
		{"v2 with the cpu controller alone", metrics.V2, "cpuonly", metrics.Sample{
			CPU:    metrics.CPU{Usage: 42000, User: 40000, System: 2000},
			Memory: metrics.Memory{Limit: none}, PIDs: metrics.PIDs{Limit: none},
		}},
		{"v1 container", metrics.V1, container1, metrics.Sample{
			CPU: metrics.CPU{
				Usage: 1234567890, User: 1e9, System: 230e6, Periods: 50, ThrottledPeriods: 7, ThrottledTime: 90e6,
			},
			Memory: metrics.Memory{
				Usage: 100 << 20, Limit: 256 << 20, Peak: 120 << 20, Cache: 40 << 20, Anon: 50<<20 + 1, File: 40<<20 + 1,
				InactiveFile: 30<<20 + 1, ActiveFile: 9<<20 + 1, Shmem: 1<<20 + 1, Kernel: 6 << 20,
				Swap: 65537, PageFaults: 123457, MajorFaults: 79, FailCount: 21, OOMKills: 1,
			},
			IO:   metrics.BlockIO{ReadBytes: 9192, WriteBytes: 4096, ReadOps: 3, WriteOps: 1},
			PIDs: metrics.PIDs{Current: 12, Limit: 100},
		}},
		{"v1 of an old kernel, cpu and pids not mounted", metrics.V1, "/ecs/old", metrics.Sample{
			CPU:    metrics.CPU{Usage: 7},
			Memory: metrics.Memory{Usage: 1000, Limit: none},
			IO:     metrics.BlockIO{ReadBytes: 300, WriteBytes: 200, ReadOps: 3, WriteOps: 2},
			PIDs:   metrics.PIDs{Limit: none},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, layout(tt.version), tt.path)
			tt.want.Version = tt.version
			for range slowEvery + 2 { // past the second reading of the slow files
				got := read(t, r)
				if got.CgroupID == 0 {
					t.Error("no identity")
				}
				if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(metrics.Sample{}, "CgroupID"), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
					t.Fatalf("sample differs (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestReadLeavesTheCallersFieldsAlone(t *testing.T) {
	r := open(t, layout(metrics.V2), container2)
	network := &metrics.Network{ID: 3}
	s := metrics.Sample{Time: time.Unix(9, 0), Network: network}
	s.CPU.HostUsage = 77
	s.Memory.Cache = 5 // a leftover of an earlier use of the sample
	if err := r.Read(&s); err != nil {
		t.Fatal(err)
	}
	if !s.Time.Equal(time.Unix(9, 0)) || s.Network != network || s.CPU.HostUsage != 77 {
		t.Errorf("time %v, network %v, host %d were changed", s.Time, s.Network, s.CPU.HostUsage)
	}
	if s.Memory.Cache != 0 {
		t.Error("an old figure was left in the sample")
	}
}

func TestDetail(t *testing.T) {
	devices := []metrics.DeviceIO{
		{Major: 259, Minor: 0, BlockIO: metrics.BlockIO{ReadBytes: 8192, WriteBytes: 4096, ReadOps: 2, WriteOps: 1}},
		{Major: 253, Minor: 1, BlockIO: metrics.BlockIO{ReadBytes: 1000, ReadOps: 1}},
	}
	for _, tt := range []struct {
		version metrics.Version
		path    string
		keys    map[string]uint64 // some of memory.stat
		count   int
		want    metrics.Detail
	}{
		{metrics.V2, container2, map[string]uint64{"anon": 50 << 20, "pgmajfault": 78, "sec_pagetables": 0}, 33, metrics.Detail{
			Devices: append(devices[:2:2], metrics.DeviceIO{Major: 7}),
		}},
		{metrics.V1, container1, map[string]uint64{"cache": 40 << 20, "total_cache": 40<<20 + 1}, 36, metrics.Detail{
			Devices: devices, PerCPU: []uint64{617283945, 617283945},
		}},
	} {
		r := open(t, layout(tt.version), tt.path)
		read(t, r)
		got, err := r.Detail()
		if err != nil {
			t.Fatal(err)
		}
		if len(got.MemoryStat) != tt.count {
			t.Errorf("v%d: %d keys in memory.stat, want %d", tt.version, len(got.MemoryStat), tt.count)
		}
		for key, want := range tt.keys {
			if n, ok := got.MemoryStat[key]; !ok || n != want {
				t.Errorf("v%d: %s is %d, %v; want %d", tt.version, key, n, ok, want)
			}
		}
		got.MemoryStat = nil
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("v%d: detail differs (-want +got):\n%s", tt.version, diff)
		}
	}
}

func TestOpenOfNothing(t *testing.T) {
	for _, version := range []metrics.Version{metrics.V1, metrics.V2} {
		if _, err := Open(layout(version), "ecs/nobody"); !errors.Is(err, metrics.ErrGone) {
			t.Errorf("v%d: %v, want ErrGone", version, err)
		}
	}
}

// TestFilesThatComeLate is a controller that is enabled after the Reader was opened.
func TestFilesThatComeLate(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "c", "cpu.stat"), "usage_usec 1\n")
	r := open(t, Under(root, metrics.V2), "c")
	if s := read(t, r); s.Memory.Usage != 0 || s.CPU.Usage != 1000 {
		t.Errorf("at first %+v", s)
	}
	write(t, filepath.Join(root, "c", "memory.current"), "4096\n")
	for range slowEvery {
		read(t, r)
	}
	if s := read(t, r); s.Memory.Usage != 4096 {
		t.Errorf("memory in use is %d after the file came", s.Memory.Usage)
	}
}

func TestAPeakIsNeverBelowTheUsage(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "c", "memory.current"), "1000\n")
	write(t, filepath.Join(root, "c", "memory.peak"), "1500\n")
	r := open(t, Under(root, metrics.V2), "c")
	if s := read(t, r); s.Memory.Peak != 1500 {
		t.Errorf("peak is %d, want 1500", s.Memory.Peak)
	}
	write(t, filepath.Join(root, "c", "memory.current"), "9000\n")
	if s := read(t, r); s.Memory.Peak != 9000 {
		t.Errorf("peak is %d, want 9000 before the slow files are read again", s.Memory.Peak)
	}
}

func TestALongFileGrowsTheBuffer(t *testing.T) {
	root := t.TempDir()
	var long []byte
	for range 500 {
		long = append(long, "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"...)
	}
	write(t, filepath.Join(root, "c", "io.stat"), string(long))
	r := open(t, Under(root, metrics.V2), "c")
	want := metrics.BlockIO{ReadBytes: 500, WriteBytes: 1000, ReadOps: 1500, WriteOps: 2000}
	if s := read(t, r); s.IO != want {
		t.Errorf("read %+v, want %+v", s.IO, want)
	}
}

func TestAFailureOfOneControllerLeavesTheOthers(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "c", "cpu.stat"), 0o755); err != nil { // a directory cannot be read
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "c", "pids.current"), "3\n")
	r := open(t, Under(root, metrics.V2), "c")
	var s metrics.Sample
	if err := r.Read(&s); err == nil {
		t.Error("the failure was kept quiet")
	}
	if s.PIDs.Current != 3 {
		t.Errorf("%d processes, want 3", s.PIDs.Current)
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	for version, path := range map[metrics.Version]string{metrics.V1: container1, metrics.V2: container2} {
		r := open(t, layout(version), path)
		read(t, r)
		var s metrics.Sample
		// Readings between two of the slow files, which are opened anew.
		allocations := testing.AllocsPerRun(slowEvery-3, func() {
			if err := r.Read(&s); err != nil {
				t.Error(err)
			}
		})
		if allocations != 0 {
			t.Errorf("v%d: %v allocations in a reading", version, allocations)
		}
	}
}

func TestHost(t *testing.T) {
	h, err := OpenHost("testdata/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	got, err := h.CPUUsage()
	if want := uint64(4195 * 10 * time.Millisecond); err != nil || got != want {
		t.Errorf("host CPU is %d, %v; want %d", got, err, want)
	}
	if _, err := OpenHost("testdata/v1"); err == nil {
		t.Error("opened a proc without stat")
	}
}

func TestMountTables(t *testing.T) {
	tests := []struct {
		file string
		want Layout
		err  error
	}{
		{"hybrid", Layout{
			Version: metrics.V1, Unified: "/sys/fs/cgroup/unified", Controllers: map[string]string{
				"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
				"memory": "/sys/fs/cgroup/memory", "blkio": "/mnt/with space",
			},
		}, nil},
		{"unified", Layout{Version: metrics.V2, Unified: "/sys/fs/cgroup", Controllers: map[string]string{}}, nil},
		{"none", Layout{}, ErrNoCgroups},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join("testdata", tt.file+".mountinfo"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			got, err := parseMountinfo(f)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error is %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("layout differs (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParsers(f *testing.F) {
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		f.Add(b)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("some avg10= total=99999999999999999999\nfull\n8:0 Read\n : rbytes==\n18446744073709551616\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keyed(b, func(key []byte, _ uint64) {
			if len(key) == 0 {
				t.Error("a line without a key counts")
			}
		})
		single(b)
		deviceLine1(b, func(metrics.DeviceIO, uint64, uint64) {})
		deviceLine2(b)
		if s := stall(b); s.Some < 0 || s.Full < 0 {
			t.Errorf("negative stall %+v", s)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, bench := range []struct {
		name    string
		version metrics.Version
		path    string
	}{{"v1", metrics.V1, container1}, {"v2", metrics.V2, container2}} {
		b.Run(bench.name, func(b *testing.B) {
			r := open(b, layout(bench.version), bench.path)
			b.ReportAllocs()
			var s metrics.Sample
			for b.Loop() {
				if err := r.Read(&s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

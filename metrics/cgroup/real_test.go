package cgroup

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/await"
)

// realCgroup makes a cgroup of this process's name in the given hierarchies of this host, and removes it after the test.
func realCgroup(t *testing.T, roots []string) (path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	path = fmt.Sprintf("/ecs/metricstest-%d-%s", os.Getpid(), strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"))
	for _, root := range roots {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Skipf("needs a writable cgroup hierarchy at %s: %v", root, err)
		}
		t.Cleanup(func() {
			await.That(t, "cgroup removed", func() bool {
				err := os.Remove(dir)
				return err == nil || errors.Is(err, os.ErrNotExist)
			})
			_ = os.Remove(filepath.Dir(dir)) // /ecs itself, unless something else is in it
		})
	}
	return path
}

// start runs a shell script in the cgroups. The script begins when the returned function is called.
func start(t *testing.T, dirs []string, script string) (begin func(), wait func() error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read go; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := false
	wait = func() error { waited = true; return cmd.Wait() }
	t.Cleanup(func() {
		if !waited {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	for _, dir := range dirs {
		write(t, filepath.Join(dir, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid))
	}
	return func() { _, _ = io.WriteString(in, "go\n") }, wait
}

// TestReal reads the cgroups of this host, of the versions that it has; what the other one looks like is in testdata.
func TestReal(t *testing.T) {
	l, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if l.Version == metrics.V1 {
		t.Run("V1", func(t *testing.T) { testRealV1(t, l) })
		t.Run("V1IsGone", func(t *testing.T) { testRealV1IsGone(t, l) })
	}
	if l.Unified != "" {
		t.Run("V2", func(t *testing.T) { testRealV2(t, l) })
	}
}

func testRealV1(t *testing.T, l Layout) {
	path := realCgroup(t, slices.Sorted(maps.Values(l.Controllers)))
	var dirs []string
	for _, root := range l.Controllers {
		dirs = append(dirs, filepath.Join(root, path))
	}
	// A twentieth of a processor, which a process gets on a host that is busy otherwise, too.
	quota := filepath.Join(l.Controllers["cpu"], path, "cpu.cfs_quota_us")
	write(t, quota, "5000")
	write(t, filepath.Join(l.Controllers["memory"], path, "memory.limit_in_bytes"), "33554432")
	write(t, filepath.Join(l.Controllers["pids"], path, "pids.max"), "64")

	r := open(t, l, path)
	before := read(t, r)
	if before.CgroupID == 0 || before.Version != metrics.V1 || before.CPU.Usage != 0 {
		t.Errorf("new cgroup: %+v", before)
	}
	if before.Memory.Limit != 32<<20 || before.PIDs.Limit != 64 {
		t.Errorf("limits: %d bytes, %d pids", before.Memory.Limit, before.PIDs.Limit)
	}

	// Memory is charged to the cgroup a process is in when it first touches it, so the script must touch some.
	begin, _ := start(t, dirs, "x=$(head -c 3000000 /dev/zero | tr '\\0' x); while :; do :; done")
	var s metrics.Sample
	began := time.Now()
	begin()
	// One process: the shell has its text, and those that made it are gone.
	await.That(t, "throttled", func() bool {
		s = read(t, r)
		return s.CPU.ThrottledPeriods > 2 && s.CPU.Usage > 100e6 && s.PIDs.Current == 1 && s.Memory.Anon >= 3000000
	})
	elapsed := uint64(time.Since(began))
	if s.CPU.Usage > elapsed {
		t.Errorf("a twentieth of a processor used %d ns in %d ns", s.CPU.Usage, elapsed)
	}
	// The kernel counts these two in ticks, whoever runs when one comes.
	if s.CPU.User+s.CPU.System == 0 || s.CPU.User+s.CPU.System > 2*s.CPU.Usage+100e6 {
		t.Errorf("user %d and system %d of %d", s.CPU.User, s.CPU.System, s.CPU.Usage)
	}
	if s.CPU.Periods < s.CPU.ThrottledPeriods || s.CPU.ThrottledTime == 0 {
		t.Errorf("throttling: %+v", s.CPU)
	}
	if s.Memory.Usage < 3000000 || s.Memory.Anon < 3000000 || s.Memory.Peak < s.Memory.Usage || s.PIDs.Current != 1 {
		t.Errorf("memory %+v, pids %+v", s.Memory, s.PIDs)
	}
	d, err := r.Detail()
	if err != nil || len(d.PerCPU) == 0 || d.MemoryStat["total_rss"] == 0 {
		t.Errorf("detail %+v, %v", d, err)
	}

	write(t, quota, "-1")
	t.Run("oom", func(t *testing.T) {
		begin, wait := start(t, dirs, "x=$(head -c 90000000 /dev/zero | tr '\\0' x); echo ${#x}")
		begin()
		if err := wait(); err == nil {
			t.Log("the shell itself survived")
		}
		await.That(t, "killed", func() bool { s = read(t, r); return s.Memory.OOMKills > 0 && s.Memory.FailCount > 0 })
	})
}

// testRealV1IsGone removes the cgroup under an open Reader.
func testRealV1IsGone(t *testing.T, l Layout) {
	path := realCgroup(t, []string{l.Controllers["memory"], l.Controllers["cpuacct"]})
	r := open(t, l, path)
	first := read(t, r)
	for _, c := range []string{"memory", "cpuacct"} {
		if err := os.Remove(filepath.Join(l.Controllers[c], path)); err != nil {
			t.Fatalf("open files keep the cgroup: %v", err)
		}
	}
	var s metrics.Sample
	if err := r.Read(&s); !errors.Is(err, metrics.ErrGone) {
		t.Errorf("reading a removed cgroup: %v, want ErrGone", err)
	}
	if _, err := Open(l, path); !errors.Is(err, metrics.ErrGone) {
		t.Errorf("opening a removed cgroup: %v, want ErrGone", err)
	}
	if err := os.Mkdir(filepath.Join(l.Controllers["memory"], path), 0o755); err != nil {
		t.Fatal(err)
	}
	if again := read(t, open(t, l, path)); again.CgroupID == first.CgroupID {
		t.Errorf("the new cgroup has the identity of the old one, %d", first.CgroupID)
	}
}

// testRealV2 reads what a version 2 tree without controllers has, which is what a hybrid host offers: CPU time and pressure.
func testRealV2(t *testing.T, l Layout) {
	l.Version = metrics.V2
	path := realCgroup(t, []string{l.Unified})
	r := open(t, l, path)
	begin, _ := start(t, []string{filepath.Join(l.Unified, path)}, "while :; do :; done")
	begin()
	var s metrics.Sample
	await.That(t, "100 ms of CPU used", func() bool { s = read(t, r); return s.CPU.Usage > 100e6 })
	if s.CPU.User == 0 || s.CPU.User+s.CPU.System > s.CPU.Usage+50e6 || s.Version != metrics.V2 || s.CgroupID == 0 {
		t.Errorf("read %+v", s)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err == nil && !s.Pressure.Known {
		t.Error("no pressure although the host has it")
	}
}

func TestRealHost(t *testing.T) {
	h, err := OpenHost("/proc")
	if err != nil {
		t.Skipf("needs /proc: %v", err)
	}
	defer func() { _ = h.Close() }()
	first, err := h.CPUUsage()
	if err != nil {
		t.Fatal(err)
	}
	await.That(t, "host CPU time risen", func() bool {
		now, err := h.CPUUsage()
		if err != nil || now < first {
			t.Fatalf("went from %d to %d, %v", first, now, err)
		}
		return now > first
	})
}

func BenchmarkReadReal(b *testing.B) {
	l, err := Detect()
	if err != nil {
		b.Skipf("needs cgroups: %v", err)
	}
	r := open(b, l, "/")
	b.ReportAllocs()
	var s metrics.Sample
	for b.Loop() {
		if err := r.Read(&s); err != nil {
			b.Fatal(err)
		}
	}
}

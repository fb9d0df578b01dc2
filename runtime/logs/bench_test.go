package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/await"
)

// usage is the resident memory of a process in KiB, and its CPU time.
func usage(t testing.TB, pid int) (kib int, cpu time.Duration) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err = strconv.Atoi(strings.Fields(text)[0])
		}
	}
	stat, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || readErr != nil {
		t.Fatal(err, readErr)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	for _, field := range fields[11:13] { // utime, stime, in hundredths of a second
		ticks, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return kib, cpu
}

// Thirty containers cost the log process less than a megabyte each, idle or
// after they have written, and nothing while they are idle.
func TestFootprint(t *testing.T) {
	h := newHost(t, "0")
	if _, err := h.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := h.pid()
	empty, _ := usage(t, pid)
	const containers = 30
	var shims []*shim
	for i := range containers {
		stdout, stderr := h.open(Container{ID: "c" + strconv.Itoa(i)})
		shims = append(shims, stdout, stderr)
	}
	_, cpu := usage(t, pid)
	wait(t, 2*time.Second)
	idle, after := usage(t, pid)
	for round := range 20 {
		for _, s := range shims {
			s.write(t, strings.Repeat("a line of some length, as they are\n", 100+round))
		}
	}
	await.That(t, "all to be read", func() bool {
		list, err := h.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lines := int64(0)
		for _, st := range list {
			lines += st.Lines
		}
		return lines == containers*2*(20*100+190)
	})
	busy, _ := usage(t, pid)
	t.Logf("RSS %d KiB empty, %d with %d idle containers, %d after they wrote; CPU idle for 2 s: %v",
		empty, idle, containers, busy, after-cpu)
	if per := (busy - empty) / containers; per > 1024 && !raceBuild() {
		t.Errorf("%d KiB per container", per)
	}
	// What is left to do for the opening of them may come late; turning round would cost all of it.
	if used := after - cpu; used > 500*time.Millisecond {
		t.Errorf("idle containers used %v of CPU in two seconds", used)
	}
	for _, s := range shims {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// raceBuild says whether the race detector is in this binary, and with it its
// appetite for memory.
func raceBuild() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// BenchmarkPipeToFile is the whole way: a line is written to the FIFO of a
// container, read by a log process, and written to json.log.
func BenchmarkPipeToFile(b *testing.B) {
	root := b.TempDir()
	dir := filepath.Join(root, "c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := makeFIFO(filepath.Join(dir, stdoutName)); err != nil {
		b.Fatal(err)
	}
	if err := makeFIFO(filepath.Join(dir, stderrName)); err != nil {
		b.Fatal(err)
	}
	cfg := ServerConfig{}.withDefaults()
	w, err := newWorker(b.Context(), Container{ID: "c", Options: map[string]string{"max-size": "100m"}},
		workerConfig{dir: dir, dataDir: filepath.Join(root, "data"), factory: cfg.Drivers[DriverJSONFile], log: cfg.Log})
	if err != nil {
		b.Fatal(err)
	}
	out, err := os.OpenFile(filepath.Join(dir, stdoutName), os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	const perWrite = 20
	block := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), perWrite)
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(100)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += perWrite {
		if _, err := out.Write(block[:100*min(perWrite, b.N-n)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	if err := w.end(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	if got := w.count.lines.Load(); got != int64(b.N) {
		b.Fatalf("%d lines, want %d", got, b.N)
	}
}

// BenchmarkReadBack is reading a log from its beginning.
func BenchmarkReadBack(b *testing.B) {
	dir := b.TempDir()
	line := appendEntry(nil, Entry{Time: time.Unix(1, 1), Stream: Stdout, Line: []byte(strings.Repeat("x", 99) + "\n")}, nil)
	if err := os.MkdirAll(filepath.Join(dir, "c"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c", logName), bytes.Repeat(line, b.N), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	b.ResetTimer()
	n := 0
	if err := Read(b.Context(), ReadRequest{ID: "c", Dir: dir + "/none", DataDir: dir}, func(l Line) error {
		n++
		_, err := io.Discard.Write([]byte(l.Log))
		return err
	}); err != nil || n != b.N {
		b.Fatal(n, err)
	}
}

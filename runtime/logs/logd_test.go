package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/await"
)

// TestMain makes the test binary a log process when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "logd" {
		os.Exit(logd(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// logd is the verb as the binary has it.
func logd(root, idle string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	idleExit, err := time.ParseDuration(idle)
	if err != nil {
		return 2
	}
	log, err := zap.NewProduction()
	if err != nil {
		return 2
	}
	if err := Run(ctx, ServerConfig{
		Socket: filepath.Join(root, "sock"), Dir: filepath.Join(root, "run"), DataDir: filepath.Join(root, "data"),
		IdleExit: idleExit, Log: log,
	}); err != nil {
		log.Error("log process failed", zap.Error(err))
		return 1
	}
	return 0
}

// host is a directory with a log process of its own.
type host struct {
	t       *testing.T
	root    string
	spawner *Spawner
	client  *Client
}

// newHost prepares a host; its log process is started by the first call.
func newHost(t *testing.T, idle string) *host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Short: a socket's path is limited.
	root, err := os.MkdirTemp("", "berth-logs-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, root: root, spawner: &Spawner{
		Command: []string{self, "logd", root, idle}, Output: filepath.Join(root, "logd.out"),
		Env: []string{"GORACE=atexit_sleep_ms=0"}, // else a race build takes a second to exit
	}}
	h.client = h.newClient()
	t.Cleanup(func() {
		if err := h.client.Detach(); err != nil {
			t.Error(err)
		}
		h.signal(unix.SIGTERM)
		if out, err := os.ReadFile(h.spawner.Output); err == nil && (t.Failed() || strings.Contains(string(out), "panic")) {
			t.Logf("log process:\n%s", out)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) newClient() *Client {
	return NewClient(ClientConfig{
		Socket: filepath.Join(h.root, "sock"), Dir: filepath.Join(h.root, "run"), DataDir: filepath.Join(h.root, "data"),
		Spawn: h.spawner.Start,
	})
}

// pid is the log process, 0 when there is none.
func (h *host) pid() int {
	h.spawner.mu.Lock()
	defer h.spawner.mu.Unlock()
	h.spawner.reap()
	if len(h.spawner.started) == 0 {
		return 0
	}
	return h.spawner.started[0].Pid
}

// signal signals the log process, if there is one, and waits for its end.
func (h *host) signal(sig unix.Signal) {
	h.t.Helper()
	if pid := h.pid(); pid != 0 {
		if err := unix.Kill(pid, sig); err != nil {
			h.t.Error(err)
		}
	}
	await.That(h.t, "the log process to end", func() bool { return h.pid() == 0 })
}

// wait waits for d or until the test ends.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// shim opens a FIFO as a containerd shim does: for writing, and for reading so
// that a missing reader does not break the pipe.
type shim struct{ w, r *os.File }

func openShim(t *testing.T, path string) *shim {
	t.Helper()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &shim{w, r}
}

func (s *shim) write(t *testing.T, text string) {
	t.Helper()
	if _, err := s.w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func (s *shim) close() error { return errors.Join(s.w.Close(), s.r.Close()) }

// open opens a container and both its outputs.
func (h *host) open(c Container) (stdout, stderr *shim) {
	h.t.Helper()
	io, err := h.client.Open(h.t.Context(), c)
	if err != nil {
		h.t.Fatal(err)
	}
	return openShim(h.t, io.Stdout), openShim(h.t, io.Stderr)
}

// exit ends a container.
func (h *host) exit(id string, shims ...*shim) {
	h.t.Helper()
	for _, s := range shims {
		if err := s.close(); err != nil {
			h.t.Error(err)
		}
	}
	if err := h.client.Close(h.t.Context(), id); err != nil {
		h.t.Fatal(err)
	}
}

// read reads a log back.
func (h *host) read(req ReadRequest) []Line {
	h.t.Helper()
	req.Dir, req.DataDir = filepath.Join(h.root, "run"), filepath.Join(h.root, "data")
	var lines []Line
	if err := Read(h.t.Context(), req, func(l Line) error {
		lines = append(lines, l)
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return lines
}

// texts are the lines' texts, with E: before those of stderr.
func texts(lines []Line) (out []string) {
	for _, l := range lines {
		if l.Stream == Stderr {
			l.Log = "E:" + l.Log
		}
		out = append(out, l.Log)
	}
	return out
}

// flow writes numbered lines at a rate, in pieces that do not end where lines
// do, and returns how many.
func flow(ctx context.Context, w io.Writer, name string, perSecond int) (lines int, worst time.Duration, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	random := rand.New(rand.NewPCG(5, uint64(perSecond)))
	filler := strings.Repeat(".", 200)
	var pending []byte
	start := time.Now()
	for ctx.Err() == nil {
		<-tick.C
		for due := int(time.Since(start).Seconds() * float64(perSecond)); lines < due; lines++ {
			pending = fmt.Appendf(pending, "%s %d %s\n", name, lines, filler[:random.IntN(150)])
		}
		n := random.IntN(len(pending) + 1)
		before := time.Now()
		if _, err := w.Write(pending[:n]); err != nil {
			return lines, worst, err
		}
		worst = max(worst, time.Since(before))
		pending = append(pending[:0], pending[n:]...)
	}
	_, err = w.Write(pending)
	return lines, worst, err
}

// sequence checks that lines are name 0, name 1, … with none missing, doubled
// or torn.
func sequence(t *testing.T, lines []Line, name string, want int) {
	t.Helper()
	next, wrong := 0, 0
	for _, l := range lines {
		fields := strings.Fields(l.Log)
		if len(fields) >= 2 && fields[0] != name {
			continue
		}
		if len(fields) < 2 || fields[1] != strconv.Itoa(next) || !strings.HasSuffix(l.Log, "\n") {
			if wrong++; wrong < 5 {
				t.Errorf("%s: %q in the place of %d", name, l.Log, next)
			}
		}
		next++
	}
	if next != want {
		t.Errorf("%s: %d lines, want %d", name, next, want)
	}
}

// The promise: a writer at full flow loses no line and does not wait while
// agents come and go and the log process is stopped and started, or killed -9
// and started.
func TestNoLineIsLost(t *testing.T) {
	for _, tc := range []struct {
		name    string
		disturb func(h *host)
	}{
		{"agents come and go", func(h *host) {
			if err := h.client.Detach(); err != nil {
				h.t.Error(err)
			}
			h.client = h.newClient()
		}},
		{"log process stopped", func(h *host) { h.signal(unix.SIGTERM) }},
		{"log process killed", func(h *host) { h.signal(unix.SIGKILL) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t, "0")
			c := Container{ID: "c1", Options: map[string]string{"max-size": "600k", "max-file": "50", "compress": "true"}}
			stdout, stderr := h.open(c)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errStopped)
			defer cancel()
			var group, writers sync.WaitGroup
			counts := make([]int, 2)
			for i, s := range []*shim{stdout, stderr} {
				writers.Go(func() {
					n, worst, err := flow(ctx, s.w, []string{"out", "err"}[i], []int{10000, 2000}[i])
					if err != nil {
						t.Error(err)
					}
					counts[i] = n
					t.Logf("%d lines, longest write %v", n, worst)
				})
			}
			var followed []Line
			group.Go(func() { followed = h.read(ReadRequest{ID: "c1", Follow: true}) })
			for ctx.Err() == nil {
				wait(t, 150*time.Millisecond)
				tc.disturb(h)
				if _, err := h.client.Open(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if tc.name == "agents come and go" {
				_, cpu := usage(t, h.pid())
				t.Logf("CPU of the log process: %v", cpu)
			}
			writers.Wait()
			h.exit("c1", stdout, stderr)
			group.Wait()
			lines := h.read(ReadRequest{ID: "c1"})
			sequence(t, lines, "out", counts[0])
			sequence(t, lines, "err", counts[1])
			if tc.name != "log process killed" { // else the follower may see what is then undone and written again
				sequence(t, followed, "out", counts[0])
				sequence(t, followed, "err", counts[1])
			}
		})
	}
}

// What a container wrote before it exited is there although no log process was.
func TestExitWithoutLogProcess(t *testing.T) {
	h := newHost(t, "0")
	stdout, stderr := h.open(Container{ID: "c1"})
	h.signal(unix.SIGKILL)
	stdout.write(t, "last words\nand no newline")
	h.exit("c1", stdout, stderr)
	want := []string{"last words\n", "and no newline"}
	if got := texts(h.read(ReadRequest{ID: "c1", Follow: true})); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestLifeOfALog(t *testing.T) {
	h := newHost(t, "0")
	c := Container{ID: "c1", Name: "web", Task: "t1", Env: []string{"SECRET=x"}, Stdin: true}
	stdout, stderr := h.open(c)
	if config, err := os.ReadFile(filepath.Join(h.root, "run/c1/config.json")); err != nil || strings.Contains(string(config), "SECRET") {
		t.Errorf("%s %v", config, err)
	}
	stdout.write(t, "one\n")
	await.That(t, "one", func() bool { return len(h.read(ReadRequest{ID: "c1"})) == 1 })
	stderr.write(t, "two\n")
	await.That(t, "two", func() bool { return len(h.read(ReadRequest{ID: "c1"})) == 2 })
	stdout.write(t, strings.Repeat("x", maxLine)+"y\n")
	await.That(t, "the long line", func() bool {
		list, err := h.client.Status(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		st := list[0]
		return st.Lines == 4 && st.Bytes == 8+maxLine+2 && st.Waiting == 0 && st.Name == "web" && st.Driver == DriverJSONFile
	})
	h.exit("c1", stdout, stderr)
	if err := h.client.Close(t.Context(), "c1"); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if exists(filepath.Join(h.root, "run/c1/stdout")) || exists(filepath.Join(h.root, "run/c1/spool")) {
		t.Error("pipes or spool left")
	}

	// A restarted container carries the log on.
	stdout, stderr = h.open(c)
	stdout.write(t, "again")
	h.exit("c1", stdout, stderr)
	long := []string{strings.Repeat("x", maxLine), "y\n"}
	all := append(append([]string{"one\n", "E:two\n"}, long...), "again")
	for _, tc := range []struct {
		req  ReadRequest
		want []string
	}{
		{ReadRequest{}, all},
		{ReadRequest{Follow: true}, all},
		{ReadRequest{Tail: 1}, all[4:]},
		{ReadRequest{Tail: 2}, all[2:]},
		{ReadRequest{Tail: 3}, all[1:]},
		{ReadRequest{Tail: 9}, all},
		{ReadRequest{Tail: -1}, nil},
		{ReadRequest{Stderr: true}, all[1:2]},
		{ReadRequest{Stderr: true, Tail: 1}, all[1:2]},
		{ReadRequest{Stdout: true, Tail: 3}, append([]string{"one\n"}, all[2:]...)},
		{ReadRequest{Since: time.Now().Add(time.Hour)}, nil},
		{ReadRequest{Until: time.Now().Add(-time.Hour)}, nil},
		{ReadRequest{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, all},
	} {
		tc.req.ID = "c1"
		if got := texts(h.read(tc.req)); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %.40q, want %.40q", tc.req, got, tc.want)
		}
	}

	for range 2 {
		if err := h.client.Remove(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
	}
	if exists(filepath.Join(h.root, "run/c1")) || exists(filepath.Join(h.root, "data/c1")) {
		t.Error("something is left after Remove")
	}
	err := Read(t.Context(), ReadRequest{ID: "c1", Dir: h.root, DataDir: h.root}, nil)
	if !errors.Is(err, ErrNoLog) {
		t.Error(err)
	}
}

// A process that outlived its container and keeps the pipe does not keep Close
// for ever.
func TestCloseWithAWriterLeft(t *testing.T) {
	h := newHost(t, "0")
	stdout, stderr := h.open(Container{ID: "c1"})
	stdout.write(t, "said\n")
	before := time.Now()
	if err := h.client.Close(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took < closeGrace || took > closeGrace+time.Minute {
		t.Errorf("took %v", took)
	}
	if got := texts(h.read(ReadRequest{ID: "c1"})); !slices.Equal(got, []string{"said\n"}) {
		t.Errorf("%q", got)
	}
	if err := errors.Join(stdout.close(), stderr.close()); err != nil {
		t.Error(err)
	}
}

func TestDriverNone(t *testing.T) {
	h := newHost(t, "0")
	io, err := h.client.Open(t.Context(), Container{ID: "c1", Driver: DriverNone})
	if err != nil || io.Stdout != "" || io.Stderr != "" || io.Stdin != "" {
		t.Fatal(io, err)
	}
	read := ReadRequest{ID: "c1", Dir: filepath.Join(h.root, "run"), DataDir: filepath.Join(h.root, "data")}
	if err := Read(t.Context(), read, nil); !errors.Is(err, ErrNotReadable) {
		t.Error(err)
	}
	if err := h.client.Close(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	// A terminal's far end must be read all the same.
	if io, err = h.client.Open(t.Context(), Container{ID: "c2", Driver: DriverNone, Terminal: true}); err != nil || io.Stdout == "" {
		t.Fatal(io, err)
	}
	s := openShim(t, io.Stdout)
	s.write(t, strings.Repeat("to nobody\n", 300_000)) // more than the pipe holds
	h.exit("c2", s)
	if exists(filepath.Join(h.root, "data/c2", logName)) {
		t.Error("something was kept")
	}
}

func TestOpenRefusesWrongOptions(t *testing.T) {
	h := newHost(t, "0")
	_, err := h.client.Open(t.Context(), Container{ID: "c1", Options: map[string]string{"max-sise": "1m"}})
	if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), `"max-sise"`) {
		t.Error(err)
	}
	if exists(filepath.Join(h.root, "run/c1")) {
		t.Error("the directory was left")
	}
	for _, id := range []string{"", "..", "a/b", ".hidden"} {
		if _, err := h.client.Open(t.Context(), Container{ID: id}); err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
}

func TestIdleExit(t *testing.T) {
	h := newHost(t, "100ms")
	stdout, stderr := h.open(Container{ID: "c1"})
	wait(t, 400*time.Millisecond)
	if h.pid() == 0 {
		t.Fatal("ended with a container open")
	}
	h.exit("c1", stdout, stderr)
	await.That(t, "the idle process to end", func() bool { return h.pid() == 0 })
	// Keep counts as a client, and starts the process again.
	ctx, cancel := context.WithCancelCause(t.Context())
	kept := make(chan error)
	go func() { kept <- h.client.Keep(ctx) }()
	// One that is too slow to be held may still end.
	first := 0
	await.That(t, "a process that stays", func() bool {
		first = h.pid()
		wait(t, 400*time.Millisecond)
		return first != 0 && h.pid() == first
	})
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await.That(t, "another process", func() bool { pid := h.pid(); return pid != 0 && pid != first })
	done := errors.New("done")
	cancel(done)
	if err := <-kept; !errors.Is(err, done) {
		t.Error(err)
	}
	await.That(t, "the process to end", func() bool { return h.pid() == 0 })
}

func TestOneProcessPerSocket(t *testing.T) {
	h := newHost(t, "0")
	if _, err := h.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), ServerConfig{
		Socket: filepath.Join(h.root, "sock"), Dir: filepath.Join(h.root, "run"), DataDir: filepath.Join(h.root, "data"),
		LockWait: 50 * time.Millisecond,
	})
	if !errors.Is(err, ErrRunning) {
		t.Error(err)
	}
	if _, err := h.client.Status(t.Context()); err != nil {
		t.Errorf("the first one is gone: %v", err)
	}
}

func TestSpawnedProcessIsDetached(t *testing.T) {
	h := newHost(t, "0")
	if _, err := h.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := h.pid()
	session, err := unix.Getsid(pid)
	if err != nil || session != pid {
		t.Errorf("session %d of %d: %v", session, pid, err)
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || dir != "/" {
		t.Errorf("%s %v", dir, err)
	}
	if in, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid)); err != nil || in != os.DevNull {
		t.Errorf("%s %v", in, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	client := NewClient(ClientConfig{Socket: filepath.Join(t.TempDir(), "none"), Dir: t.TempDir(), Patience: 30 * time.Millisecond})
	if _, err := client.Open(t.Context(), Container{ID: "c"}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

// An end that is asked for while the process itself ends is carried out by the
// next one.
func TestCloseMeetsStop(t *testing.T) {
	h := newHost(t, "0")
	for round := range 10 {
		id := "c" + strconv.Itoa(round)
		stdout, stderr := h.open(Container{ID: id})
		stdout.write(t, "last words\n")
		if err := errors.Join(stdout.close(), stderr.close()); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- h.client.Close(t.Context(), id) }()
		wait(t, time.Duration(round)*200*time.Microsecond)
		pid := h.pid()
		if pid == 0 {
			t.Fatal("no process")
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-closed; err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := texts(h.read(ReadRequest{ID: id, Follow: true})); !slices.Equal(got, []string{"last words\n"}) {
			t.Errorf("round %d: %q", round, got)
		}
		await.That(t, "a process that answers", func() bool {
			_, err := h.client.Status(t.Context())
			return err == nil && h.pid() != 0
		})
	}
}

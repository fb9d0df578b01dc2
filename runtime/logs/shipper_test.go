package logs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
)

// far is a log service and its driver, "far". Its state outlives log processes.
type far struct {
	*sink

	mu      sync.Mutex // guards options
	options map[string]string
}

func (f *far) factory() Factory {
	return Factory{
		Remote: true, Options: []string{"far-token"},
		Check: func(c Container) error {
			if c.Options["far-token"] == "wrong" {
				return fmt.Errorf("%w: far-token is wrong", ErrOptions)
			}
			return nil
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.options = maps.Clone(cfg.Container.Options)
			return f.sink, nil
		},
	}
}

// token is the secret option that the driver was opened with last.
func (f *far) token() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.options["far-token"]
}

// place is where log processes of a test run one after the other, in this
// process.
type place struct {
	t     *testing.T
	root  string
	far   *far
	limit int64
}

func newPlace(t *testing.T, parent string) *place {
	t.Helper()
	root, err := os.MkdirTemp(parent, "berth-logs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return &place{t: t, root: root, far: &far{sink: &sink{}}}
}

// run starts a log process and answers what stops it.
func (p *place) run() (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancelCause(p.t.Context())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- Run(ctx, ServerConfig{
			Socket: filepath.Join(p.root, "sock"), Dir: filepath.Join(p.root, "run"), DataDir: filepath.Join(p.root, "data"),
			Drivers: map[string]Factory{"far": p.far.factory()}, QueueLimit: p.limit, Ready: func() { close(ready) },
		})
	}()
	<-ready
	stop = sync.OnceFunc(func() {
		cancel(errors.New("end of test"))
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(stop)
	return stop
}

func (p *place) client() *Client {
	c := NewClient(ClientConfig{Socket: filepath.Join(p.root, "sock"), Dir: filepath.Join(p.root, "run"), DataDir: filepath.Join(p.root, "data")})
	p.t.Cleanup(func() {
		if err := c.Detach(); err != nil {
			p.t.Error(err)
		}
	})
	return c
}

// say writes lines as a container, and ends it if that is asked for.
func (p *place) say(c *Client, want Container, end bool, first, last int) []string {
	p.t.Helper()
	io, err := c.Open(p.t.Context(), want)
	if err != nil {
		p.t.Fatal(err)
	}
	s := openShim(p.t, io.Stdout)
	entries, texts := lines(first, last)
	for _, e := range entries {
		s.write(p.t, string(e.Line))
	}
	if err := s.close(); err != nil {
		p.t.Error(err)
	}
	if end {
		if err := c.Close(p.t.Context(), want.ID); err != nil {
			p.t.Error(err)
		}
	}
	return texts
}

// status is that of the only container; ok is false when there is none.
func (p *place) status(c *Client) (st Status, ok bool) {
	p.t.Helper()
	list, err := c.Status(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if len(list) == 0 {
		return st, false
	}
	return list[0], true
}

var errDown = errors.New("far end is down")

// A container starts, writes, ends and is started again while its log service is
// down; log processes come and go. When the service is back it gets every line,
// in order, and all the while they can be read on the host.
func TestLinesWaitForTheService(t *testing.T) {
	p := newPlace(t, "")
	p.far.breakWith(errDown)
	stop := p.run()
	client := p.client()
	c := Container{ID: "c1", Driver: "far"}
	want := p.say(client, c, true, 1, 2000)
	var st Status
	await.That(t, "the failure", func() bool { st, _ = p.status(client); return !st.StuckSince.IsZero() })
	if st.Queued < 200_000 || st.Reason != errDown.Error() || st.Open {
		t.Errorf("with the service down: %+v", st)
	}
	stop()
	stop = p.run()
	want = append(want, p.say(client, c, true, 2001, 3000)...)
	stop()
	p.run()
	read := ReadRequest{ID: "c1", Dir: filepath.Join(p.root, "run"), DataDir: filepath.Join(p.root, "data"), Tail: 2}
	var tail []string
	if err := Read(t.Context(), read, func(l Line) error { tail = append(tail, l.Log); return nil }); err != nil || !slices.Equal(tail, want[2998:]) {
		t.Errorf("%v: %q", err, tail)
	}
	p.far.breakWith(nil)
	await.That(t, "everything to be delivered", func() bool { _, waiting := p.status(client); return !waiting })
	if got := p.far.got(); !slices.Equal(got, want) {
		t.Errorf("%d lines were delivered, of %d", len(got), len(want))
	}
	if err := client.Remove(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if exists(filepath.Join(p.root, "data/c1")) || exists(filepath.Join(p.root, "run/c1")) {
		t.Error("something is left")
	}
}

// After a restart of the host nothing is left of the directory in memory. Lines
// that waited are delivered all the same, and can be read, and what is on the disk
// holds no secret; without the secrets that a driver needs lines wait on. The
// container may be started again, and is removed as ever.
func TestLinesWaitForTheHost(t *testing.T) {
	p := newPlace(t, "")
	p.far.breakWith(errDown)
	stop := p.run()
	client := p.client()
	const secret = "correct horse battery staple"
	want := p.say(client, Container{ID: "c1", Driver: "far", Options: map[string]string{"mode": "non-blocking"}}, false, 1, 500)
	await.That(t, "the lines to be in the queue", func() bool { st, _ := p.status(client); return st.Lines == 500 })
	p.say(client, Container{ID: "c2", Driver: "far", Secrets: container.SecretOptions{"far-token": secret}}, true, 1, 1)
	// One whose lines have all been delivered, or go nowhere, has nothing to wait for.
	p.say(client, Container{ID: "c3"}, true, 1, 1)
	for range 2 {
		stop()
		if err := errors.Join(client.Detach(), os.RemoveAll(filepath.Join(p.root, "run"))); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(p.root, "data/c2", configName)); err != nil || strings.Contains(string(data), secret) {
			t.Errorf("%v, or the secret is on the disk: %s", err, data)
		}
		stop = p.run()
	}
	read := ReadRequest{ID: "c1", Dir: filepath.Join(p.root, "run"), DataDir: filepath.Join(p.root, "data"), Follow: true}
	var lines []string
	if err := Read(t.Context(), read, func(l Line) error { lines = append(lines, l.Log); return nil }); err != nil || !slices.Equal(lines, want) {
		t.Errorf("%v: %d lines read", err, len(lines))
	}
	// The container goes on while its lines wait.
	want = append(want, p.say(client, Container{ID: "c1", Driver: "far"}, true, 501, 510)...)
	p.far.breakWith(nil)
	await.That(t, "everything to be delivered", func() bool { st, _ := p.status(client); return st.ID == "c2" })
	if got := p.far.got(); !slices.Equal(got, want) {
		t.Errorf("%d lines were delivered, of %d", len(got), len(want))
	}
	if st, _ := p.status(client); st.Queued == 0 || st.Open {
		t.Errorf("without its secret: %+v", st)
	}
	for _, id := range []string{"c1", "c2", "c3"} {
		if err := client.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(p.root, "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q %v", left, err)
	}
}

// At the limit of the disk a writer waits, or lines are dropped and counted.
func TestAQueueAtItsLimit(t *testing.T) {
	const total = 30_000 // 5 MB in the queue, and more than a pipe holds
	for _, mode := range []string{"blocking", "non-blocking"} {
		t.Run(mode, func(t *testing.T) {
			p := newPlace(t, "")
			p.limit = 1 << 20
			p.far.breakWith(errDown)
			p.run()
			client := p.client()
			var want []string
			written := make(chan struct{})
			go func() {
				defer close(written)
				want = p.say(client, Container{ID: "c1", Driver: "far", Options: map[string]string{"mode": mode}}, false, 1, total)
			}()
			var st Status
			await.That(t, "the limit", func() bool {
				var ok bool
				st, ok = p.status(client)
				return ok && st.Queued >= p.limit && (mode == "blocking" && st.Waiting > 900_000 || st.Lines+st.Dropped == total)
			})
			if mode == "blocking" {
				select {
				case <-written:
					t.Error("the writer did not wait")
				default:
				}
			}
			p.far.breakWith(nil)
			<-written
			await.That(t, "everything to be delivered", func() bool {
				st, _ = p.status(client)
				return st.Lines+st.Dropped == total && st.Queued == 0
			})
			got := p.far.got()
			if mode == "blocking" && st.Dropped != 0 || mode != "blocking" && st.Dropped == 0 ||
				int64(len(got))+st.Dropped != total || !slices.Equal(got[:5000], want[:5000]) {
				t.Errorf("%d delivered, %+v", len(got), st)
			}
		})
	}
}

// Secret options are not on a disk, and are brought again to a log process that
// has lost them; what a container says meanwhile waits.
func TestSecretsAreBroughtAgain(t *testing.T) {
	p := newPlace(t, "")
	if inMemory(p.root) {
		t.Skip("needs a directory for temporary files that is on a disk")
	}
	const secret = "correct horse battery staple"
	stop := p.run()
	client := p.client()
	c := Container{ID: "c1", Driver: "far", Secrets: container.SecretOptions{"far-token": secret}}
	want := p.say(client, c, false, 1, 10)
	await.That(t, "the driver", func() bool { return p.far.token() == secret })
	stop()
	p.run()
	io, err := filepath.Glob(filepath.Join(p.root, "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range io {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(data), secret) {
			t.Errorf("%s: %v, or it holds the secret", path, err)
		}
	}
	if printed := fmt.Sprintf("%v %+v %#v", c.Secrets, c.Secrets, c); strings.Contains(printed, secret) {
		t.Error("the secret prints")
	}
	s := openShim(t, filepath.Join(p.root, "run/c1/stdout"))
	entries, more := lines(11, 12)
	for _, e := range entries {
		s.write(t, string(e.Line))
	}
	await.That(t, "lines to wait", func() bool { st, ok := p.status(client); return ok && st.Queued > 0 && st.Waiting == 0 })
	ctx, cancel := context.WithCancelCause(t.Context())
	kept := make(chan error)
	go func() { kept <- client.Keep(ctx) }()
	await.That(t, "lines to be delivered", func() bool { return slices.Equal(p.far.got(), append(want[:10:10], more...)) })
	cancel(errStopped)
	if err := <-kept; !errors.Is(err, errStopped) {
		t.Error(err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// Where the pipes lie in memory as they do in /run, nobody need be there to bring
// secrets again.
func TestSecretsInMemory(t *testing.T) {
	const memory = "/dev/shm"
	if !inMemory(memory) {
		t.Skip("needs a tmpfs at " + memory)
	}
	p := newPlace(t, memory)
	stop := p.run()
	client := p.client()
	p.say(client, Container{ID: "c1", Driver: "far", Secrets: container.SecretOptions{"far-token": "x"}}, false, 1, 1)
	path := filepath.Join(p.root, "run/c1", secretsName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	stop()
	p.far.options = nil
	p.run()
	await.That(t, "the driver", func() bool { return p.far.token() == "x" })
	if err := client.Remove(t.Context(), "c1"); err != nil || exists(path) {
		t.Error("the secret is left", err)
	}
}

func TestOptionsOfRemoteDrivers(t *testing.T) {
	p := newPlace(t, "")
	p.run()
	client := p.client()
	for _, tc := range []struct {
		c    Container
		want string
	}{
		{
			Container{Options: map[string]string{"far-tokem": "x"}},
			`unknown log option "far-tokem" for driver far; it has cache-compress, cache-disabled, cache-max-file, cache-max-size, far-token, max-buffer-size, mode`,
		},
		{Container{Options: map[string]string{"cache-max-size": "much"}}, `cache-max-size="much" is not a size such as 10m`},
		{Container{Secrets: container.SecretOptions{"far-token": "wrong"}}, "far-token is wrong"},
	} {
		tc.c.ID, tc.c.Driver = "c1", "far"
		if _, err := client.Open(t.Context(), tc.c); !errors.Is(err, ErrOptions) || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%v, want %s", err, tc.want)
		}
		if exists(filepath.Join(p.root, "run/c1")) {
			t.Error("a directory is left")
		}
	}
	// A copy that is not wanted cannot be read.
	c := Container{ID: "c2", Driver: "far", Options: map[string]string{"cache-disabled": "true"}}
	p.say(client, c, true, 1, 1)
	read := ReadRequest{ID: "c2", Dir: filepath.Join(p.root, "run"), DataDir: filepath.Join(p.root, "data")}
	if err := Read(t.Context(), read, nil); !errors.Is(err, ErrNotReadable) {
		t.Error(err)
	}
}

// The removal of a container gives a service that is well the time to take the
// last lines, and one that is down none.
func TestRemoveWithLinesWaiting(t *testing.T) {
	for _, down := range []error{nil, errDown} {
		p := newPlace(t, "")
		p.far.breakWith(down)
		p.run()
		client := p.client()
		want := p.say(client, Container{ID: "c1", Driver: "far"}, true, 1, 500)
		if down != nil {
			await.That(t, "the failure", func() bool { st, _ := p.status(client); return !st.StuckSince.IsZero() })
		}
		before := time.Now()
		if err := client.Remove(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
		if took := time.Since(before); took >= removeGrace {
			t.Errorf("took %v", took)
		}
		if got := p.far.got(); down == nil && !slices.Equal(got, want) {
			t.Errorf("%d lines delivered", len(got))
		}
	}
}

// A log process that is killed again and again, and a log service that comes and
// goes, lose no line between them and keep the order; a batch may come twice.
func TestKilledWhileShipping(t *testing.T) {
	h := newHost(t, "0")
	service := newSyslogServer(t, "tcp", nil)
	c := Container{ID: "c1", Driver: DriverSyslog, Options: map[string]string{"syslog-address": "tcp://" + service.address}}
	stdout, stderr := h.open(c)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errStopped)
	defer cancel()
	count := 0
	var writer sync.WaitGroup
	writer.Go(func() {
		var err error
		if count, _, err = flow(ctx, stdout.w, "out", 5000); err != nil {
			t.Error(err)
		}
	})
	for round := 0; ctx.Err() == nil; round++ {
		wait(t, 120*time.Millisecond)
		service.hangUp()
		h.signal(unix.SIGKILL)
		if _, err := h.client.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	writer.Wait()
	h.exit("c1", stdout, stderr)
	await.That(t, "everything to be delivered", func() bool {
		list, err := h.client.Status(t.Context())
		return err == nil && len(list) == 0
	})
	// The log process has sent everything; the service may not have read it yet.
	last := fmt.Sprintf("out %d ", count-1)
	await.That(t, "the last line to be read", func() bool {
		m := service.messages()
		return len(m) > 0 && strings.Contains(m[len(m)-1], last)
	})
	next, again := 0, 0
	for _, m := range service.messages() {
		var n int
		if _, err := fmt.Sscanf(m[strings.Index(m, "]: ")+3:], "out %d ", &n); err != nil {
			t.Fatalf("%q: %v", m, err)
		}
		switch {
		case n == next:
			next++
		case n < next:
			again++
			next = n + 1
		default:
			t.Fatalf("%d lines are missing before %d", n-next, n)
		}
	}
	if next != count {
		t.Errorf("%d lines delivered, %d written", next, count)
	}
	t.Logf("%d lines, %d times a batch came again", count, again)
}

package hostapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

func serve(t *testing.T) (*hostapitest.Host, *hostapi.Client) {
	t.Helper()
	h := hostapitest.New()
	return h, hostapi.NewClient(hostapitest.Serve(t, h.Providers()))
}

// What a provider says is what the client hears, for every view.
func TestViewsCrossTheSocketWhole(t *testing.T) {
	h, c := serve(t)
	ctx := t.Context()
	images, err := h.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waits, err := h.Why(hostapitest.PendingTask)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		want any
		ask  func() (any, error)
	}{
		{"status", h.Status(), func() (any, error) { return c.Status(ctx) }},
		{"tasks", h.Tasks(), func() (any, error) { return c.Tasks(ctx) }},
		{"task by id", h.Tasks()[0], func() (any, error) { return c.Task(ctx, hostapitest.WebTask) }},
		{"task by prefix", h.Tasks()[0], func() (any, error) { return c.Task(ctx, "0123") }},
		{"task by ARN", h.Tasks()[0], func() (any, error) { return c.Task(ctx, h.Tasks()[0].ARN) }},
		{"why", waits, func() (any, error) { return c.Why(ctx, "01f") }},
		{"stats", h.Stats(), func() (any, error) { return c.Stats(ctx) }},
		{"images", images, func() (any, error) { return c.Images(ctx) }},
		{"settings", h.Providers().Settings(), func() (any, error) { return c.Settings(ctx) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.ask()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	_, c := serve(t)
	ctx := t.Context()
	tests := []struct {
		name string
		ask  func() error
		code string
		is   error
	}{
		{"no such task", func() error { _, err := c.Task(ctx, "beef"); return err }, hostapi.CodeNotFound, hostapi.ErrNotFound},
		{"ambiguous", func() error { _, err := c.Task(ctx, "01"); return err }, hostapi.CodeAmbiguous, hostapi.ErrInvalid},
		{"ambiguous stop", func() error { return c.Stop(ctx, "01", "") }, hostapi.CodeAmbiguous, hostapi.ErrInvalid},
		{"no such logs", func() error {
			return c.Logs(ctx, hostapi.LogRequest{Container: "x", Tail: -1}, func(hostapi.LogLine) error { return nil })
		}, hostapi.CodeNotFound, hostapi.ErrNotFound},
		{"no container", func() error { return c.Logs(ctx, hostapi.LogRequest{Tail: -1}, nil) }, hostapi.CodeInvalid, hostapi.ErrInvalid},
		{"exec without container", func() error { _, err := exec(ctx, c, "", "echo"); return err }, hostapi.CodeInvalid, hostapi.ErrInvalid},
		{"exec without command", func() error { _, err := exec(ctx, c, "web-1"); return err }, hostapi.CodeInvalid, hostapi.ErrInvalid},
		{"exec in nothing", func() error { _, err := exec(ctx, c, "nope", "echo"); return err }, hostapi.CodeNotFound, hostapi.ErrNotFound},
		{"exec in a stopped one", func() error { _, err := exec(ctx, c, "old-1", "echo"); return err }, hostapi.CodeConflict, hostapi.ErrConflict},
		{"exec of nothing", func() error { _, err := exec(ctx, c, "web-1", "broken"); return err }, hostapi.CodeInvalid, hostapi.ErrInvalid},
		{"pull of nothing", func() error { return c.Pull(ctx, "missing:1", func(hostapi.PullView) error { return nil }) }, hostapi.CodeNotFound, hostapi.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.ask()
			e, ok := errors.AsType[*hostapi.Error](err)
			if !ok || e.Code != tt.code || !errors.Is(err, tt.is) {
				t.Errorf("error %#v, want code %s", err, tt.code)
			}
		})
	}
	e, _ := errors.AsType[*hostapi.Error](c.Stop(ctx, "01", ""))
	if diff := cmp.Diff([]string{hostapitest.WebTask, hostapitest.PendingTask}, e.Candidates); diff != "" {
		t.Error(diff)
	}
}

func exec(ctx context.Context, c *hostapi.Client, id string, args ...string) (string, error) {
	var out bytes.Buffer
	_, err := c.Exec(ctx, hostapi.ExecRequest{Container: id, Args: args}, hostapi.Streams{Stdout: &out, Stderr: &out})
	return out.String(), err
}

func TestMissingProvidersSayNotProvided(t *testing.T) {
	c := hostapi.NewClient(hostapitest.Serve(t, hostapi.Providers{}))
	ctx := t.Context()
	asks := map[string]func() error{
		"status": func() error { _, err := c.Status(ctx); return err },
		"tasks":  func() error { _, err := c.Tasks(ctx); return err },
		"task":   func() error { _, err := c.Task(ctx, "x"); return err },
		"why":    func() error { _, err := c.Why(ctx, "x"); return err },
		"stop":   func() error { return c.Stop(ctx, "x", "") },
		"drain":  func() error { _, err := c.Drain(ctx, hostapi.DrainRequest{}); return err },
		"stats":  func() error { _, err := c.Stats(ctx); return err },
		"images": func() error { _, err := c.Images(ctx); return err },
		"config": func() error { _, err := c.Settings(ctx); return err },
		"events": func() error { return c.Events(ctx, false, nil) },
		"logs":   func() error { return c.Logs(ctx, hostapi.LogRequest{}, nil) },
		"pulls":  func() error { return c.Pulls(ctx, false, nil) },
		"pull":   func() error { return c.Pull(ctx, "x", nil) },
		"exec":   func() error { _, err := exec(ctx, c, "x", "y"); return err },
	}
	for name, ask := range asks {
		if e, ok := errors.AsType[*hostapi.Error](ask()); !ok || e.Code != hostapi.CodeNotProvided {
			t.Errorf("%s: %v, want %s", name, e, hostapi.CodeNotProvided)
		}
	}
}

func TestStopChangesTheHost(t *testing.T) {
	_, c := serve(t)
	if err := c.Stop(t.Context(), "0123", "I said so"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Task(t.Context(), hostapitest.WebTask)
	if err != nil || got.KnownStatus != "STOPPED" || got.Reason != "I said so" {
		t.Errorf("task %s, reason %q, %v", got.KnownStatus, got.Reason, err)
	}
}

func TestLogs(t *testing.T) {
	_, c := serve(t)
	start := hostapitest.Start()
	tests := []struct {
		name string
		req  hostapi.LogRequest
		want []string
	}{
		{"all", hostapi.LogRequest{Tail: -1}, []string{"listening on :80", "no <config>, using defaults", "GET /"}},
		{"tail", hostapi.LogRequest{Tail: 1}, []string{"GET /"}},
		{"tail of none", hostapi.LogRequest{Tail: 0}, nil},
		{"since", hostapi.LogRequest{Tail: -1, Since: start.Add(2 * time.Second)}, []string{"no <config>, using defaults", "GET /"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.Container = "web-1"
			var got []string
			err := c.Logs(t.Context(), tt.req, func(l hostapi.LogLine) error { got = append(got, l.Log); return nil })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFollowedLogsComeAtOnceAndEndWithTheContainer(t *testing.T) {
	h, c := serve(t)
	lines := make(chan string)
	done := make(chan error, 1)
	go func() {
		done <- c.Logs(t.Context(), hostapi.LogRequest{Container: "log-1", Tail: -1, Follow: true}, func(l hostapi.LogLine) error {
			lines <- l.Log
			return nil
		})
	}()
	if got := <-lines; got != "forwarding" {
		t.Errorf("first line %q", got)
	}
	h.Say(hostapi.LogLine{Log: "more"})
	if got := <-lines; got != "more" {
		t.Errorf("followed line %q", got)
	}
	h.Hush()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	h, c := serve(t)
	var got []string
	if err := c.Events(t.Context(), false, func(e hostapi.Event) error { got = append(got, e.What); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"task received", "started"}, got); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	events := make(chan string)
	done := make(chan error, 1)
	go func() {
		done <- c.Events(ctx, true, func(e hostapi.Event) error { events <- e.What; return nil })
	}()
	<-events
	<-events
	h.Events.Publish(hostapi.Event{What: "stopped"})
	if got := <-events; got != "stopped" {
		t.Errorf("followed %q", got)
	}
	cancel(errors.New("seen enough"))
	if err := <-done; err != nil {
		t.Errorf("the end of following is an error: %v", err)
	}
}

func TestEventsKeepTheLastThousandAndTellWhatWasMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e hostapi.Events
		publish := func(from, to int) {
			for i := from; i < to; i++ {
				e.Publish(hostapi.Event{What: fmt.Sprint(i)})
			}
		}
		publish(0, 1500)
		var got []string
		blocked := make(chan struct{})
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := e.Read(ctx, true, func(ev hostapi.Event) error {
				if len(got) == 999 { // the last of what was kept: fall behind now
					<-blocked
				}
				got = append(got, ev.What+ev.Detail)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		publish(1500, 3000)
		close(blocked)
		synctest.Wait()
		cancel(errors.New("test ends"))
		wg.Wait()
		if got[0] != "500" || got[999] != "1499" || got[1000] != "events missed500 events came faster than they were read" || got[1001] != "2000" {
			t.Errorf("read %q, %q, %q, %q", got[0], got[999], got[1000], got[1001])
		}
		if last := got[len(got)-1]; last != "2999" || len(got) != 2001 {
			t.Errorf("%d events, the last is %q", len(got), last)
		}
	})
}

func TestPull(t *testing.T) {
	h, c := serve(t)
	var got []hostapi.PullView
	err := c.Pull(t.Context(), "r.example/new:1", func(p hostapi.PullView) error { got = append(got, p); return nil })
	if err != nil || len(got) != 2 || got[0].Phase != "downloading" || !got[1].Done || got[1].Digest == "" {
		t.Errorf("progress %+v, %v", got, err)
	}
	images, err := h.Images(t.Context())
	if err != nil || images[len(images)-1].Name != "r.example/new:1" {
		t.Errorf("the image did not come: %v, %v", images, err)
	}
}

func TestPullsTellsChangesUntilNoneIsLeft(t *testing.T) {
	h, c := serve(t)
	h.ShowPulls(hostapi.PullView{Image: "a", BytesDone: 1})
	var got []string
	err := c.Pulls(t.Context(), false, func(p []hostapi.PullView) error {
		got = append(got, fmt.Sprint(len(p)))
		h.ShowPulls()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1", "0"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownPathsAnswerInTheSameShape(t *testing.T) {
	h := httptest.NewServer(hostapi.NewServer(hostapi.Providers{}, nil).Handler())
	t.Cleanup(h.Close)
	for _, r := range [][2]string{{http.MethodGet, "/v2/x"}, {http.MethodDelete, "/v1/tasks"}} {
		req, err := http.NewRequestWithContext(t.Context(), r[0], h.URL+r[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var e struct{ Error hostapi.Error }
		if err != nil || json.Unmarshal(body, &e) != nil || resp.StatusCode != http.StatusNotFound || e.Error.Code != hostapi.CodeNotFound {
			t.Errorf("%s %s: %s %s", r[0], r[1], resp.Status, body)
		}
	}
}

func TestClientSaysWhatToDoWithoutAnAgent(t *testing.T) {
	dir := t.TempDir()
	_, err := hostapi.NewClient(filepath.Join(dir, "absent")).Status(t.Context())
	e, ok := errors.AsType[*hostapi.Error](err)
	if !ok || e.Code != hostapi.CodeUnreachable || !strings.Contains(e.Hint, "systemctl") {
		t.Errorf("error %#v", err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.sock")
	l, err := hostapi.Listen(t.Context(), path, "no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v without a group, want 0660; %v", info.Mode(), err)
	}
	if _, err := hostapi.Listen(t.Context(), path, "no-such-group"); err == nil {
		t.Error("a socket that answers was taken over")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The file is still there, as after kill -9; the next agent takes its place.
	if l, err = hostapi.Listen(t.Context(), path, "no-such-group"); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestListenGivesTheSocketToTheGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root may give files to a group it is not in")
	}
	const group = "daemon" // there on every Linux
	g, err := user.LookupGroup(group)
	if err != nil {
		t.Skipf("needs the group %s: %v", group, err)
	}
	path := filepath.Join(t.TempDir(), "b.sock")
	l, err := hostapi.Listen(t.Context(), path, group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if got := strconv.FormatUint(uint64(st.Gid), 10); got != g.Gid || st.Mode&0o777 != 0o660 {
		t.Errorf("group %s, mode %o; want %s and 660", got, st.Mode&0o777, g.Gid)
	}
}

func TestJournalTellsWhoAskedAndNoSecrets(t *testing.T) {
	h := hostapitest.New()
	core, journal := observer.New(zap.InfoLevel)
	path := filepath.Join(t.TempDir(), "b.sock")
	l, err := hostapi.Listen(t.Context(), path, "no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- hostapi.NewServer(h.Providers(), zap.New(core)).Serve(ctx, l) }()
	c := hostapi.NewClient(path)
	_, execErr := exec(t.Context(), c, "web-1", "echo", "hunter2")
	if err := errors.Join(execErr, c.Stop(t.Context(), hostapitest.WebTask, "because")); err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("test ends"))
	if err := <-served; err != nil {
		t.Error(err)
	}
	lines := journal.All()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	for _, line := range lines {
		text := fmt.Sprint(line.Message, line.ContextMap())
		who := fmt.Sprintf("uid:%d", os.Getuid())
		if !strings.Contains(text, who) || strings.Contains(text, "hunter2") {
			t.Errorf("the journal says %s; want %s and no argument", text, who)
		}
	}
}

func TestServerEndsWithItsContextEvenWhileFollowed(t *testing.T) {
	h := hostapitest.New()
	path := filepath.Join(t.TempDir(), "b.sock")
	l, err := hostapi.Listen(t.Context(), path, "no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- hostapi.NewServer(h.Providers(), nil).Serve(ctx, l) }()

	c := hostapi.NewClient(path)
	seen := make(chan struct{}, 10)
	ended := make(chan error, 2)
	go func() {
		ended <- c.Events(t.Context(), true, func(hostapi.Event) error { seen <- struct{}{}; return nil })
	}()
	out, in := net.Pipe()
	go func() {
		_, err := c.Exec(t.Context(), hostapi.ExecRequest{Container: "web-1", Args: []string{"hang"}}, hostapi.Streams{Stdout: in, Stderr: in})
		ended <- err
	}()
	<-seen
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("agent stops"))
	if err := <-served; err != nil {
		t.Error(err)
	}
	_, _ = <-ended, <-ended // that they end is all that counts
}

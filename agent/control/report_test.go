package control

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/agent/wire/ecs"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares text with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestSubmission(t *testing.T) {
	code := 137
	change := &task.Change{
		TaskARN: "arn:task", Status: task.ReportStopped, PullStartedAt: time.UnixMilli(1740830250120), ExecutionStoppedAt: time.UnixMilli(1740833900400),
		Containers: []task.ContainerChange{
			{
				Name: "web", Status: task.ReportStopped, ExitCode: &code, Reason: "OutOfMemoryError: Container killed due to memory usage",
				RuntimeID: "f3a1", ImageDigest: "sha256:0d9c",
				Bindings: []task.Binding{
					{BindIP: "0.0.0.0", Protocol: "tcp", ContainerPort: 8080, ContainerPortEnd: 8080, HostPort: 32771},
					{BindIP: "::", Protocol: "tcp", ContainerPort: 8080, ContainerPortEnd: 8080, HostPort: 32771},
					{BindIP: "0.0.0.0", Protocol: "udp", ContainerPort: 9000, ContainerPortEnd: 9010, HostPort: 40000, Range: true},
				},
			},
			{Name: "side", Status: task.ReportStopped},
		},
	}
	var out strings.Builder
	for _, which := range []Addresses{{}, {WithoutIPv6: true}, {WithoutIPv4: true}} {
		r, cut := submission("blue", change, which)
		b, err := json.MarshalIndent(r, "", " ")
		if err != nil || cut != 0 {
			t.Fatal(err, cut)
		}
		fmt.Fprintf(&out, "%+v\n%s\n", which, b)
	}
	golden(t, "submission.txt", out.String())
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("é", 1000)
	c := task.ContainerChange{Reason: long, RuntimeID: long, ImageDigest: long}
	for i := range 105 {
		c.Bindings = append(c.Bindings, task.Binding{BindIP: "0.0.0.0", ContainerPort: uint16(i + 1), HostPort: uint16(i + 1)})
	}
	r, cut := submission("blue", &task.Change{Reason: "x" + long, Containers: []task.ContainerChange{c}}, Addresses{})
	got := r.Containers[0]
	if len(r.Reason) != 1023 || len(got.Reason) != 1024 || len(got.RuntimeID) != 254 || len(got.ImageDigest) != 254 {
		t.Errorf("cut to %d, %d, %d and %d bytes", len(r.Reason), len(got.Reason), len(got.RuntimeID), len(got.ImageDigest))
	}
	if len(got.NetworkBindings) != 100 || cut != 5 {
		t.Errorf("%d bindings are sent and %d left out", len(got.NetworkBindings), cut)
	}
}

// outbox is an Outbox in memory.
type outbox struct {
	mu      sync.Mutex // guards the fields below
	entries []task.Entry
	failing int
	changed chan struct{}
}

func newOutbox(tasks ...string) *outbox {
	o := &outbox{changed: make(chan struct{}, 1)}
	for _, t := range tasks {
		o.add(t)
	}
	return o
}

// add puts "task status".
func (o *outbox) add(entry string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	arn, status, _ := strings.Cut(entry, " ")
	o.entries = append(o.entries, task.Entry{ID: uint64(len(o.entries) + 1), Change: task.Change{TaskARN: arn, Status: task.ReportStatus(status)}})
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

func (o *outbox) Heads() ([]task.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing > 0 {
		o.failing--
		return nil, errors.New("the disk is broken")
	}
	var heads []task.Entry
	for _, e := range o.entries {
		if !slices.ContainsFunc(heads, func(h task.Entry) bool { return h.Change.Subject() == e.Change.Subject() }) {
			heads = append(heads, e)
		}
	}
	return heads, nil
}

func (o *outbox) Done(id uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing > 0 {
		o.failing--
		return errors.New("the disk is broken")
	}
	o.entries = slices.DeleteFunc(o.entries, func(e task.Entry) bool { return e.ID == id })
	o.signal()
	return nil
}

func (o *outbox) Changed() <-chan struct{} { return o.changed }

func (o *outbox) left() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}

// inbox is a Submitter that takes a second per call.
type inbox struct {
	mu        sync.Mutex // guards the fields below
	got       []string
	now, most int
	answer    func(n int, what string) error
	attempts  int
}

func (i *inbox) SubmitTaskStateChange(ctx context.Context, r *ecs.SubmitTaskStateChangeRequest) error {
	what := strings.TrimSpace(r.Task + " " + r.Status)
	for _, a := range r.Attachments {
		what += " " + a.AttachmentARN + " " + a.Status
	}
	return i.take(ctx, what)
}

func (i *inbox) SubmitAttachmentStateChanges(ctx context.Context, r *ecs.SubmitAttachmentStateChangesRequest) error {
	what := "host"
	for _, a := range r.Attachments {
		what += " " + a.AttachmentARN + " " + a.Status
	}
	return i.take(ctx, what)
}

func (i *inbox) take(ctx context.Context, what string) error {
	i.mu.Lock()
	i.attempts++
	n := i.attempts
	i.now++
	i.most = max(i.most, i.now)
	i.mu.Unlock()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now--
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if i.answer != nil {
		if err := i.answer(n, what); err != nil {
			return err
		}
	}
	i.got = append(i.got, what)
	return nil
}

// reporting runs a Reporter for a time of the test's own.
func reporting(t *testing.T, o *outbox, api *inbox, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("the time is up"))
	defer cancel()
	if err := NewReporter("blue", o, api, Addresses{}, zap.NewNop()).Run(ctx); err == nil || err.Error() != "the time is up" {
		t.Errorf("reporter ended with %v", err)
	}
}

func TestReporterOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, api := newOutbox("a PENDING", "a RUNNING", "b RUNNING", "a STOPPED"), &inbox{}
		reporting(t, o, api, 10*time.Second)
		var a []string
		for _, g := range api.got {
			if strings.HasPrefix(g, "a ") {
				a = append(a, g)
			}
		}
		if strings.Join(a, ",") != "a PENDING,a RUNNING,a STOPPED" || len(api.got) != 4 || o.left() != 0 {
			t.Errorf("sent %v, %d left", api.got, o.left())
		}
		if api.most != 2 {
			t.Errorf("%d at once", api.most)
		}
	})
}

func TestReporterTenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, api := newOutbox(), &inbox{}
		for i := range 35 {
			o.add(fmt.Sprintf("%02d RUNNING", i))
		}
		reporting(t, o, api, 4500*time.Millisecond)
		if api.most != 10 || len(api.got) != 35 {
			t.Errorf("%d were sent, %d at once", len(api.got), api.most)
		}
	})
}

// TestReporterRetries: a task whose change is not taken waits, others do not.
func TestReporterRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox("bad RUNNING", "good RUNNING", "bad STOPPED")
		tries := 0
		api := &inbox{answer: func(_ int, what string) error {
			if what == "bad RUNNING" {
				if tries++; tries < 20 {
					return &ecs.Error{Type: ecs.ErrTypeAccessDenied}
				}
			}
			return nil
		}}
		reporting(t, o, api, time.Hour)
		if strings.Join(api.got, ",") != "good RUNNING,bad RUNNING,bad STOPPED" || tries != 20 || o.left() != 0 {
			t.Errorf("sent %v after %d tries, %d left", api.got, tries, o.left())
		}
	})
}

// TestReporterOnALongDay: an agent that cannot report for a day says so a dozen
// times, and not once a minute.
func TestReporterOnALongDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		o := newOutbox("a RUNNING")
		api := &inbox{answer: func(int, string) error { return errors.New("no route to host") }}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 24*time.Hour, errors.New("the time is up"))
		defer cancel()
		_ = NewReporter("blue", o, api, Addresses{}, zap.New(core)).Run(ctx)
		if api.attempts < 2000 || logs.Len() < 10 || logs.Len() > 13 {
			t.Errorf("%d attempts made %d lines", api.attempts, logs.Len())
		}
	})
}

// TestReporterAttachments: the network interface of a task is a change of the
// task, before its others; a volume is a change of its own. What ECS does not
// wait for any more is not sent.
func TestReporterAttachments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(time.Minute)
		o := newOutbox()
		for _, c := range []task.Change{
			{TaskARN: "a", Attached: &task.Attached{ARN: "eni", ExpiresAt: soon}},
			{TaskARN: "a", Status: task.ReportRunning},
			{Attached: &task.Attached{ARN: "vol-1", ExpiresAt: soon}},
			{Attached: &task.Attached{ARN: "vol-2", ExpiresAt: soon}},
			{Attached: &task.Attached{ARN: "late", ExpiresAt: time.Now()}},
		} {
			o.entries = append(o.entries, task.Entry{ID: uint64(len(o.entries) + 1), Change: c})
		}
		tries := 0
		api := &inbox{answer: func(_ int, what string) error {
			if tries++; what == "host vol-2 ATTACHED" {
				return &ecs.Error{Type: ecs.ErrTypeServer}
			}
			return nil
		}}
		reporting(t, o, api, time.Hour)
		ofTask := slices.DeleteFunc(slices.Clone(api.got), func(g string) bool { return !strings.HasPrefix(g, "a ") })
		if got := strings.Join(ofTask, ","); got != "a eni ATTACHED,a RUNNING" || len(api.got) != 3 || !slices.Contains(api.got, "host vol-1 ATTACHED") {
			t.Errorf("sent %q", api.got)
		}
		if o.left() != 0 || tries < 5 || tries > 30 {
			t.Errorf("%d left after %d tries; nothing is tried after its time", o.left(), tries)
		}
	})
}

// TestAttachmentForm: it has exactly these three members (§6.2).
func TestAttachmentForm(t *testing.T) {
	r, _ := submission("blue", &task.Change{TaskARN: "arn:task", Attached: &task.Attached{ARN: "arn:eni"}}, Addresses{})
	got, err := json.Marshal(r)
	want := `{"cluster":"blue","task":"arn:task","attachments":[{"attachmentArn":"arn:eni","status":"ATTACHED"}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func TestReporterDropsWhatIsInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox("a RUNNING", "a STOPPED")
		api := &inbox{answer: func(_ int, what string) error {
			if what == "a RUNNING" {
				return &ecs.Error{Type: ecs.ErrTypeInvalidParameter}
			}
			return nil
		}}
		reporting(t, o, api, time.Minute)
		if api.attempts != 2 || strings.Join(api.got, ",") != "a STOPPED" || o.left() != 0 {
			t.Errorf("%d attempts, sent %v, %d left", api.attempts, api.got, o.left())
		}
	})
}

func TestReporterBearsABrokenDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, api := newOutbox("a RUNNING"), &inbox{}
		o.failing = 3
		api.answer = func(int, string) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.failing = 3
			return nil
		}
		reporting(t, o, api, time.Minute)
		if api.attempts != 1 || o.left() != 0 {
			t.Errorf("%d attempts, %d left", api.attempts, o.left())
		}
	})
}

// discovery is a Discoverer.
type discovery struct {
	calls int
	err   error
}

func (d *discovery) DiscoverPollEndpoint(_ context.Context, r *ecs.DiscoverPollEndpointRequest) (*ecs.DiscoverPollEndpointResponse, error) {
	if d.calls++; d.err != nil {
		return nil, d.err
	}
	return &ecs.DiscoverPollEndpointResponse{Endpoint: r.Cluster + fmt.Sprint(d.calls), TelemetryEndpoint: "t" + r.ContainerInstance}, nil
}

func TestEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &discovery{err: errors.New("down")}
		e := NewEndpoints(api, Identity{Cluster: "blue", ContainerInstanceARN: "arn"})
		want := func(acs string, calls int) {
			t.Helper()
			got, err := e.ACS(t.Context())
			if got != acs || (err == nil) != (acs != "") || api.calls != calls {
				t.Errorf("got %s, %v after %d calls, want %s after %d", got, err, api.calls, acs, calls)
			}
		}
		want("", 1)
		api.err = nil
		want("blue2", 2)
		want("blue2", 2)
		if got, err := e.TCS(t.Context()); got != "tarn" || err != nil {
			t.Errorf("got %s, %v", got, err)
		}
		later(t, 12*time.Hour)
		api.err = errors.New("down")
		want("blue2", 3) // an old answer is better than none
		api.err = nil
		want("blue4", 4)
	})
}

func later(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := health.NewBoard()
		board.Declare("acs", health.Agent, 0, time.Now())
		l := NewLink("acs", board)
		defer l.Close()
		want := func(s health.Status, reason string) {
			t.Helper()
			synctest.Wait()
			if p := board.Verdict(time.Now()).Parts[0]; p.Status != s || p.Reason != reason {
				t.Errorf("board has %s %q, want %s %q", p.Status, p.Reason, s, reason)
			}
		}
		want(health.Initializing, "")
		later(t, time.Minute)
		want(health.Impaired, "not connected yet")
		l.Connected(true, nil)
		want(health.OK, "")
		l.Connected(false, errors.New("closed"))
		later(t, 59*time.Second)
		want(health.OK, "") // it may come back soon
		l.Connected(true, nil)
		later(t, time.Hour)
		want(health.OK, "")
		l.Connected(false, errors.New("closed"))
		l.Connected(false, errors.New("no route to host"))
		later(t, time.Minute)
		want(health.Impaired, "no route to host")
		if up, since, why := l.Status(); up || time.Since(since) != time.Minute || why == nil {
			t.Errorf("link is %v since %v, because %v", up, time.Since(since), why)
		}
	})
}

// part is a Runner.
type part func(ctx context.Context) error

func (p part) Run(ctx context.Context) error { return p(ctx) }

func TestRun(t *testing.T) {
	waits := part(func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	broken := errors.New("broken")
	err := Run(t.Context(), waits, part(func(context.Context) error { return broken }), waits)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "control.part ended") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if err := Run(ctx, waits, waits); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

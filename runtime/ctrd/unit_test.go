package ctrd

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthd/berth/runtime/container"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		`failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ` +
			`unable to start container process: exec: "nope": executable file not found in $PATH: unknown`: `exec: "nope": executable file not found in $PATH`,
		`rpc error: code = Unknown desc = failed to delete: no such file or directory: unknown`: `failed to delete: no such file or directory`,
		`task abc: not found`:                 `task abc: not found`,
		`not found`:                           `not found`,
		`open /x: permission denied and more`: `open /x: permission denied and more`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q)\n  = %q\nwant %q", in, got, want)
		}
	}
}

// TestStatusOfCutStart: a task that ended without the mark of a start is none of
// the container's: it never ran, and has no exit.
func TestStatusOfCutStart(t *testing.T) {
	r := &Runtime{log: zap.NewNop()}
	p := &tasktypes.Process{ID: "c", ExitStatus: 1, Status: tasktypes.Status_STOPPED}
	if st := r.status(stored{}, p); st.Phase != container.Created || st.Exit != nil {
		t.Errorf("status %+v, want Created without an exit", st)
	}
}

func TestFail(t *testing.T) {
	r := &Runtime{cfg: Config{Address: "/run/c.sock"}}
	tests := []struct {
		name  string
		err   error
		kind  error
		retry bool
		words string
	}{
		{
			"Unavailable", native(status.Error(codes.Unavailable, "connection error: error while dialing")),
			container.ErrUnavailable, true, "cannot start it: containerd does not answer at /run/c.sock",
		},
		{
			"KilledAtHello", native(status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: connection reset by peer"`)),
			container.ErrUnavailable, true, "cannot start it: containerd does not answer at /run/c.sock",
		},
		{
			"Draining", native(status.Error(codes.Unavailable, "the connection is draining")),
			container.ErrUnavailable, true, "cannot start it: containerd does not answer at /run/c.sock",
		},
		{"LockedReference", native(status.Error(codes.Unavailable, "ref x locked for 1s")), errdefs.ErrUnavailable, false, "ref x locked for 1s"},
		{"NoSpace", &cause{words: "write", kinds: []error{syscall.ENOSPC}}, container.ErrNoSpace, false, "write"},
		{"NoSpaceInWords", errors.New("write /x: no space left on device"), container.ErrNoSpace, false, "write /x: no space left on device"},
		{"LateInWords", native(status.Error(codes.Unknown, "context deadline exceeded")), container.ErrTimeout, true, "cannot start it: containerd did not finish in time"},
		{"Late", native(status.Error(codes.DeadlineExceeded, "late")), container.ErrTimeout, true, "cannot start it: containerd did not finish in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := r.fail(t.Context(), container.KindStart, "start it", tt.err)
			if !errors.Is(err, tt.kind) || container.Retryable(err) != tt.retry || err.Error() != tt.words {
				t.Errorf("fail = %v (retryable %v), want %q that is %v", err, container.Retryable(err), tt.words, tt.kind)
			}
			if container.KindOf(err, "") != container.KindStart {
				t.Errorf("kind %q", container.KindOf(err, ""))
			}
		})
	}
	stop := errors.New("task stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := r.fail(ctx, container.KindStart, "start it", native(status.Error(codes.Canceled, "x"))); !errors.Is(err, stop) {
		t.Errorf("after its end, the context says %v, want its cause", err)
	}
}

func TestCgroupDir(t *testing.T) {
	for in, want := range map[string]string{
		"/ecs/a/b":                    "/ecs/a/b",
		"ecstasks-aa11.slice:berth:c": "/ecstasks.slice/ecstasks-aa11.slice/berth-c.scope",
		"system.slice:berth:c":        "/system.slice/berth-c.scope",
		"a-b-c.slice:berth:x":         "/a.slice/a-b.slice/a-b-c.slice/berth-x.scope",
	} {
		if got := cgroupDir(in); got != want {
			t.Errorf("cgroupDir(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"busybox":                  "docker.io/library/busybox:latest",
		"me/app:2":                 "docker.io/me/app:2",
		"127.0.0.1:5000/app":       "127.0.0.1:5000/app:latest",
		"r.test/a@" + someDigest:   "r.test/a@" + someDigest,
		"r.test/a:1@" + someDigest: "r.test/a@" + someDigest,
	} {
		got, err := normalise(in)
		if err != nil || got.String() != want {
			t.Errorf("normalise(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
	if _, err := normalise("a//b"); err == nil {
		t.Error("an invalid reference was taken")
	}
}

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestLoopback(t *testing.T) {
	for domain, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.9.9.9": true, "localhost:80": true, "localhost": true, "[::1]:5000": true,
		"docker.io": false, "10.0.0.1:5000": false, "localhost.example.com": false,
	} {
		if got := isLoopback(domain); got != want {
			t.Errorf("isLoopback(%q) = %v", domain, got)
		}
	}
}

func TestRedact(t *testing.T) {
	named, err := reference.ParseDockerRef("1.dkr.ecr.us-east-1.amazonaws.com/app:1")
	if err != nil {
		t.Fatal(err)
	}
	got := redact(`Get "https://prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com/a?X-Amz-Signature=s": EOF`, named)
	if want := `Get "REDACTED ECR URL related to 1.dkr.ecr.us-east-1.amazonaws.com/app:1": EOF`; got != want {
		t.Errorf("redact = %q, want %q", got, want)
	}
	if got := redact(`Get "https://mirror.test/blob?token=abc": EOF`, named); strings.Contains(got, "abc") {
		t.Errorf("redact left a token: %q", got)
	}
}

// TestGuard: only a network that is being read counts as inactive.
func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTracker(ocispec.Descriptor{})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.guard(ctx, time.Minute, cancel)
		}()
		time.Sleep(time.Hour) // unpacking: nothing is read
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatal("a fetch was given up while nothing was being read")
		}
		r := &watched{ReadCloser: io.NopCloser(strings.NewReader("xxxxx")), t: w, d: digest.FromString("x")}
		w.opened()
		for range 5 {
			time.Sleep(50 * time.Second)
			if _, err := r.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatal("a slow fetch was given up")
		}
		time.Sleep(2 * time.Minute)
		<-done
		if !errors.Is(context.Cause(ctx), errInactive) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}

// TestGuardNotBegun: where the host is more patient than the first byte may be
// late, that is what is said.
func TestGuardNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTracker(ocispec.Descriptor{})
		w.opened()
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := time.Now()
		w.guard(ctx, beginPatience, cancel)
		err := context.Cause(ctx)
		if !errors.Is(err, errNotBegun) || err.Error() != "Could not transition to pullBegin; timed out after waiting 5m0s" ||
			time.Since(begun) != beginPatience || container.KindOf(err, "") != container.KindTimeout {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			how   perseverance
			tries int
			took  time.Duration // in all, give or take a tenth
		}{
			{"asking", asking, 9, (10+30+90+270+810+2430)*time.Millisecond + 2*5*time.Second},
			{"fetching", fetching, 5, (1100 + 2200 + 4400 + 5000) * time.Millisecond},
		} {
			count, begun := 0, time.Now()
			err := retry(t.Context(), c.how, func() error { count++; return errors.New("connection reset") })
			took := time.Since(begun)
			if err == nil || count != c.tries || took < c.took*9/10 || took > c.took*11/10 {
				t.Errorf("%s: %d tries in %s, %v; want %d in about %s", c.name, count, took, err, c.tries, c.took)
			}
			count = 0
			if err := retry(t.Context(), c.how, func() error { count++; return context.Canceled }); err == nil || count != 1 {
				t.Errorf("%s: %d tries of what cannot be mended, %v", c.name, count, err)
			}
		}
	})
}

func TestKeyed(t *testing.T) {
	k := newKeyed()
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := k.lock(ctx, "a"); !errors.Is(err, stop) {
		t.Errorf("lock of what is held = %v, want the cause", err)
	}
	unlock()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are left", len(k.locks))
	}
}

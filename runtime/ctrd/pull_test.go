package ctrd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/runtime/await"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// pulls is what the tests of pulling share: one containerd, and a namespace
// for each test.
type pulls struct {
	suite

	registry *runtimetest.Registry
}

func TestPull(t *testing.T) {
	p := &pulls{registry: runtimetest.Images(t)}
	p.address = runtimetest.StartContainerd(t)
	p.state = stateDir(t)
	tests := []struct {
		name string
		run  func(*testing.T, *pulls, *ctrd.Runtime)
	}{
		{"Once", testPullOnce},
		{"CachedCostsNothing", testPullCachedCostsNothing},
		{"Retry", testPullRetry},
		{"NoRetry", testPullNoRetry},
		{"Resume", testPullResume},
		{"LastOneLeaves", testPullLastOneLeaves},
		{"Inactive", testPullInactive},
		{"ResolveTimeout", testPullResolveTimeout},
		{"Auth", testPullAuth},
		{"Redacted", testPullRedacted},
		{"TagMoves", testPullTagMoves},
		{"Images", testImages},
		{"Digest", testPullDigest},
		{"Never", testPullNever},
		{"Room", testPullRoom},
		{"Space", testSpace},
		{"Schema1", testPullSchema1},
		{"RemoveUnused", testRemoveUnused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rt := open(t, p.config(t, fmt.Sprintf("pull-%d", p.count.Add(1))))
			p.registry.Forget()
			t.Cleanup(func() { p.registry.Hook(nil) })
			tt.run(t, p, rt)
		})
	}
}

// push makes an image whose second layer no other test has: blobs are shared
// between containerd's namespaces.
func (p *pulls) push(t *testing.T, name string, size int) string {
	t.Helper()
	return p.registry.Push(name, v1.Config{Cmd: []string{"sh"}}, map[string]string{
		"/payload": noise(t.Name(), size),
	})
}

// noise is text that does not compress.
func noise(seed string, size int) string {
	var b strings.Builder
	state := uint64(14695981039346656037)
	for _, c := range seed {
		state = (state ^ uint64(c)) * 1099511628211
	}
	for b.Len() < size {
		state = state*6364136223846793005 + 1442695040888963407
		b.WriteByte(byte(state >> 56))
	}
	return b.String()
}

func blobs(requests []string) (out []string) {
	for _, r := range requests {
		if strings.HasPrefix(r, "GET ") && strings.Contains(r, "/blobs/") {
			out = append(out, r)
		}
	}
	return out
}

func testPullOnce(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "once:1", 1<<20)
	p.registry.Forget()
	release := make(chan struct{})
	p.registry.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-release
		}
		return false
	})
	var wg sync.WaitGroup
	var joined atomic.Int64
	for range 4 {
		wg.Go(func() {
			var once sync.Once
			_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, func(pr container.Progress) {
				if pr.Stage == "fetching" {
					once.Do(func() {
						if joined.Add(1) == 4 {
							close(release)
						}
					})
				}
			})
			if err != nil {
				t.Errorf("Pull: %v", err)
			}
		})
	}
	wg.Wait()
	got := blobs(p.registry.Requests())
	slices.Sort(got)
	if len(got) != len(slices.Compact(slices.Clone(got))) {
		t.Errorf("a blob was fetched twice: %q", got)
	}
}

func testPullCachedCostsNothing(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "cached:1", 1000)
	first, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.registry.Forget()
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	if got := p.registry.Requests(); len(got) != 1 || !strings.HasPrefix(got[0], "HEAD ") {
		t.Errorf("a pull of what is here asked %q, want one HEAD", got)
	}
	p.registry.Forget()
	pinned := ref[:strings.LastIndex(ref, ":")] + "@" + first.Digest
	for _, req := range []container.PullRequest{
		{Ref: pinned, Policy: container.PullAlways},
		{Ref: ref, Policy: container.PullPreferCached},
		{Ref: ref, Policy: container.PullOnce},
	} {
		if _, err := rt.Pull(t.Context(), req, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.registry.Requests(); len(got) != 0 {
		t.Errorf("the registry was asked %q, want nothing", got)
	}
}

// failing answers the first n requests for a path with a status.
func failing(n int64, path string, status int) (func(http.ResponseWriter, *http.Request) bool, *atomic.Int64) {
	var count atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, path) || count.Add(1) > n {
			return false
		}
		w.WriteHeader(status)
		return true
	}, &count
}

func testPullRetry(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	for _, path := range []string{"/manifests/", "/blobs/"} {
		ref := p.push(t, "retry:1", 1000+len(path))
		hook, count := failing(2, path, http.StatusBadGateway)
		p.registry.Hook(hook)
		if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
			t.Errorf("Pull with two failures of %s: %v", path, err)
		}
		if count.Load() <= 2 {
			t.Errorf("%s was asked for %d times only", path, count.Load())
		}
		p.registry.Hook(nil)
	}
}

func testPullNoRetry(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "denied:1", 1000)
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		hook, _ := failing(1000, "/v2/", status)
		p.registry.Forget()
		p.registry.Hook(hook)
		_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
		if err == nil || container.Retryable(err) || container.KindOf(err, "") != container.KindManifest {
			t.Errorf("Pull with status %d = %v", status, err)
		}
		if got := len(p.registry.Requests()); got > 4 {
			t.Errorf("status %d was asked for %d times", status, got)
		}
	}
}

// testPullResume: a fetch that breaks off goes on where it was.
func testPullResume(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	const size = 12 << 20
	ref := p.push(t, "resume:1", size)
	var broken, ranged atomic.Int64
	p.registry.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if r.Header.Get("Range") != "" && r.Header.Get("Range") != "bytes=0-" {
			ranged.Add(1)
			whole := httptest.NewRecorder() // the test's registry knows no open range
			req := r.Clone(r.Context())
			req.Header.Del("Range")
			p.registry.Serve(whole, req)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
			return true
		}
		if broken.Add(1) > 3 {
			return false
		}
		// Half of the blob, then the connection ends.
		half := &halfWriter{ResponseWriter: w, left: size / 2}
		p.registry.Serve(half, r)
		if half.left <= 0 {
			panic(http.ErrAbortHandler)
		}
		return true
	})
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	if ranged.Load() == 0 {
		t.Error("nothing was resumed: no request had a Range")
	}
}

// halfWriter lets so many bytes of a body pass.
type halfWriter struct {
	http.ResponseWriter

	left int
}

func (w *halfWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		b = b[:max(w.left, 0)]
	}
	n, err := w.ResponseWriter.Write(b)
	w.left -= n
	if err == nil && w.left <= 0 {
		err = io.ErrShortWrite
	}
	return n, err
}

func testPullLastOneLeaves(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "leave:1", 1000)
	begun, ended := make(chan struct{}, 16), make(chan struct{}, 16)
	p.registry.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
		return true
	})
	stopped := errors.New("task stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		cancel(stopped)
	}()
	if _, err := rt.Pull(ctx, container.PullRequest{Ref: ref}, nil); !errors.Is(err, stopped) {
		t.Errorf("Pull = %v, want the cause", err)
	}
	<-ended // the request was taken back
	p.registry.Hook(nil)
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Errorf("Pull after a cancelled one: %v", err)
	}
}

func testPullInactive(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "inactive:1", 1000)
	p.registry.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-r.Context().Done()
			return true
		}
		return false
	})
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref, InactivityTimeout: 100 * time.Millisecond}, nil)
	if err == nil || err.Error() != "inactivity time exceeded timeout while pulling image" {
		t.Errorf("Pull that does not move = %v", err)
	}
	if container.KindOf(err, "") != container.KindPull || !container.Retryable(err) {
		t.Errorf("kind %q, retryable %v", container.KindOf(err, ""), container.Retryable(err))
	}
}

func testPullResolveTimeout(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "late:1", 1000)
	p.registry.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref, ResolveTimeout: 100 * time.Millisecond}, nil)
	if !errors.Is(err, container.ErrTimeout) || container.KindOf(err, "") != container.KindTimeout ||
		err.Error() != "Could not transition to MANIFEST_PULLED; timed out after waiting 100ms" {
		t.Errorf("Pull = %v of kind %q, want a timeout", err, container.KindOf(err, ""))
	}
}

func testPullAuth(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "auth:1", 1000)
	p.registry.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if user, pass, _ := r.BasicAuth(); user == "AWS" && pass == "s3cret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err == nil || container.Retryable(err) {
		t.Errorf("anonymous Pull = %v", err)
	}
	_, err = rt.Pull(t.Context(), container.PullRequest{Ref: ref, Auth: given("wrong")}, nil)
	if err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("Pull with a wrong password = %v", err)
	}
	_, err = rt.Pull(t.Context(), container.PullRequest{Ref: ref, Auth: given("s3cret")}, nil)
	if err != nil {
		t.Errorf("Pull with the password: %v", err)
	}
}

func testPullRedacted(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "redacted:1", 1000)
	p.registry.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied",`+
				`"detail":"https://prod-us-east-1-starport-layer-bucket.s3.amazonaws.com/x?X-Amz-Signature=abc"}]}`)
			return true
		}
		return false
	})
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err == nil || strings.Contains(err.Error(), "Signature") || strings.Contains(err.Error(), "starport") {
		t.Errorf("Pull = %v, want no signed address in it", err)
	}
	if want := "The task can’t pull the image. Check whether the image exists. "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Pull = %v, want it to begin with %q", err, want)
	}
}

// testPullTagMoves: a container is created from what was pulled for it, though
// the tag means something else by then.
func testPullTagMoves(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	var digests []string
	var ref string
	for i := range 2 {
		ref = p.registry.Push("moving:1", v1.Config{Cmd: []string{"sh", "-c", "exit " + strconv.Itoa(i+20)}}, nil)
		img, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, img.Digest)
	}
	if digests[0] == digests[1] {
		t.Fatal("the tag did not move")
	}
	for i, digest := range digests {
		id := fmt.Sprintf("moves-%d-%d", time.Now().UnixNano(), i)
		t.Cleanup(func() { remove(t, rt, id) })
		if err := rt.Create(t.Context(), container.Spec{ID: id, Image: ref, Digest: digest}); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if st := awaitStopped(t, rt, id); st.Exit.Code != i+20 {
			t.Errorf("container of digest %d exited with %d", i, st.Exit.Code)
		}
	}
}

func testImages(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "listed:1", 1000)
	img, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := rt.Images(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("Images = %+v, %v; want one", all, err)
	}
	if got := all[0]; got.Ref != ref || got.Digest != img.Digest || !got.Pulled || len(got.Names) != 2 || !got.UsedAt.IsZero() {
		t.Errorf("Images = %+v, want %s, pulled and not used, by tag and digest", got, ref)
	}
	id := fmt.Sprintf("uses-%d", time.Now().UnixNano())
	t.Cleanup(func() { remove(t, rt, id) })
	if err := rt.Create(t.Context(), container.Spec{ID: id, Image: ref}); err != nil {
		t.Fatal(err)
	}
	if all, err = rt.Images(t.Context()); err != nil || all[0].UsedAt.IsZero() {
		t.Errorf("Images = %+v, %v; want UsedAt", all, err)
	}
	for range 2 {
		if err := rt.RemoveImage(t.Context(), ref); err != nil {
			t.Fatalf("RemoveImage: %v", err)
		}
	}
	if all, err = rt.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Images after RemoveImage = %+v, %v", all, err)
	}
	if _, err := rt.Start(t.Context(), id); err != nil {
		t.Errorf("Start of a container whose image is gone: %v", err)
	}
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Errorf("Pull after RemoveImage: %v", err)
	}
}

func remove(t *testing.T, rt *ctrd.Runtime, id string) {
	t.Helper()
	if err := rt.Remove(context.WithoutCancel(t.Context()), id); err != nil {
		t.Errorf("Remove(%s): %v", id, err)
	}
}

// awaitStopped polls until the container has stopped.
func awaitStopped(t *testing.T, rt *ctrd.Runtime, id string) container.Status {
	t.Helper()
	return become(t, rt, id, func(st container.Status) bool { return st.Phase == container.Stopped })
}

// become polls until the container is as wanted.
func become(t *testing.T, rt *ctrd.Runtime, id string, ok func(container.Status) bool) (st container.Status) {
	t.Helper()
	await.Nil(t, "container "+id, func() error {
		all, err := rt.List(t.Context(), id)
		switch {
		case errors.Is(err, container.ErrUnavailable):
			return err
		case err != nil:
			t.Fatal(err)
		case len(all) == 1 && ok(all[0]):
			st = all[0]
			return nil
		}
		return fmt.Errorf("it is %+v", all)
	})
	return st
}

// given are credentials as a task's resources give them.
func given(password string) func(context.Context) (*container.Auth, error) {
	return func(context.Context) (*container.Auth, error) {
		return &container.Auth{Username: "AWS", Password: password}, nil
	}
}

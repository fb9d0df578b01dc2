package ctrd_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// testPullDigest: an image is had again by the digest that its tag was found to
// mean, though the tag means another by now.
func testPullDigest(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "digest:1", 1000)
	first, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err != nil || !first.Known || !first.FromRegistry {
		t.Fatalf("Pull = %+v, %v", first, err)
	}
	p.registry.Push("digest:1", v1.Config{Cmd: []string{"true"}}, map[string]string{"/payload": "moved"})
	second, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err != nil || second.Digest == first.Digest {
		t.Fatalf("the tag did not move: %+v, %v", second, err)
	}
	p.registry.Forget()
	got, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref, Digest: first.Digest, Policy: container.PullPreferCached}, nil)
	if err != nil || got.Digest != first.Digest || got.FromRegistry || !got.Known || len(p.registry.Requests()) != 0 {
		t.Errorf("from the host: %+v, %v, asking %q", got, err, p.registry.Requests())
	}
	names := []string{ref, strings.TrimSuffix(ref, ":1") + "@" + first.Digest, strings.TrimSuffix(ref, ":1") + "@" + second.Digest}
	if ok, err := rt.RemoveUnused(t.Context(), names, func() bool { return false }); err != nil || !ok {
		t.Fatalf("RemoveUnused = %v, %v", ok, err)
	}
	got, err = rt.Pull(t.Context(), container.PullRequest{Ref: ref, Digest: first.Digest, Policy: container.PullPreferCached}, nil)
	if err != nil || got.Digest != first.Digest {
		t.Errorf("from the registry: %+v, %v", got, err)
	}
}

func testPullNever(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "never:1", 1000)
	p.registry.Forget()
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref, Policy: container.PullNever}, nil)
	if !errors.Is(err, container.ErrNotFound) || !strings.HasPrefix(err.Error(), "No such image: "+ref) {
		t.Errorf("Pull = %v", err)
	}
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	p.registry.Forget()
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref, Policy: container.PullNever}, nil); err != nil {
		t.Errorf("Pull of what is here: %v", err)
	}
	if got := p.registry.Requests(); len(got) != 0 {
		t.Errorf("the registry was asked %q", got)
	}
}

// testPullRoom: what does not fit asks for room, and is refused with numbers when
// there is none, before a layer is fetched.
func testPullRoom(t *testing.T, p *pulls, _ *ctrd.Runtime) {
	const size = 4 << 20
	ref := p.push(t, "room:1", size)
	var free atomic.Uint64
	cfg := p.config(t, "room")
	cfg.Space = func(string) (uint64, uint64, error) { return free.Load(), 100 << 20, nil }
	rt := open(t, cfg)
	free.Store(1 << 20)
	p.registry.Forget()
	var asked int64
	req := container.PullRequest{Ref: ref, MakeRoom: func(_ context.Context, bytes int64) { asked = bytes }}
	_, err := rt.Pull(t.Context(), req, nil)
	if !errors.Is(err, container.ErrNoSpace) || container.KindOf(err, "") != container.KindPull ||
		!strings.Contains(err.Error(), "needs about") || !strings.Contains(err.Error(), "(1 of 100 MiB free where containerd keeps images)") {
		t.Errorf("Pull = %v", err)
	}
	// The layers compressed and unpacked.
	if asked < 2*size || asked > 2*size+8<<20 {
		t.Errorf("asked for %d bytes", asked)
	}
	if got := blobs(p.registry.Requests()); len(got) > 0 {
		t.Errorf("%q was fetched", got)
	}
	req.MakeRoom = func(context.Context, int64) { free.Store(100 << 20) }
	if _, err := rt.Pull(t.Context(), req, nil); err != nil {
		t.Errorf("Pull after room was made: %v", err)
	}
}

func testPullSchema1(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	p.registry.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("ab", 32))
		w.Header().Set("Content-Length", "100")
		return true
	})
	var seen []container.Progress
	_, err := rt.Pull(t.Context(), container.PullRequest{Ref: p.registry.Host + "/old:1"}, func(pr container.Progress) { seen = append(seen, pr) })
	if err == nil || !strings.Contains(err.Error(), "first manifest format") || container.KindOf(err, "") != container.KindPull {
		t.Errorf("Pull = %v", err)
	}
	if slices.ContainsFunc(seen, func(pr container.Progress) bool { return pr.Digest != "" }) {
		t.Errorf("a digest was told: %+v", seen)
	}
}

// testSpace: containerd itself says where it keeps images.
func testSpace(t *testing.T, p *pulls, _ *ctrd.Runtime) {
	cfg := p.config(t, "space")
	cfg.ContentDir = ""
	var asked []string
	cfg.Space = func(dir string) (uint64, uint64, error) {
		asked = append(asked, dir)
		if strings.Contains(dir, "snapshotter") {
			return 1, 2, nil
		}
		return 3, 4, nil
	}
	free, total, err := open(t, cfg).Space(t.Context())
	if err != nil || free != 1 || total != 2 || len(asked) != 2 {
		t.Errorf("Space = %d of %d, %v, having looked at %q; want the disk that has less", free, total, err, asked)
	}
	for _, dir := range asked {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() || !strings.Contains(dir, t.Name()[:4]) {
			t.Errorf("%s is not containerd's: %v", dir, err)
		}
	}
}

// testRemoveUnused: nothing is removed that is in use or being pulled.
func testRemoveUnused(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	ref := p.push(t, "unused:1", 1000)
	img, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := rt.Images(t.Context())
	if err != nil || len(all) != 1 || !all[0].Tracked() || all[0].Protected {
		t.Fatalf("Images = %+v, %v", all, err)
	}
	pulledAt := all[0].PulledAt
	if ok, err := rt.RemoveUnused(t.Context(), all[0].Names, func() bool { return true }); ok || err != nil {
		t.Errorf("what is in use: %v, %v", ok, err)
	}
	if rt.Normalise("nginx") != "docker.io/library/nginx:latest" || rt.Normalise("no such!") != "no such!" {
		t.Error("Normalise does not complete a reference as Docker does")
	}

	asked, release := make(chan struct{}), make(chan struct{})
	p.registry.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			close(asked)
			<-release
		}
		return false
	})
	done := make(chan error, 1)
	go func() {
		_, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
		done <- err
	}()
	<-asked
	if ok, err := rt.RemoveUnused(t.Context(), all[0].Names, func() bool { t.Error("asked though it is being pulled"); return false }); ok || err != nil {
		t.Errorf("what is being pulled: %v, %v", ok, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p.registry.Hook(nil)
	if all, err = rt.Images(t.Context()); err != nil || len(all) != 1 || !all[0].PulledAt.Equal(pulledAt) {
		t.Errorf("a second pull changed the time of the first, %s: %+v, %v", pulledAt, all, err)
	}

	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := rt.MarkUsed(t.Context(), ref, at); err != nil {
		t.Fatal(err)
	}
	if err := rt.MarkUsed(t.Context(), ref+"-absent", at); err != nil {
		t.Errorf("MarkUsed of an absent image: %v", err)
	}
	again := open(t, rt.Config())
	if all, err = again.Images(t.Context()); err != nil || len(all) != 1 || !all[0].UsedAt.Equal(at) {
		t.Errorf("after a restart: %+v, %v; want used at %s", all, err, at)
	}
	if ok, err := rt.RemoveUnused(t.Context(), all[0].Names, func() bool { return false }); !ok || err != nil {
		t.Errorf("what nobody uses: %v, %v", ok, err)
	}
	if all, err = rt.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Images after it = %+v, %v", all, err)
	}
	if got, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil || got.Digest != img.Digest {
		t.Errorf("Pull after it = %+v, %v", got, err)
	}
}

// TestStrangers: containers that somebody else made in our namespace are seen, left
// alone by List, and removed when they have ended.
func TestStrangers(t *testing.T) {
	ctr, err := exec.LookPath("ctr")
	if err != nil {
		t.Skipf("needs ctr, which comes with containerd: %v", err)
	}
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "strangers")
	rt := open(t, cfg)
	if err := pullErr(t.Context(), rt, registry.Busybox); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		args = append([]string{"--address", daemon.Address, "--namespace", cfg.Namespace}, args...)
		if out, err := exec.CommandContext(t.Context(), ctr, args...).CombinedOutput(); err != nil {
			t.Fatalf("ctr %q: %v\n%s", args, err, out)
		}
	}
	began := time.Now()
	run("container", "create", registry.Busybox, "idle", "true")
	run("run", "--detach", registry.Busybox, "busy", "sleep", "3600")
	run("run", "--detach", registry.Busybox, "over", "true")
	t.Cleanup(func() { remove(t, rt, "ours") })
	if err := rt.Create(t.Context(), container.Spec{ID: "ours", Image: registry.Busybox}); err != nil {
		t.Fatal(err)
	}
	look := func() map[string]container.Stranger {
		t.Helper()
		all, err := rt.Strangers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]container.Stranger{}
		for _, stranger := range all {
			found[stranger.ID] = stranger
		}
		return found
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for look()["over"].Running {
		<-tick.C
	}
	found := look()
	for id, running := range map[string]bool{"idle": false, "busy": true, "over": false} {
		got := found[id]
		if got.ID == "" || got.Running != running || got.Image != registry.Busybox || got.EndedAt.IsZero() != running || !running && got.EndedAt.Before(began.Add(-time.Second)) {
			t.Errorf("%s is seen as %+v", id, got)
		}
	}
	if len(found) != 3 {
		t.Errorf("strangers: %+v", found)
	}
	if all, err := rt.List(t.Context()); err != nil || len(all) != 1 || all[0].ID != "ours" {
		t.Errorf("List = %+v, %v; want ours alone", all, err)
	}
	for _, id := range []string{"idle", "over", "absent"} {
		if err := rt.RemoveStranger(t.Context(), id); err != nil {
			t.Errorf("RemoveStranger(%s): %v", id, err)
		}
	}
	for _, id := range []string{"busy", "ours"} {
		if err := rt.RemoveStranger(t.Context(), id); err == nil {
			t.Errorf("RemoveStranger(%s) did what it must not", id)
		}
	}
	if found = look(); len(found) != 1 || !found["busy"].Running {
		t.Errorf("strangers after it: %+v", found)
	}
	run("task", "kill", "--signal", "9", "busy")
	for look()["busy"].Running {
		<-tick.C
	}
	if err := rt.RemoveStranger(t.Context(), "busy"); err != nil {
		t.Error(err)
	}
}

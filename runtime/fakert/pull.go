package fakert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berthd/berth/runtime/container"
)

const (
	defaultSize    = 1 << 20
	defaultTimeout = time.Minute
	steps          = 10 // of progress in one pull
)

// errLeft is why a fetch that nobody waits for any more ends.
var errLeft = errors.New("every caller left")

// flight is one fetch that any number of callers wait for.
type flight struct {
	callers int // guarded by Runtime.mu
	cancel  context.CancelCauseFunc
	done    chan struct{}
	err     error // set before done is closed
}

// Pull implements container.Runtime.
func (r *Runtime) Pull(ctx context.Context, req container.PullRequest, progress func(container.Progress)) (container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Image{}, err
	}
	if progress == nil {
		progress = func(container.Progress) {}
	}
	ref := normalise(req.Ref)
	r.mu.Lock()
	r.calls = append(r.calls, "pull "+req.Ref)
	broken := r.broken
	image, cached := r.images[ref]
	r.mu.Unlock()
	if broken {
		return container.Image{}, errBroken()
	}
	cached = cached && (req.Digest == "" || req.Digest == image.Digest)
	if cached && (req.Policy == container.PullOnce || req.Policy == container.PullPreferCached || req.Policy == container.PullNever) {
		image.FromRegistry = false
		progress(container.Progress{Ref: ref, Stage: "done", Digest: image.Digest})
		return image, nil
	}
	if req.Policy == container.PullNever {
		return container.Image{}, container.Errorf(container.KindPull, "No such image: %s: %w", req.Ref, container.ErrNotFound)
	}
	var script Image
	if r.cfg.Image != nil {
		script = r.cfg.Image(req)
	}
	digest, err := resolve(ctx, req, ref, script, progress)
	if err != nil {
		return container.Image{}, err
	}
	if !r.hasDigest(digest) {
		if err := r.fetch(ctx, req, digest, script, progress); err != nil {
			return container.Image{}, err
		}
	}
	image = script.Config
	image.Ref, image.Digest, image.FromRegistry = ref, digest, !strings.Contains(req.Ref, "@") && req.Digest == ""
	image.Known = true
	image.ConfigDigest, image.Size = digestOf("config "+digest), size(script)
	image.PulledAt = time.Now()
	r.mu.Lock()
	r.images[ref] = image
	r.mu.Unlock()
	progress(container.Progress{Ref: ref, Stage: "done", Digest: digest, Fetched: image.Size, Total: image.Size})
	return image, nil
}

// Forget drops an image, as an operator or image cleanup would.
func (r *Runtime) Forget(ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.images, normalise(ref))
}

func resolve(ctx context.Context, req container.PullRequest, ref string, script Image, progress func(container.Progress)) (string, error) {
	progress(container.Progress{Ref: ref, Stage: "resolving"})
	if req.Auth != nil { // This registry lets everybody in, but asks who it is.
		if _, err := req.Auth(ctx); err != nil {
			return "", err
		}
	}
	timeout := req.ResolveTimeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	if script.ResolveDelay > timeout {
		if err := wait(ctx, timeout); err != nil {
			return "", err
		}
		return "", &container.Error{
			Kind: container.KindTimeout, Retry: true,
			Err: fmt.Errorf("Could not transition to MANIFEST_PULLED; timed out after waiting %s: %w", timeout, container.ErrTimeout), //nolint:staticcheck // spec/task-engine.md §7.2
		}
	}
	if err := wait(ctx, script.ResolveDelay); err != nil {
		return "", err
	}
	if req.Digest != "" {
		return req.Digest, nil
	}
	if script.ResolveErr != nil {
		return "", withKind(container.KindManifest, script.ResolveErr)
	}
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		return digest, nil
	}
	if script.Digest != "" {
		return script.Digest, nil
	}
	return digestOf(ref), nil
}

// fetch joins the flight of digest, or begins it.
func (r *Runtime) fetch(ctx context.Context, req container.PullRequest, digest string, script Image, progress func(container.Progress)) error {
	r.mu.Lock()
	f, ok := r.flights[digest]
	if !ok {
		// The fetch outlives the caller that began it; the last one to leave
		// cancels it.
		fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, done: make(chan struct{})}
		r.flights[digest] = f
		r.fetches[digest]++
		go r.fly(fctx, f, digest, script)
	}
	f.callers++
	r.mu.Unlock()

	tick := time.NewTicker(max(script.PullDelay/steps, time.Millisecond))
	defer tick.Stop()
	total, begun := size(script), time.Now()
	for {
		p := container.Progress{Ref: normalise(req.Ref), Stage: "fetching", Digest: digest, Total: total}
		if script.PullDelay > 0 {
			p.Fetched = min(total, int64(float64(total)*float64(time.Since(begun))/float64(script.PullDelay)))
		}
		progress(p)
		select {
		case <-f.done:
			if f.err != nil {
				return withKind(container.KindPull, f.err)
			}
			return nil
		case <-ctx.Done():
			r.leave(f, digest)
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (r *Runtime) fly(ctx context.Context, f *flight, digest string, script Image) {
	err := wait(ctx, script.PullDelay)
	if err == nil {
		err = script.PullErr
	}
	r.mu.Lock()
	if r.flights[digest] == f {
		delete(r.flights, digest)
	}
	r.mu.Unlock()
	f.err = err
	f.cancel(nil)
	close(f.done)
}

func (r *Runtime) leave(f *flight, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.callers--
	if f.callers == 0 {
		if r.flights[digest] == f {
			delete(r.flights, digest)
		}
		f.cancel(errLeft)
	}
}

func (r *Runtime) has(ref string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.images[normalise(ref)]
	return ok
}

func (r *Runtime) hasDigest(digest string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, image := range r.images {
		if image.Digest == digest {
			return true
		}
	}
	return false
}

// normalise gives a reference its tag. Unlike containerd it leaves the registry
// out: nothing here is looked up anywhere.
func normalise(ref string) string {
	if strings.Contains(ref, "@") {
		return ref
	}
	if strings.LastIndexByte(ref, ':') > strings.LastIndexByte(ref, '/') {
		return ref
	}
	return ref + ":latest"
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func size(script Image) int64 {
	if script.Size == 0 {
		return defaultSize
	}
	return script.Size
}

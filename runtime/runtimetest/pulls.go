package runtimetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/berthd/berth/runtime/container"
)

func testPull(t *testing.T, b *bench) {
	var seen []container.Progress
	img, err := b.Pull(t.Context(), container.PullRequest{Ref: b.h.Image, Policy: container.PullDefault},
		func(p container.Progress) { seen = append(seen, p) })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(img.Digest, "sha256:") || !strings.HasPrefix(img.ConfigDigest, "sha256:") {
		t.Errorf("Digest %q, ConfigDigest %q; want digests", img.Digest, img.ConfigDigest)
	}
	if !img.FromRegistry || img.Size <= 0 || img.PulledAt.IsZero() || !strings.Contains(img.Ref, ":") {
		t.Errorf("Pull = %+v, want FromRegistry, Size, PulledAt and a reference with its tag", img)
	}
	if len(seen) < 2 {
		t.Fatalf("progress %+v, want at least two reports", seen)
	}
	first, last := seen[0], seen[len(seen)-1]
	if first.Stage != "resolving" || last.Stage != "done" || last.Digest != img.Digest || last.Ref != img.Ref {
		t.Errorf("progress from %+v to %+v, want resolving to done with the image's Ref and Digest", first, last)
	}
	again, err := b.Pull(t.Context(), container.PullRequest{Ref: b.h.Image, Policy: container.PullAlways}, nil)
	if err != nil || again.Digest != img.Digest || !again.FromRegistry {
		t.Errorf("second Pull = %+v, %v; want the same digest from the registry", again, err)
	}
	pinned := b.h.Image[:strings.LastIndex(b.h.Image, ":")] + "@" + img.Digest
	byDigest, err := b.Pull(t.Context(), container.PullRequest{Ref: pinned}, nil)
	if err != nil || byDigest.Digest != img.Digest || byDigest.FromRegistry {
		t.Errorf("Pull by digest = %+v, %v; want the same image without a question to the registry", byDigest, err)
	}
}

func testPullMissing(t *testing.T, b *bench) {
	_, err := b.Pull(t.Context(), container.PullRequest{Ref: b.h.Missing}, nil)
	wantErr(t, "Pull of an absent image", err, container.ErrNotFound)
	if kind := container.KindOf(err, ""); kind != container.KindManifest {
		t.Errorf("kind = %q, want %q", kind, container.KindManifest)
	}
	if container.Retryable(err) {
		t.Errorf("%v is said to be worth a retry", err)
	}
}

func testPullTogether(t *testing.T, b *bench) {
	const callers = 5
	images := make([]container.Image, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			img, err := b.Pull(t.Context(), container.PullRequest{Ref: b.h.Image}, func(container.Progress) {})
			if err != nil {
				t.Errorf("Pull: %v", err)
			}
			images[i] = img
		})
	}
	wg.Wait()
	for _, img := range images {
		if img.Digest == "" || img.Digest != images[0].Digest {
			t.Errorf("digests differ: %q and %q", img.Digest, images[0].Digest)
		}
	}
}

func testPullCancelled(t *testing.T, b *bench) {
	stop := errors.New("task stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	_, err := b.Pull(ctx, container.PullRequest{Ref: b.h.Image}, nil)
	wantErr(t, "Pull with an ended context", err, stop)
}

func testPullCached(t *testing.T, b *bench) {
	first := b.pull(t, b.h.Image)
	if !first.FromRegistry {
		t.Errorf("first Pull = %+v, want it from the registry", first)
	}
	for _, policy := range []container.PullPolicy{container.PullPreferCached, container.PullOnce} {
		img, err := b.Pull(t.Context(), container.PullRequest{Ref: b.h.Image, Policy: policy}, nil)
		if err != nil || img.FromRegistry || img.Digest != first.Digest || img.ConfigDigest != first.ConfigDigest {
			t.Errorf("Pull with policy %s = %+v, %v; want the cached image %s", policy, img, err, first.Digest)
		}
	}
}

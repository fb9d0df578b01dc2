package ctrd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
	"github.com/berthd/berth/runtime/runtimetest"
)

// What is baked is what its digests say, on the disk and not only in passing.
func TestBake(t *testing.T) {
	p := &pulls{registry: runtimetest.Images(t)}
	daemon := runtimetest.NewContainerd(t, "containerd")
	daemon.Start()
	p.address, p.state = daemon.Address, stateDir(t)
	rt := open(t, p.config(t, "bake"))

	t.Run("pulled", func(t *testing.T) {
		ref := p.push(t, "baked:1", 1<<20)
		img, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Manifest, configuration and two layers.
		v, err := rt.Verify(t.Context(), ref)
		if err != nil || v.Ref != ref || v.Digest != img.Digest || v.Blobs != 4 || v.Bytes <= img.Size {
			t.Fatalf("Verify = %+v, %v", v, err)
		}
		if err := rt.Protect(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if got := record(t, rt, ref); !got.Protected || !got.Pulled || len(got.Names) != 2 {
			t.Errorf("it is %+v", got)
		}
		// A pull by a task keeps the mark, also where the tag has moved and is what it was again.
		if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil || !record(t, rt, ref).Protected {
			t.Errorf("a pull takes the mark away (%v)", err)
		}
	})

	t.Run("damaged", func(t *testing.T) {
		ref := p.push(t, "damaged:1", 1<<20)
		if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
			t.Fatal(err)
		}
		layer := lastLayer(t, ref)
		blob := filepath.Join(contentDir(t, daemon), strings.TrimPrefix(layer, "sha256:"))
		text, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"one bit": append([]byte{text[0] ^ 1}, text[1:]...), "cut": text[:len(text)-1]} {
			if err := os.WriteFile(blob, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if v, err := rt.Verify(t.Context(), ref); err == nil || !strings.Contains(err.Error(), layer) || v.Blobs != 0 {
				t.Errorf("%s: Verify = %+v, %v, and not a word of %s", name, v, err, layer)
			}
		}
		if err := os.WriteFile(blob, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Verify(t.Context(), ref); err != nil {
			t.Errorf("whole again: %v", err)
		}
	})

	t.Run("by tag and digest", func(t *testing.T) {
		ref := p.push(t, "pinned:1", 1000)
		first, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.registry.Push("pinned:1", v1.Config{Cmd: []string{"true"}}, map[string]string{"/payload": "moved"})
		tagged, digest := ctrd.Pinned(ref + "@" + first.Digest)
		got, err := rt.Pull(t.Context(), container.PullRequest{Ref: tagged, Digest: digest}, nil)
		if err != nil || got.Ref != ref || got.Digest != first.Digest {
			t.Errorf("Pull = %+v, %v", got, err)
		}
	})

	// Of an index what is for this host is here and is read; the rest is not missed.
	t.Run("index", func(t *testing.T) {
		ref := p.registry.Host + "/index:1"
		pushIndex(t, ref, remoteImage(t, p.push(t, "ours:1", 1000)), remoteImage(t, p.push(t, "theirs:1", 2000)))
		if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
			t.Fatal(err)
		}
		if v, err := rt.Verify(t.Context(), ref); err != nil || v.Blobs != 5 {
			t.Errorf("Verify = %+v, %v", v, err)
		}
	})

	t.Run("archive", func(t *testing.T) { testImport(t, p, rt) })

	t.Run("absent", func(t *testing.T) {
		for what, err := range map[string]error{
			"Verify":  func() error { _, err := rt.Verify(t.Context(), "example.test/nobody:1"); return err }(),
			"Protect": rt.Protect(t.Context(), "example.test/nobody:1"),
			"Import":  func() error { _, err := rt.Import(t.Context(), strings.NewReader("no archive")); return err }(),
		} {
			if err == nil {
				t.Errorf("%s succeeds", what)
			}
		}
	})
}

// testImport: an image of an archive is here as if it had been pulled, and its registry is not asked.
func testImport(t *testing.T, p *pulls, rt *ctrd.Runtime) {
	img := remoteImage(t, p.push(t, "source:1", 1000))
	for _, tt := range []struct{ called, want string }{
		{"registry.test/team/app:7", "registry.test/team/app:7"},
		{"team/app:7", "docker.io/team/app:7"},
	} {
		names, err := rt.Import(t.Context(), archive(t, tt.called, img))
		if err != nil || len(names) != 1 || names[0] != tt.want {
			t.Fatalf("Import of %s = %v, %v", tt.called, names, err)
		}
		if v, err := rt.Verify(t.Context(), tt.want); err != nil || v.Blobs != 4 {
			t.Errorf("Verify = %+v, %v", v, err)
		}
		for _, policy := range []container.PullPolicy{container.PullOnce, container.PullPreferCached, container.PullNever} {
			if got, err := rt.Pull(t.Context(), container.PullRequest{Ref: tt.want, Policy: policy}, nil); err != nil || got.FromRegistry {
				t.Errorf("%s: %+v, %v", policy, got, err)
			}
		}
	}
}

// archive is what `docker save` writes.
func archive(t *testing.T, called string, img v1.Image) *bytes.Buffer {
	t.Helper()
	tag, err := name.NewTag(called)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, img, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func remoteImage(t *testing.T, ref string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed, remote.WithContext(context.WithoutCancel(t.Context())))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pushIndex pushes an image for this host together with one for another platform.
func pushIndex(t *testing.T, ref string, ours, theirs v1.Image) {
	t.Helper()
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: theirs, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: ours, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(parsed, index, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// lastLayer is the digest of an image's last layer.
func lastLayer(t *testing.T, ref string) string {
	t.Helper()
	raw, err := remoteImage(t, ref).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m.Layers[len(m.Layers)-1].Digest.String()
}

// contentDir is where a containerd keeps its blobs.
func contentDir(t *testing.T, d *runtimetest.Containerd) string {
	t.Helper()
	for _, dir := range d.Dirs() {
		blobs := filepath.Join(dir, "containerd/io.containerd.content.v1.content/blobs/sha256")
		if _, err := os.Stat(blobs); err == nil {
			return blobs
		}
	}
	t.Fatal("containerd keeps its blobs elsewhere")
	return ""
}

func record(t *testing.T, rt *ctrd.Runtime, ref string) container.ImageRecord {
	t.Helper()
	all, err := rt.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Ref == ref {
			return i
		}
	}
	t.Fatalf("%s is not among %+v", ref, all)
	return container.ImageRecord{}
}

package ctrd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/runtime/container"
)

// Import takes the images out of an OCI or Docker archive, which may be compressed, as far as they are for this platform, unpacks them, and answers their names.
// An image without a whole reference for a name is refused: a task definition could not say it.
func (r *Runtime) Import(ctx context.Context, archive io.Reader) ([]string, error) {
	ctx = r.ns(ctx)
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, r.fail(ctx, container.KindPull, "read the archive", err)
	}
	defer plain.Close() //nolint:errcheck // only read
	nameless := ""
	// The name that is nothing but a tag is the common one, and says whose tag it is to nobody.
	whole := func(name string) string {
		if !strings.Contains(name, "/") {
			nameless = name
			return ""
		}
		return name
	}
	found, err := r.client.Import(ctx, plain, containerd.WithImageRefTranslator(whole))
	if err != nil {
		return nil, r.fail(ctx, container.KindPull, "import images", err)
	}
	if len(found) == 0 || nameless != "" {
		return nil, container.Errorf(container.KindPull, "an image of the archive is called %q, which is no whole reference: REGISTRY/REPOSITORY:TAG", nameless)
	}
	var names []string
	for _, img := range found {
		named, err := normalise(img.Name)
		if err != nil {
			return nil, container.Errorf(container.KindPull, "%w", err)
		}
		if err := r.unpack(ctx, img); err != nil {
			return nil, r.fail(ctx, container.KindPull, "unpack image "+img.Name, err)
		}
		for _, name := range []string{canonical(named, img.Target.Digest), named.String()} {
			if _, err := r.pulled(ctx, name, img.Target, pulledLabels(time.Now())); err != nil {
				return nil, r.fail(ctx, container.KindPull, "name image "+name, err)
			}
		}
		names = append(names, named.String())
	}
	return names, nil
}

// Verify reads everything that containerd has of an image for this platform, and compares it with its digests: index, manifest,
// configuration and layers. It answers how much that was. That the layers were unpacked is looked at, and not what became of them.
func (r *Runtime) Verify(ctx context.Context, ref string) (v container.Verified, err error) {
	ctx = r.ns(ctx)
	defer func() { err = r.fail(ctx, container.KindInspect, "verify image "+ref, err) }()
	named, err := normalise(ref)
	if err != nil {
		return v, container.Errorf(container.KindInspect, "%w", err)
	}
	img, err := r.client.ImageService().Get(ctx, named.String())
	if err != nil {
		return v, err
	}
	store := r.client.ContentStore()
	children := images.LimitManifests(images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default()), platforms.Default(), 1)
	seen := map[digest.Digest]int64{}
	err = images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, ok := seen[desc.Digest]; !ok {
			if err := reread(ctx, store, desc); err != nil {
				return nil, err
			}
			seen[desc.Digest] = desc.Size
		}
		return children(ctx, desc)
	}), img.Target)
	if err != nil {
		return v, err
	}
	info, err := r.info(ctx, img.Target)
	if err != nil {
		return v, err
	}
	switch here, err := r.unpacked(ctx, info); {
	case err != nil:
		return v, err
	case !here:
		return v, fmt.Errorf("it is not unpacked: there is no snapshot %s", info.chainID)
	}
	v = container.Verified{Ref: named.String(), Digest: img.Target.Digest.String(), Blobs: len(seen)}
	for _, size := range seen {
		v.Bytes += size
	}
	return v, nil
}

// reread reads a blob and fails unless it is what its digest says.
func reread(ctx context.Context, store content.Provider, desc ocispec.Descriptor) error {
	blob, err := store.ReaderAt(ctx, desc)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", desc.Digest, err)
	}
	defer blob.Close() //nolint:errcheck // only read
	verifier := desc.Digest.Verifier()
	n, err := io.Copy(verifier, content.NewReader(blob))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", desc.Digest, err)
	case n != desc.Size || !verifier.Verified():
		return fmt.Errorf("the content of %s is not what its digest says: %d bytes of %d", desc.Digest, n, desc.Size)
	}
	return nil
}

// Protect marks an image, by all its names, to stay whatever the disk is like.
func (r *Runtime) Protect(ctx context.Context, ref string) error {
	ctx = r.ns(ctx)
	named, err := normalise(ref)
	if err != nil {
		return container.Errorf(container.KindInspect, "%w", err)
	}
	store := r.client.ImageService()
	img, err := store.Get(ctx, named.String())
	if err != nil {
		return r.fail(ctx, container.KindInspect, "find image "+ref, err)
	}
	names := []string{img.Name}
	if byDigest := canonical(named, img.Target.Digest); byDigest != img.Name {
		names = append(names, byDigest)
	}
	for _, name := range names {
		_, err := store.Update(ctx, images.Image{Name: name, Labels: map[string]string{labelProtected: "true"}}, "labels."+labelProtected)
		if err != nil && !(errdefs.IsNotFound(err) && name != img.Name) {
			return r.fail(ctx, container.KindInspect, "protect image "+name, err)
		}
	}
	return nil
}

// Pinned splits a reference with a tag and a digest into the one and the other, so that the image can be pulled by its digest and be
// known by its tag. Without both, digest is "" and ref as it was.
func Pinned(ref string) (tagged, pinned string) {
	parsed, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref, ""
	}
	tag, hasTag := parsed.(reference.Tagged)
	d, hasDigest := parsed.(reference.Digested)
	if !hasTag || !hasDigest {
		return ref, ""
	}
	return reference.TrimNamed(parsed).Name() + ":" + tag.Tag(), d.Digest().String()
}

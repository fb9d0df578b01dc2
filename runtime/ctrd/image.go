package ctrd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/runtime/container"
)

// Labels of containerd's image records.
const (
	// labelPulled marks an image that a pull of ours completed.
	labelPulled = "io.berth/pulled"
	// labelPulledAt and labelUsedAt are RFC 3339 times.
	labelPulledAt = "io.berth/pulled-at"
	labelUsedAt   = "io.berth/used-at"
	// labelProtected, set by whoever bakes the image of a host, keeps an image.
	labelProtected = "io.berth/protected"
)

// usedAtGrain is how old a used-at label may be: a write for every container
// would cost a disk flush each.
const usedAtGrain = time.Minute

// imageConfig is what we need of an image's configuration; it is Docker's form,
// which has HEALTHCHECK beside the fields of OCI.
type imageConfig struct {
	Config struct {
		User        string
		Env         []string
		Entrypoint  []string
		Cmd         []string
		WorkingDir  string
		StopSignal  string
		Labels      map[string]string
		Volumes     map[string]struct{}
		Healthcheck *container.Healthcheck
		Shell       []string
	} `json:"config"`
	RootFS ocispec.RootFS `json:"rootfs"`
}

// imageInfo is what an image is, whatever its names are. It never changes.
type imageInfo struct {
	imageConfig

	digest       digest.Digest // of the target: an index or a manifest
	configDigest digest.Digest
	chainID      string // the snapshot of its root file system
	size         int64  // compressed
}

// accounts are the texts that user and group names are looked up in.
type accounts struct{ passwd, group string }

// imageCache remembers images by digest.
type imageCache struct {
	mu       sync.Mutex // guards the maps
	infos    map[digest.Digest]imageInfo
	accounts map[string]accounts  // by chain ID
	used     map[string]time.Time // by name: the used-at label last written
}

func newImageCache() *imageCache {
	return &imageCache{
		infos:    make(map[digest.Digest]imageInfo),
		accounts: make(map[string]accounts),
		used:     make(map[string]time.Time),
	}
}

// normalise completes a reference as Docker does: docker.io, library/, :latest.
// Of a tag and a digest together, the digest counts.
func normalise(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid image reference %q: %w", ref, err)
	}
	return named, nil
}

// canonical is the name of an image by digest.
func canonical(named reference.Named, d digest.Digest) string {
	return reference.TrimNamed(named).Name() + "@" + d.String()
}

// local finds a complete image among containerd's: the one that the reference
// names, or the one of the digest when it is not "". errdefs.ErrNotFound when
// there is none.
func (r *Runtime) local(ctx context.Context, named reference.Named, want digest.Digest) (images.Image, imageInfo, error) {
	names := []string{named.String()}
	if want != "" {
		names = []string{canonical(named, want), named.String()}
	}
	for _, name := range names {
		img, err := r.client.ImageService().Get(ctx, name)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return images.Image{}, imageInfo{}, err
		}
		if want != "" && img.Target.Digest != want {
			continue
		}
		info, err := r.info(ctx, img.Target)
		if errdefs.IsNotFound(err) {
			continue // some of it is missing
		}
		return img, info, err
	}
	return images.Image{}, imageInfo{}, fmt.Errorf("No such image: %s: %w", named, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words, spec/task-engine.md §7.5
}

// info reads what the image of a descriptor is, for this host's platform.
func (r *Runtime) info(ctx context.Context, target ocispec.Descriptor) (imageInfo, error) {
	r.images.mu.Lock()
	info, ok := r.images.infos[target.Digest]
	r.images.mu.Unlock()
	if ok {
		return info, nil
	}
	store := r.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return imageInfo{}, err
	}
	blob, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return imageInfo{}, err
	}
	info = imageInfo{digest: target.Digest, configDigest: manifest.Config.Digest, size: manifest.Config.Size}
	if err := json.Unmarshal(blob, &info.imageConfig); err != nil {
		return imageInfo{}, fmt.Errorf("cannot decode image configuration %s: %w", manifest.Config.Digest, err)
	}
	for _, layer := range manifest.Layers {
		info.size += layer.Size
	}
	info.chainID = identity.ChainID(info.RootFS.DiffIDs).String()
	r.images.mu.Lock()
	r.images.infos[target.Digest] = info
	r.images.mu.Unlock()
	return info, nil
}

// unpacked says whether the image's root file system is there.
func (r *Runtime) unpacked(ctx context.Context, info imageInfo) (bool, error) {
	_, err := r.client.SnapshotService(r.cfg.Snapshotter).Stat(ctx, info.chainID)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// unpack makes the snapshots of an image whose layers are here.
func (r *Runtime) unpack(ctx context.Context, img images.Image) error {
	return containerd.NewImage(r.client, img).Unpack(ctx, r.cfg.Snapshotter)
}

// image is the contract's form of an image.
func image(img images.Image, info imageInfo) container.Image {
	return container.Image{
		Ref:          img.Name,
		Digest:       info.digest.String(),
		ConfigDigest: info.configDigest.String(),
		Size:         info.size,
		StopSignal:   info.Config.StopSignal,
		Env:          info.Config.Env,
		Entrypoint:   info.Config.Entrypoint,
		Command:      info.Config.Cmd,
		Healthcheck:  info.Config.Healthcheck,
		Shell:        info.Config.Shell,
		Labels:       info.Config.Labels,
		PulledAt:     labelTime(img, labelPulledAt, img.UpdatedAt),
		UsedAt:       labelTime(img, labelUsedAt, time.Time{}),
		Known:        img.Labels[labelPulled] == "true",
	}
}

func labelTime(img images.Image, label string, fallback time.Time) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, img.Labels[label]); err == nil {
		return at
	}
	return fallback
}

// pulled names an image whose pull has ended. One that has the name already keeps
// the time of its first pull, and costs no write.
func (r *Runtime) pulled(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) (images.Image, error) {
	img, err := r.client.ImageService().Get(ctx, name)
	if err == nil && img.Target.Digest == target.Digest && img.Labels[labelPulled] == "true" {
		return img, nil
	}
	return r.name(ctx, name, target, labels)
}

// name makes or moves an image record. Labels that it has and we do not set
// stay.
func (r *Runtime) name(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) (images.Image, error) {
	store := r.client.ImageService()
	for {
		img, err := store.Create(ctx, images.Image{Name: name, Target: target, Labels: labels})
		if err == nil || !errdefs.IsAlreadyExists(err) {
			return img, err
		}
		fields := []string{"target"}
		for label := range labels {
			fields = append(fields, "labels."+label)
		}
		img, err = store.Update(ctx, images.Image{Name: name, Target: target, Labels: labels}, fields...)
		if err == nil || !errdefs.IsNotFound(err) {
			return img, err
		}
		// It was removed in between: create it again.
	}
}

// touch notes that a container uses the image now.
func (r *Runtime) touch(ctx context.Context, img images.Image) error {
	now := time.Now().UTC()
	r.images.mu.Lock()
	recent := now.Sub(r.images.used[img.Name]) < usedAtGrain
	if !recent {
		r.images.used[img.Name] = now
	}
	r.images.mu.Unlock()
	if recent {
		return nil
	}
	_, err := r.client.ImageService().Update(ctx, images.Image{
		Name:   img.Name,
		Labels: map[string]string{labelUsedAt: now.Format(time.RFC3339Nano)},
	}, "labels."+labelUsedAt)
	if errdefs.IsNotFound(err) {
		return nil // removed meanwhile; the container has its own snapshot
	}
	return err
}

// names reads the image's account files. They are read once for each image,
// from a snapshot of it that is mounted for the purpose.
func (r *Runtime) names(ctx context.Context, info imageInfo, mounts []mount.Mount) (accounts, error) {
	r.images.mu.Lock()
	a, ok := r.images.accounts[info.chainID]
	r.images.mu.Unlock()
	if ok {
		return a, nil
	}
	err := r.withImage(ctx, mounts, func(root string) error {
		var err error
		a, err = readAccounts(root)
		return err
	})
	if err != nil {
		return accounts{}, fmt.Errorf("cannot read the image's users: %w", err)
	}
	r.images.mu.Lock()
	r.images.accounts[info.chainID] = a
	r.images.mu.Unlock()
	return a, nil
}

// maxAccounts bounds an account file: an image may hold anything.
const maxAccounts = 1 << 20

// readAccounts reads the account files below root and never follows a link out
// of it.
func readAccounts(root string) (accounts, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return accounts{}, err
	}
	defer dir.Close() //nolint:errcheck // only read
	read := func(name string) (string, error) {
		f, err := dir.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // only read
		st, err := f.Stat()
		if err != nil || !st.Mode().IsRegular() {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxAccounts))
		return string(text), err
	}
	var a accounts
	if a.passwd, err = read("etc/passwd"); err != nil {
		return accounts{}, err
	}
	if a.group, err = read("etc/group"); err != nil {
		return accounts{}, err
	}
	return a, nil
}

// Images lists the images of this runtime, one for each digest. Those of which
// parts are missing are left out.
func (r *Runtime) Images(ctx context.Context) ([]container.ImageRecord, error) {
	ctx = r.ns(ctx)
	all, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, r.fail(ctx, container.KindInspect, "list images", err)
	}
	var out []container.ImageRecord
	index := make(map[digest.Digest]int)
	for _, img := range all {
		info, err := r.info(ctx, img.Target)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, r.fail(ctx, container.KindInspect, "read image "+img.Name, err)
		}
		this := image(img, info)
		i, ok := index[info.digest]
		if !ok {
			i = len(out)
			index[info.digest] = i
			out = append(out, container.ImageRecord{Image: this})
		}
		rec := &out[i]
		rec.Names = append(rec.Names, img.Name)
		rec.Pulled = rec.Pulled || img.Labels[labelPulled] == "true"
		rec.Protected = rec.Protected || img.Labels[labelProtected] == "true"
		if strings.Contains(rec.Ref, "@") {
			rec.Ref = this.Ref // a tag says more than a digest
		}
		if this.UsedAt.After(rec.UsedAt) {
			rec.UsedAt = this.UsedAt
		}
		if this.PulledAt.Before(rec.PulledAt) {
			rec.PulledAt = this.PulledAt
		}
	}
	return out, nil
}

// RemoveImage takes a name away, and with the last one the image: a name by
// digest that only our pull made goes with the last tag of its repository.
// Containers made from it keep their root file systems. An absent name is no
// error. It returns when containerd has freed the space.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	ctx = r.ns(ctx)
	named, err := normalise(ref)
	if err != nil {
		return container.Errorf(container.KindRemove, "%w", err)
	}
	store := r.client.ImageService()
	img, err := store.Get(ctx, named.String())
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return r.fail(ctx, container.KindRemove, "find image "+ref, err)
	}
	doomed := []string{img.Name}
	if byDigest := canonical(named, img.Target.Digest); byDigest != img.Name {
		all, err := store.List(ctx, fmt.Sprintf("target.digest==%s", img.Target.Digest))
		if err != nil {
			return r.fail(ctx, container.KindRemove, "list images", err)
		}
		others := 0
		for _, other := range all {
			if other.Name != img.Name && other.Name != byDigest && strings.HasPrefix(other.Name, named.Name()+":") {
				others++
			}
		}
		if others == 0 {
			doomed = append([]string{byDigest}, doomed...)
		}
	}
	for _, name := range doomed {
		if err := store.Delete(ctx, name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return r.fail(ctx, container.KindRemove, "remove image "+name, err)
		}
		r.images.mu.Lock()
		delete(r.images.used, name)
		r.images.mu.Unlock()
	}
	r.images.mu.Lock()
	delete(r.images.infos, img.Target.Digest)
	r.images.mu.Unlock()
	return nil
}

// pulledLabels are the labels of an image whose pull has just ended.
func pulledLabels(now time.Time) map[string]string {
	return map[string]string{
		labelPulled:   "true",
		labelPulledAt: now.UTC().Format(time.RFC3339Nano),
	}
}

// cleanPath is an absolute, clean path in a container.
func cleanPath(p string) string { return path.Clean("/" + p) }

package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/resources"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/ctrd"
)

// Baking is what Bake needs of containerd.
type Baking interface {
	Pull(ctx context.Context, req container.PullRequest, progress func(container.Progress)) (container.Image, error)
	Import(ctx context.Context, archive io.Reader) ([]string, error)
	Verify(ctx context.Context, ref string) (container.Verified, error)
	Protect(ctx context.Context, ref string) error
	Images(ctx context.Context) ([]container.ImageRecord, error)
}

var _ Baking = (*ctrd.Runtime)(nil)

// Bake makes images part of this host: it pulls those of lists and takes those out of archives, compares all of their content with their
// digests, as it is on the disk then, and marks them to stay. files are lists, archives, and directories of such. tell is called with
// each image that is done. It ends with the first image that cannot be had or is not what its digest says, and names it; what was done
// before stays, and Bake may be called again.
func Bake(ctx context.Context, o Options, files []string, tell func(container.Verified)) error {
	return withBaking(&o.Config, func(b Baking) error {
		auth, err := bakingAuth(&o)
		if err != nil {
			return err
		}
		return bake(ctx, b, auth, files, tell)
	})
}

// Baked compares all content of the images that are marked to stay with their digests, and calls tell with each. Unlike Bake it goes on
// after one that is not as it should be; the error has all of them.
func Baked(ctx context.Context, o Options, tell func(container.Verified)) error {
	return withBaking(&o.Config, func(b Baking) error { return baked(ctx, b, tell) })
}

// Protected lists the images that are marked to stay.
func Protected(ctx context.Context, o Options) (images []container.ImageRecord, err error) {
	err = withBaking(&o.Config, func(b Baking) error {
		images, err = protected(ctx, b)
		return err
	})
	return images, err
}

func protected(ctx context.Context, b Baking) ([]container.ImageRecord, error) {
	images, err := b.Images(ctx)
	return slices.DeleteFunc(images, func(i container.ImageRecord) bool { return !i.Protected }), err
}

// withBaking has containerd as long as use takes. Nothing else of the host is opened, and no agent needs to run, or is in the way.
func withBaking(c *config.Config, use func(Baking) error) (err error) {
	r, err := ctrd.New(ctrd.Config{
		Address: c.Containerd.Address, Namespace: c.Containerd.Namespace, Snapshotter: c.Containerd.Snapshotter,
		StateDir: filepath.Join(c.Paths.Run, "ctrd"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return use(r)
}

// bakingAuth are the credentials of registries: what the settings say, and the instance's role for Amazon ECR.
func bakingAuth(o *Options) (func(ctx context.Context, image string) (*container.Auth, error), error) {
	c := &o.Config
	keys, err := newAWS(c, awsapi.NewMetadata(awsapi.MetadataConfig{
		Endpoint: c.AWS.MetadataEndpoint, Disabled: c.AWS.MetadataDisabled || c.External, Log: o.Log.Named("metadata"),
	}))
	if err != nil {
		return nil, err
	}
	return resources.New(resources.Config{
		Tokens: keys.services, Region: c.Region, AuthType: c.Image.AuthType, AuthData: c.Image.AuthData, Log: o.Log.Named("resources"),
	}).HostAuth, nil
}

func bake(
	ctx context.Context, b Baking, auth func(ctx context.Context, image string) (*container.Auth, error), files []string, tell func(container.Verified),
) error {
	var refs []string
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("cannot read images: %w", err)
		}
		if !info.IsDir() {
			found, err := bakeFile(ctx, b, auth, file)
			if err != nil {
				return err
			}
			refs = append(refs, found...)
			continue
		}
		entries, err := os.ReadDir(file)
		if err != nil {
			return fmt.Errorf("cannot read images: %w", err)
		}
		var within []string
		for _, e := range entries {
			within = append(within, filepath.Join(file, e.Name()))
		}
		if err := bake(ctx, b, auth, within, tell); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		v, err := b.Verify(ctx, ref)
		if err == nil {
			err = b.Protect(ctx, ref)
		}
		if err != nil {
			return fmt.Errorf("cannot bake %s: %w", ref, err)
		}
		tell(v)
	}
	return nil
}

// bakeFile brings the images of one file to the host, and answers what they are called.
func bakeFile(
	ctx context.Context, b Baking, auth func(ctx context.Context, image string) (*container.Auth, error), file string,
) (refs []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read images: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	r := bufio.NewReaderSize(f, tarBlock)
	if head, _ := r.Peek(tarBlock); isArchive(head) { // What is shorter is no archive.
		if refs, err = b.Import(ctx, r); err != nil {
			return nil, fmt.Errorf("cannot bake %s: %w", file, err)
		}
		return refs, nil
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		ref, _, _ := strings.Cut(lines.Text(), "#")
		if ref = strings.TrimSpace(ref); ref == "" {
			continue
		}
		// With a tag and a digest it is the image of the digest, and is found by the tag too, as task definitions say it.
		tagged, digest := ctrd.Pinned(ref)
		if _, err := b.Pull(ctx, container.PullRequest{
			Ref: tagged, Digest: digest,
			Auth: func(ctx context.Context) (*container.Auth, error) { return auth(ctx, tagged) },
		}, nil); err != nil {
			return nil, fmt.Errorf("cannot bake %s: %w", ref, err)
		}
		refs = append(refs, tagged)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read images: %w", err)
	}
	return refs, nil
}

const (
	tarBlock = 512
	tarMagic = 257 // where it is in the first block
)

// isArchive tells an archive, compressed or not, from a list by how it begins.
func isArchive(head []byte) bool {
	return len(head) == tarBlock && bytes.HasPrefix(head[tarMagic:], []byte("ustar")) ||
		bytes.HasPrefix(head, []byte("\x1f\x8b")) || bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd"))
}

func baked(ctx context.Context, b Baking, tell func(container.Verified)) error {
	images, err := protected(ctx, b)
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		v, err := b.Verify(ctx, image.Ref)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is not what it should be: %w", image.Ref, err))
			continue
		}
		tell(v)
	}
	return errors.Join(errs...)
}

package ctrd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

const (
	defaultResolveTimeout    = time.Minute
	defaultInactivityTimeout = time.Minute
	// progressEvery is the time between two reports to one caller.
	progressEvery = 200 * time.Millisecond
	// beginPatience is how long a registry may take for the first byte.
	beginPatience = 5 * time.Minute
)

// perseverance says how often a step is done before it has failed, and how long
// the pauses between are, which grow by the factor up to the longest.
type perseverance struct {
	tries       int
	first, most time.Duration
	factor      int
}

// The pauses of spec/task-engine.md §7.2 and §7.3, but that each pull begins with
// the first one.
//
//nolint:gochecknoglobals // immutable tables
var (
	asking   = perseverance{tries: 9, first: 10 * time.Millisecond, most: 5 * time.Second, factor: 3}
	fetching = perseverance{tries: 5, first: 1100 * time.Millisecond, most: 5 * time.Second, factor: 2}
)

// Pull implements container.Runtime. The policy decides only whether the
// registry is asked; after a failure under PullDefault, the caller may ask again
// with PullPreferCached.
func (r *Runtime) Pull(ctx context.Context, req container.PullRequest, progress func(container.Progress)) (container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Image{}, err
	}
	ctx = r.ns(ctx)
	named, err := normalise(req.Ref)
	if err != nil {
		return container.Image{}, container.Errorf(container.KindManifest, "%w", err)
	}
	if progress == nil {
		progress = func(container.Progress) {}
	}
	report := func(p container.Progress) {
		p.Ref = named.String()
		progress(p)
	}
	// Whoever removes images must not take this one away meanwhile.
	defer r.pulling.enter(named.String())()
	switch req.Policy {
	case container.PullPreferCached, container.PullOnce, container.PullNever:
		img, ok, err := r.cached(ctx, named, req)
		if err != nil {
			return container.Image{}, r.fail(ctx, container.KindInspect, "look for image "+req.Ref, err)
		}
		if ok {
			report(container.Progress{Stage: "done", Digest: img.Digest, Fetched: img.Size, Total: img.Size})
			return img, nil
		}
		if req.Policy == container.PullNever {
			return container.Image{}, container.Errorf(container.KindPull, "No such image: %s: %w", req.Ref, container.ErrNotFound)
		}
	case container.PullDefault, container.PullAlways:
	}
	img, err := r.pullFromRegistry(ctx, named, req, report)
	if err != nil {
		return container.Image{}, err
	}
	report(container.Progress{Stage: "done", Digest: img.Digest, Fetched: img.Size, Total: img.Size})
	return img, nil
}

// cached finds an image that the policy allows to be used unasked.
func (r *Runtime) cached(ctx context.Context, named reference.Named, req container.PullRequest) (container.Image, bool, error) {
	img, info, err := r.local(ctx, named, digest.Digest(req.Digest))
	if errdefs.IsNotFound(err) {
		return container.Image{}, false, nil
	}
	if err != nil {
		return container.Image{}, false, err
	}
	if req.Policy == container.PullOnce && img.Labels[labelPulled] != "true" {
		return container.Image{}, false, nil
	}
	ok, err := r.unpacked(ctx, info)
	return image(img, info), ok, err
}

// pullFromRegistry resolves the reference and makes what it resolved to
// present.
func (r *Runtime) pullFromRegistry(
	ctx context.Context, named reference.Named, req container.PullRequest, report func(container.Progress),
) (container.Image, error) {
	report(container.Progress{Stage: "resolving"})
	var auth *container.Auth
	if req.Auth != nil {
		var err error
		if auth, err = req.Auth(ctx); err != nil {
			return container.Image{}, err
		}
	}
	resolver := r.resolver(named, auth)
	asked := named // what the registry is asked for
	if want := wanted(named, req); want != "" {
		img, info, err := r.local(ctx, named, want)
		if err == nil {
			return r.complete(ctx, fetchRequest{named: named, target: img.Target, resolver: resolver, req: req}, info, report)
		}
		if !errdefs.IsNotFound(err) {
			return container.Image{}, r.fail(ctx, container.KindInspect, "look for image "+req.Ref, err)
		}
		if asked, err = reference.WithDigest(reference.TrimNamed(named), want); err != nil {
			return container.Image{}, container.Errorf(container.KindPull,
				"failed to prepare a canonical reference with image '%s' and digest '%s': %w", req.Ref, want, err)
		}
	}
	target, err := r.resolve(ctx, resolver, asked, req)
	if err != nil {
		return container.Image{}, err
	}
	if isSchema1(target.MediaType) {
		return container.Image{}, container.Errorf(container.KindPull,
			"image %s is in Docker's first manifest format, which containerd no longer reads: push it again with a current client", named)
	}
	report(container.Progress{Stage: "resolving", Digest: target.Digest.String()})
	if byDigest := canonical(named, target.Digest); byDigest != named.String() {
		defer r.pulling.enter(byDigest)()
	}
	info := imageInfo{digest: target.Digest}
	if _, known, err := r.local(ctx, named, target.Digest); err == nil {
		info = known
	} else if !errdefs.IsNotFound(err) {
		return container.Image{}, r.fail(ctx, container.KindInspect, "look for image "+req.Ref, err)
	}
	img, err := r.complete(ctx, fetchRequest{named: named, target: target, resolver: resolver, req: req}, info, report)
	img.FromRegistry = err == nil
	return img, err
}

// wanted is the digest that is known before the registry is asked; "" when the
// registry has to say.
func wanted(named reference.Named, req container.PullRequest) digest.Digest {
	if pinned, ok := named.(reference.Digested); ok {
		return pinned.Digest()
	}
	return digest.Digest(req.Digest)
}

// isSchema1 says whether a manifest is of Docker's first format, which has no
// digest that lasts.
func isSchema1(mediaType string) bool {
	return mediaType == "application/vnd.docker.distribution.manifest.v1+json" ||
		mediaType == "application/vnd.docker.distribution.manifest.v1+prettyjws"
}

// complete fetches the image unless it is here, and names it.
func (r *Runtime) complete(
	ctx context.Context, q fetchRequest, info imageInfo, report func(container.Progress),
) (_ container.Image, err error) {
	defer func() { err = r.fail(ctx, container.KindPull, "pull image "+q.named.String(), err) }()
	here := false
	if info.chainID != "" {
		if here, err = r.unpacked(ctx, info); err != nil {
			return container.Image{}, err
		}
	}
	if !here {
		if err := r.fetch(ctx, q, report); err != nil {
			return container.Image{}, err
		}
	}
	labels := pulledLabels(time.Now())
	// The name by digest keeps the image while the tag moves on.
	img, err := r.pulled(ctx, canonical(q.named, q.target.Digest), q.target, labels)
	if err != nil {
		return container.Image{}, err
	}
	if img.Name != q.named.String() {
		if img, err = r.pulled(ctx, q.named.String(), q.target, labels); err != nil {
			return container.Image{}, err
		}
	}
	if info, err = r.info(ctx, q.target); err != nil {
		return container.Image{}, err
	}
	return image(img, info), nil
}

// resolve asks the registry which digest the reference has.
func (r *Runtime) resolve(
	ctx context.Context, resolver remotes.Resolver, named reference.Named, req container.PullRequest,
) (ocispec.Descriptor, error) {
	timeout := req.ResolveTimeout
	if timeout == 0 {
		timeout = defaultResolveTimeout
	}
	late := &cause{
		words: fmt.Sprintf("Could not transition to MANIFEST_PULLED; timed out after waiting %s", timeout),
		kinds: []error{container.ErrTimeout},
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	var target ocispec.Descriptor
	err := retry(limited, asking, func() error {
		var err error
		_, target, err = resolver.Resolve(limited, named.String())
		return err
	})
	switch {
	case err == nil:
		return target, nil
	case errors.Is(context.Cause(limited), late) && context.Cause(ctx) == nil:
		return target, &container.Error{Kind: container.KindTimeout, Retry: true, Err: late}
	}
	return target, r.failPull(ctx, container.KindManifest, named, err)
}

// resolver speaks to the registry of a reference, honouring hosts.toml.
// Registries on this host speak plain HTTP.
func (r *Runtime) resolver(named reference.Named, auth *container.Auth) remotes.Resolver {
	domain := reference.Domain(named)
	options := config.HostOptions{HostDir: config.HostDirFromRoot(r.cfg.CertsDir)}
	if isLoopback(domain) {
		options.DefaultScheme = "http"
	}
	if auth != nil {
		given := *auth
		options.Credentials = func(host string) (string, string, error) {
			// The credentials are for the registry of the reference, not for its
			// mirrors.
			if host == domain || (domain == "docker.io" && strings.HasSuffix(host, ".docker.io")) {
				return given.Username, given.Password, nil
			}
			return "", "", nil
		}
	}
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   config.ConfigureHosts(r.life, options),
		Headers: http.Header{"User-Agent": []string{"berth"}},
	})
}

func isLoopback(domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// retry does a step again after a failure that may pass, with growing pauses.
func retry(ctx context.Context, how perseverance, step func() error) error {
	pause := how.first
	for try := 1; ; try++ {
		err := step()
		if err == nil || try >= how.tries || !transient(err) || context.Cause(ctx) != nil {
			return err
		}
		if !backoff.Wait(ctx, backoff.Jittered(pause*9/10, pause/5)) {
			return err
		}
		pause = min(pause*time.Duration(how.factor), how.most)
	}
}

// transient says whether a registry's failure may pass by itself.
func transient(err error) bool {
	if isContextError(err) || isNoSpace(err) || isUnavailable(err) {
		return false
	}
	if code := statusOf(err); code != 0 {
		return code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return !dns.IsNotFound
	}
	switch {
	case errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err), errdefs.IsPermissionDenied(err),
		errdefs.IsUnauthorized(err), errdefs.IsNotImplemented(err), errdefs.IsFailedPrecondition(err):
		return false
	}
	return true
}

// statusOf is the HTTP status behind a registry's error, zero for none.
func statusOf(err error) int {
	if e, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err); ok {
		return e.StatusCode
	}
	if codes, ok := errors.AsType[docker.Errors](err); ok && len(codes) > 0 {
		if e, ok := errors.AsType[docker.Error](codes[0]); ok {
			return e.Code.Descriptor().HTTPStatusCode
		}
		if e, ok := errors.AsType[docker.ErrorCode](codes[0]); ok {
			return e.Descriptor().HTTPStatusCode
		}
	}
	return 0
}

// fetchRequest is one image to fetch.
type fetchRequest struct {
	named    reference.Named
	target   ocispec.Descriptor
	resolver remotes.Resolver
	req      container.PullRequest
}

// fixed is a Resolver whose answer is known: nothing is asked twice, and the
// image fetched is the one that was resolved.
type fixed struct {
	remotes.Resolver

	name   string
	target ocispec.Descriptor
	watch  *tracker
}

// Resolve implements remotes.Resolver.
func (f fixed) Resolve(context.Context, string) (string, ocispec.Descriptor, error) {
	return f.name, f.target, nil
}

// Fetcher implements remotes.Resolver.
func (f fixed) Fetcher(ctx context.Context, name string) (remotes.Fetcher, error) {
	inner, err := f.Resolver.Fetcher(ctx, name)
	if err != nil {
		return nil, err
	}
	return f.watch.fetcher(inner), nil
}

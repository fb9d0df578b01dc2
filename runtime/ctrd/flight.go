package ctrd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/runtime/container"
)

// leaseLife is how long a part of an image that was fetched in vain is kept for
// the next try.
const leaseLife = time.Hour

// errLeft is why a fetch ends that nobody waits for any more.
var errLeft = errors.New("every caller of the pull left")

// errInactive marks a fetch that did not move, errNotBegun one of which not a
// byte came.
var (
	errInactive = errors.New("inactivity time exceeded timeout while pulling image")
	errNotBegun = &container.Error{Kind: container.KindTimeout, Retry: true, Err: &cause{
		words: fmt.Sprintf("Could not transition to pullBegin; timed out after waiting %s", beginPatience),
		kinds: []error{container.ErrTimeout},
	}}
)

// flights are the fetches under way, one for each digest.
type flights struct {
	mu    sync.Mutex // guards what follows, and every flight's callers
	under map[digest.Digest]*flight
}

type flight struct {
	callers int
	cancel  context.CancelCauseFunc
	watch   *tracker
	done    chan struct{}
	err     error // written before done is closed
}

func newFlights() *flights { return &flights{under: make(map[digest.Digest]*flight)} }

// fetch makes an image present and unpacked: it joins the fetch of the digest
// that is under way or begins one, reports progress, and leaves when ctx ends.
func (r *Runtime) fetch(ctx context.Context, q fetchRequest, report func(container.Progress)) error {
	f := r.board(ctx, q)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	last := container.Progress{}
	say := func() {
		p := f.watch.progress()
		if p.Stage != last.Stage || p.Fetched != last.Fetched || p.Total != last.Total {
			last = p
			report(p)
		}
	}
	for say(); ; say() {
		select {
		case <-f.done:
			say()
			if f.err != nil {
				return r.failPull(ctx, container.KindPull, q.named, f.err)
			}
			return nil
		case <-ctx.Done():
			r.leave(q.target.Digest, f)
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// board finds or begins the flight of a digest and counts the caller in.
func (r *Runtime) board(ctx context.Context, q fetchRequest) *flight {
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	f, ok := r.flights.under[q.target.Digest]
	if !ok {
		// The flight outlives the caller that began it, but not the Runtime.
		flying, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, watch: newTracker(q.target), done: make(chan struct{})}
		r.flights.under[q.target.Digest] = f
		r.background.Go(func() {
			stop := context.AfterFunc(r.life, func() { cancel(errClosed) })
			defer stop()
			err := r.fly(flying, q, f)
			r.flights.mu.Lock()
			if r.flights.under[q.target.Digest] == f {
				delete(r.flights.under, q.target.Digest)
			}
			r.flights.mu.Unlock()
			f.err = err
			cancel(nil)
			close(f.done)
		})
	}
	f.callers++
	return f
}

// leave counts a caller out; the last one ends the flight.
func (r *Runtime) leave(d digest.Digest, f *flight) {
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	if f.callers--; f.callers > 0 {
		return
	}
	if r.flights.under[d] == f {
		delete(r.flights.under, d)
	}
	f.cancel(errLeft)
}

// fly fetches, and tries again where that can help: what is here already is
// not fetched again.
func (r *Runtime) fly(ctx context.Context, q fetchRequest, f *flight) error {
	ctx, release, err := r.lease(ctx, q.target.Digest)
	if err != nil {
		return err
	}
	timeout := q.req.InactivityTimeout
	if timeout == 0 {
		timeout = defaultInactivityTimeout
	}
	err = retry(ctx, fetching, func() error {
		once, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var guard sync.WaitGroup
		guard.Go(func() { f.watch.guard(once, timeout, cancel) })
		err := r.fetchOnce(once, q, f.watch)
		if cause := context.Cause(once); err != nil && (errors.Is(cause, errInactive) || errors.Is(cause, errNotBegun)) {
			err = cause
		}
		cancel(nil)
		guard.Wait()
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return err // the lease keeps what is here, for a while
	}
	return release()
}

// fetchOnce fetches and unpacks what is missing of an image.
func (r *Runtime) fetchOnce(ctx context.Context, q fetchRequest, watch *tracker) error {
	name := canonical(q.named, q.target.Digest)
	_, err := r.client.Pull(ctx, name,
		containerd.WithResolver(fixed{Resolver: q.resolver, name: name, target: q.target, watch: watch}),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(r.cfg.Snapshotter),
		containerd.WithDownloadLimiter(r.downloads),
		containerd.WithUnpackOpts([]containerd.UnpackOpt{containerd.WithUnpackLimiter(r.unpacks)}),
		containerd.WithImageHandlerWrapper(func(inner images.Handler) images.Handler {
			return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
				children, err := inner.Handle(ctx, desc)
				if err == nil {
					watch.handled(desc, children)
					err = r.fits(ctx, q, desc, watch)
				}
				return children, err
			})
		}),
	)
	return err
}

// fits refuses an image that the disk cannot hold, before it is fetched: it
// needs its compressed size, and at least as much again unpacked. Whoever knows
// what can go is asked to make room first.
func (r *Runtime) fits(ctx context.Context, q fetchRequest, desc ocispec.Descriptor, watch *tracker) error {
	if !images.IsManifestType(desc.MediaType) {
		return nil
	}
	p := watch.progress()
	need := 2 * (p.Total - p.Fetched)
	lacks := func() (int64, error) {
		free, _, err := r.Space(ctx)
		return need - int64(min(free, math.MaxInt64)), err
	}
	short, err := lacks()
	if err != nil || short <= 0 {
		return nil //nolint:nilerr // containerd's disk is not ours to see: it will say itself
	}
	if q.req.MakeRoom != nil {
		q.req.MakeRoom(ctx, need)
		if short, err = lacks(); err != nil || short <= 0 {
			return nil //nolint:nilerr // as above
		}
	}
	return fmt.Errorf("image %s needs about %d MiB: %w", q.named, need>>20, container.ErrNoSpace)
}

// lease keeps containerd's garbage collector from what is fetched, also after
// a failure, so that the next try goes on from there. release ends it.
func (r *Runtime) lease(ctx context.Context, d digest.Digest) (context.Context, func() error, error) {
	service := r.client.LeasesService()
	id := "berth-pull-" + d.Encoded()
	lease, err := service.Create(ctx, leases.WithID(id), leases.WithExpiration(leaseLife))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return ctx, nil, err
	}
	if err != nil {
		lease = leases.Lease{ID: id}
	}
	release := func() error {
		err := service.Delete(context.WithoutCancel(ctx), lease)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	return leases.WithLease(ctx, lease.ID), release, nil
}

package ctrd

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/runtime/container"
)

// tracker watches one fetch: how much of which layer is here, and whether it
// moves.
type tracker struct {
	target ocispec.Descriptor

	mu     sync.Mutex // guards all below
	order  []digest.Digest
	layers map[digest.Digest]*part
	begun  bool      // a byte has come
	open   int       // readers of the network under way
	moved  time.Time // of the last byte, or of the last reader opened or closed
}

type part struct {
	fetched, total int64
}

func newTracker(target ocispec.Descriptor) *tracker {
	return &tracker{target: target, layers: make(map[digest.Digest]*part), moved: time.Now()}
}

// handled notes that a part is here, and what it consists of.
func (t *tracker) handled(desc ocispec.Descriptor, children []ocispec.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.layers[desc.Digest]; ok {
		p.fetched = p.total
	}
	if !images.IsManifestType(desc.MediaType) {
		return
	}
	for _, child := range children {
		if _, ok := t.layers[child.Digest]; !ok && images.IsLayerType(child.MediaType) {
			t.order = append(t.order, child.Digest)
			t.layers[child.Digest] = &part{total: child.Size}
		}
	}
}

// progress is the state now.
func (t *tracker) progress() container.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := container.Progress{Stage: "fetching", Digest: t.target.Digest.String()}
	for _, d := range t.order {
		l := t.layers[d]
		p.Layers = append(p.Layers, container.LayerProgress{Digest: d.String(), Fetched: l.fetched, Total: l.total})
		p.Fetched += l.fetched
		p.Total += l.total
	}
	if p.Total > 0 && p.Fetched == p.Total {
		p.Stage = "unpacking"
	}
	return p
}

// guard cancels the fetch when it has not moved for the timeout. A time in
// which nothing is read from the network is containerd's, which unpacks: it
// does not count.
func (t *tracker) guard(ctx context.Context, timeout time.Duration, cancel context.CancelCauseFunc) {
	t.mu.Lock()
	t.moved = time.Now()
	t.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		t.mu.Lock()
		idle := time.Since(t.moved)
		if t.open == 0 {
			idle = 0
		}
		begun := t.begun
		t.mu.Unlock()
		switch {
		case idle < timeout:
		case begun || timeout < beginPatience:
			cancel(errInactive)
			return
		default:
			cancel(errNotBegun)
			return
		}
		timer.Reset(timeout - idle)
	}
}

// opened and closed count the readers of the network.
func (t *tracker) opened() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
	t.moved = time.Now()
}

func (t *tracker) closed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	t.moved = time.Now()
}

// at notes how far the reading of a part is.
func (t *tracker) at(d digest.Digest, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved, t.begun = time.Now(), true
	if p, ok := t.layers[d]; ok {
		p.fetched = min(offset, p.total)
	}
}

func (t *tracker) fetcher(inner remotes.Fetcher) remotes.Fetcher {
	return remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		t.opened() // an open that hangs is as dead as a read that does
		rc, err := inner.Fetch(ctx, desc)
		if err != nil {
			t.closed()
			return nil, err
		}
		w := &watched{ReadCloser: rc, t: t, d: desc.Digest}
		if s, ok := rc.(io.Seeker); ok {
			return &watchedSeeker{watched: w, Seeker: s}, nil
		}
		return w, nil
	})
}

// watched is a reader of the network.
type watched struct {
	io.ReadCloser

	t      *tracker
	d      digest.Digest
	offset int64
	once   sync.Once
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.offset += int64(n)
		w.t.at(w.d, w.offset)
	}
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.once.Do(w.t.closed)
	return w.ReadCloser.Close()
}

// watchedSeeker is a reader that can begin in the middle, which makes an
// interrupted fetch go on.
type watchedSeeker struct {
	*watched
	io.Seeker
}

// Seek implements io.Seeker.
func (w *watchedSeeker) Seek(offset int64, whence int) (int64, error) {
	n, err := w.Seeker.Seek(offset, whence)
	if err == nil {
		w.offset = n
		w.t.at(w.d, n)
	}
	return n, err
}

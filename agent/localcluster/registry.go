package localcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
)

// maxManifest is the largest manifest a registry must take (4 MiB by the OCI
// distribution specification).
const maxManifest = 4 << 20

// keptRegistry is an OCI registry whose blobs are files and whose manifests are
// remembered: each accepted one is written down, and put again at the start.
type keptRegistry struct {
	next http.Handler
	dir  string
	log  *zap.Logger

	mu   sync.Mutex // Guards last, and orders manifests and their files.
	last int
}

// keptManifest is a manifest as it was put.
type keptManifest struct {
	Path        string `json:"path"` // Such as /v2/web/manifests/latest.
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

var manifestPath = regexp.MustCompile(`^/v2/.+/manifests/[^/]+$`)

// newRegistry makes a registry in a directory, or in memory if there is none.
func newRegistry(dir string, log *zap.Logger) (http.Handler, error) {
	quiet := zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(max(zap.WarnLevel, log.Level()))))
	if dir == "" {
		return withoutOpenRanges(registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true))), nil
	}
	k := &keptRegistry{dir: filepath.Join(dir, "manifests"), log: log}
	if err := errors.Join(os.MkdirAll(k.dir, 0o750), os.MkdirAll(filepath.Join(dir, "blobs"), 0o750)); err != nil {
		return nil, fmt.Errorf("cannot make registry: %w", err)
	}
	k.next = withoutOpenRanges(registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(filepath.Join(dir, "blobs")))))
	if err := k.replay(); err != nil {
		return nil, fmt.Errorf("cannot read registry: %w", err)
	}
	return k, nil
}

// withoutOpenRanges answers "from there to the end" with the whole, as HTTP
// allows: the library refuses such ranges, and a pull that goes on where it was
// broken off asks for one.
func withoutOpenRanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Range"), "-") {
			r.Header.Del("Range")
		}
		next.ServeHTTP(w, r)
	})
}

// replay puts the kept manifests in the order in which they came, so that an
// index follows what it lists.
func (k *keptRegistry) replay() error {
	files, err := filepath.Glob(filepath.Join(k.dir, "*.json"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var m keptManifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("manifest in %s: %w", file, err)
		}
		if status := k.put(&m); status >= 300 {
			k.log.Warn("cannot restore manifest, push it again", zap.String("path", m.Path), zap.Int("status", status))
		}
		if _, err := fmt.Sscanf(filepath.Base(file), "%d.json", &k.last); err != nil {
			return fmt.Errorf("file name of %s: %w", file, err)
		}
	}
	return nil
}

func (k *keptRegistry) put(m *keptManifest) int {
	w := &recorder{header: http.Header{}, code: http.StatusOK}
	k.next.ServeHTTP(w, &http.Request{
		Method: http.MethodPut, URL: &url.URL{Path: m.Path}, Header: http.Header{"Content-Type": {m.ContentType}},
		Body: io.NopCloser(bytes.NewReader(m.Body)), ContentLength: int64(len(m.Body)),
	})
	return w.code
}

// recorder keeps an answer until it may be given.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) { r.code = code }

func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// ServeHTTP passes everything on, and keeps what changes manifests.
func (k *keptRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isManifest := manifestPath.MatchString(r.URL.Path)
	switch {
	case isManifest && r.Method == http.MethodPut:
		k.keep(w, r)
	case isManifest && r.Method == http.MethodDelete:
		k.mu.Lock()
		defer k.mu.Unlock()
		if err := k.forget(r.URL.Path); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		k.next.ServeHTTP(w, r)
	default:
		k.next.ServeHTTP(w, r)
	}
}

// keep writes a manifest down before it says that it was accepted.
func (k *keptRegistry) keep(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := &recorder{header: http.Header{}, code: http.StatusOK}
	k.next.ServeHTTP(answer, r)
	if answer.code < 300 {
		m := &keptManifest{Path: r.URL.Path, ContentType: r.Header.Get("Content-Type"), Body: body}
		if err := k.replace(m); err != nil {
			k.log.Error("cannot keep manifest", zap.Error(err))
			http.Error(w, "cannot keep manifest: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	maps.Copy(w.Header(), answer.header)
	w.WriteHeader(answer.code)
	_, _ = w.Write(answer.body.Bytes()) // The caller may have gone.
}

func (k *keptRegistry) write(m *keptManifest) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	k.last++
	return replaceFile(filepath.Join(k.dir, fmt.Sprintf("%09d.json", k.last)), raw)
}

// replace keeps a manifest. When a tag moves to it, the one before stays known
// by its digest.
func (k *keptRegistry) replace(m *keptManifest) error {
	file, old, err := k.find(m.Path)
	if err != nil {
		return err
	}
	if err := k.write(m); err != nil || old == nil {
		return err
	}
	if bytes.Equal(old.Body, m.Body) {
		return os.Remove(file)
	}
	old.Path = m.Path[:strings.LastIndexByte(m.Path, '/')+1] + digest.FromBytes(old.Body).String()
	raw, err := json.Marshal(old)
	if err != nil {
		return err
	}
	return replaceFile(file, raw)
}

// forget removes the file of a manifest that is deleted.
func (k *keptRegistry) forget(path string) error {
	file, old, err := k.find(path)
	if err != nil || old == nil {
		return err
	}
	return os.Remove(file)
}

// find looks for the file of a manifest; there is none when the manifest is nil.
func (k *keptRegistry) find(path string) (string, *keptManifest, error) {
	files, err := filepath.Glob(filepath.Join(k.dir, "*.json"))
	if err != nil {
		return "", nil, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", nil, err
		}
		var m keptManifest
		if json.Unmarshal(raw, &m) == nil && m.Path == path {
			return file, &m, nil
		}
	}
	return "", nil, nil
}

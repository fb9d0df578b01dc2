package runtimetest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry is an image registry on loopback, in memory, that holds small images
// made of the host's static busybox.
type Registry struct {
	// Host is its host and port, the first part of every reference.
	Host string
	// Busybox is the reference of an image with busybox in /bin, no entry point
	// and the command sh.
	Busybox string

	tb    testing.TB
	layer v1.Layer
	store http.Handler

	mu       sync.Mutex // guards what follows
	requests []string
	hook     func(http.ResponseWriter, *http.Request) bool
}

// Images starts a registry for the test and pushes Busybox into it. The test is
// skipped where there is no static busybox.
func Images(tb testing.TB) *Registry {
	tb.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		tb.Skipf("needs a static busybox (package busybox-static): %v", err)
	}
	layer, err := busyboxLayer(path)
	if err != nil {
		tb.Fatal(err)
	}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := &Registry{tb: tb, layer: layer, store: store}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.Path)
		hook := r.hook
		r.mu.Unlock()
		if hook == nil || !hook(w, req) {
			store.ServeHTTP(w, req)
		}
	}))
	tb.Cleanup(server.Close)
	r.Host = strings.TrimPrefix(server.URL, "http://")
	r.Busybox = r.Push("busybox:1", v1.Config{
		Cmd: []string{"sh"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, nil)
	r.Forget()
	return r
}

// Push makes an image of busybox, the configuration and the further files (by
// path in the image), and returns its reference. repo may hold a tag.
func (r *Registry) Push(repo string, config v1.Config, files map[string]string) string {
	r.tb.Helper()
	layers := []v1.Layer{r.layer}
	if len(files) > 0 {
		layer, err := tarLayer(func(w *tar.Writer) error {
			for path, content := range files {
				if err := writeFile(w, strings.TrimPrefix(path, "/"), []byte(content)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			r.tb.Fatal(err)
		}
		layers = append(layers, layer)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		r.tb.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		r.tb.Fatal(err)
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture = config, "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, file); err != nil {
		r.tb.Fatal(err)
	}
	ref, err := name.ParseReference(r.Host+"/"+repo, name.Insecure)
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(r.tb.Context())); err != nil {
		r.tb.Fatal(err)
	}
	return r.Host + "/" + repo
}

// Hook has fn see every request first; when it returns true, it has answered.
// nil takes the hook away.
func (r *Registry) Hook(fn func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = fn
}

// Serve answers a request as without a hook; a hook calls it to damage the
// answer.
func (r *Registry) Serve(w http.ResponseWriter, req *http.Request) { r.store.ServeHTTP(w, req) }

// Requests are the requests since the last Forget, as "METHOD PATH" lines.
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// Forget empties Requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// busyboxLayer is a root file system: busybox, a link for each applet, and what
// user names are looked up in.
func busyboxLayer(path string) (v1.Layer, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(path, "--list").Output() //nolint:noctx // ends by itself
	if err != nil {
		return nil, fmt.Errorf("cannot list applets of %s: %w", path, err)
	}
	return tarLayer(func(w *tar.Writer) error {
		for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "root/", "tmp/"} {
			mode := int64(0o755)
			if dir == "tmp/" {
				mode = 0o1777
			}
			if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: mode}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(binary))}); err != nil {
			return err
		}
		if _, err := w.Write(binary); err != nil {
			return err
		}
		for applet := range strings.FieldsSeq(string(list)) {
			if applet == "busybox" {
				continue
			}
			h := &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
		}
		if err := writeFile(w, "etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")); err != nil {
			return err
		}
		return writeFile(w, "etc/group", []byte("root:x:0:\nada:x:1000:\nstaff:x:50:ada\ndisk:x:6:\n"))
	})
}

func tarLayer(fill func(*tar.Writer) error) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
}

func writeFile(w *tar.Writer, path string, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

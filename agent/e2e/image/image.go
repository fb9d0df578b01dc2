// Package image makes the image that the stories, the bench and the demo run:
// the host's static busybox and a page for its web server.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// tools are the names that busybox has in the image.
const tools = "sh sleep echo cat ls httpd wget env id hostname mount touch seq head tail dd true false kill trap nc test ip date ps grep yes printf stat ulimit"

// Push makes the image with a configuration, and programs of the host in /bin,
// and pushes it to a registry that speaks plain HTTP.
func Push(reference string, config v1.Config, programs ...string) error {
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return fmt.Errorf("cannot push: %w", err)
	}
	image, err := busybox(config, programs)
	if err != nil {
		return fmt.Errorf("cannot make the image: %w", err)
	}
	if err := remote.Write(ref, image); err != nil {
		return fmt.Errorf("cannot push %s: %w", reference, err)
	}
	return nil
}

func busybox(config v1.Config, programs []string) (v1.Image, error) {
	content, err := layer(programs)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = runtime.GOARCH, "linux", config
	return mutate.ConfigFile(image, file)
}

// layer is the file system: a few directories, busybox, accounts and a page, and
// the programs.
func layer(programs []string) ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("needs a static busybox (package busybox-static): %w", err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	var errs []error
	add := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		errs = append(errs, w.WriteHeader(h))
		_, err := w.Write(body)
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin/", "tmp/", "etc/", "www/", "root/", "usr/", "usr/local/", "usr/local/apache2/", "usr/local/apache2/htdocs/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o1777}, nil)
	}
	add(&tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	add(&tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n"))
	add(&tar.Header{Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nweb:x:1000:\n"))
	add(&tar.Header{Name: "www/index.html", Mode: 0o644}, []byte("hello from berth\n"))
	// What somebody fills a volume with: a directory and a program with more rights than most.
	add(&tar.Header{Typeflag: tar.TypeDir, Name: "opt/", Mode: 0o2775, Gid: 1000}, nil)
	add(&tar.Header{Name: "opt/su", Mode: 0o4755}, []byte("#!/bin/sh\n"))
	for tool := range strings.FieldsSeq(tools) {
		add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + tool, Linkname: "busybox", Mode: 0o777}, nil)
	}
	for _, path := range programs {
		program, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		add(&tar.Header{Name: "bin/" + filepath.Base(path), Mode: 0o755}, program)
	}
	return out.Bytes(), errors.Join(append(errs, w.Close())...)
}

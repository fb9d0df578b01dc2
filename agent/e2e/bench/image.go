package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pushBusybox pushes an image of the host's static busybox.
func pushBusybox(ctx context.Context, to string) error {
	ref, err := name.ParseReference(to, name.Insecure)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	raw, err := layer(binary)
	if err != nil {
		return err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return err
	}
	return remote.Write(ref, image, remote.WithContext(ctx))
}

// layer is a root file system with busybox as sh and sleep.
func layer(binary []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var errs []error
	add := func(h *tar.Header, body []byte) {
		h.Size = int64(len(body))
		errs = append(errs, w.WriteHeader(h))
		_, err := w.Write(body)
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin/", "etc/", "proc/", "sys/", "dev/"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, binary)
	for _, tool := range []string{"sh", "sleep"} {
		add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + tool, Linkname: "busybox", Mode: 0o777}, nil)
	}
	errs = append(errs, w.Close())
	return buf.Bytes(), errors.Join(errs...)
}

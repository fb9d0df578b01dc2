package ctrd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/runtime/container"
)

// An image may declare volumes: paths whose content is not to be in the layer that
// is written to. As with Docker each gets a directory that begins with what the
// image has there, can be written under a read-only root too, is seen by those who
// take the container's volumes, outlives restarts of the container and goes with
// it:
//
//	<VolumesDir>/<container>/<hash of the path>
//
// Whatever the container mounts at the path itself stands in for it.

// imageVolume is a directory of the host that a container sees at Path because an
// image says so.
type imageVolume struct {
	Path     string `json:"path"`
	Dir      string `json:"dir"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// imageVolumes adds the mounts of the volumes that the container's image declares,
// and of those that it takes from others, and says which they are.
func (r *Runtime) imageVolumes(ctx context.Context, spec *container.Spec, info imageInfo) ([]imageVolume, error) {
	if r.cfg.VolumesDir == "" || (len(info.Config.Volumes) == 0 && len(spec.VolumesFrom) == 0) {
		return nil, nil
	}
	taken := map[string]bool{"/": true}
	for _, m := range spec.Mounts {
		taken[cleanPath(m.Destination)] = true
	}
	spec.Mounts = slices.Clone(spec.Mounts) // They are the caller's.
	var all []imageVolume
	add := func(v imageVolume, own bool) {
		if taken[v.Path] {
			return
		}
		m := container.Mount{Type: "bind", Source: v.Dir, Destination: v.Path, Options: []string{"rbind"}, CreateSource: own, CopyUp: own}
		if v.ReadOnly {
			m.Options = append(m.Options, "ro")
		}
		spec.Mounts, all, taken[v.Path] = append(spec.Mounts, m), append(all, v), true
	}
	for _, from := range spec.VolumesFrom {
		s, err := r.load(ctx, from.Of)
		if errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("cannot take the volumes of container %s: there is none", from.Of)
		}
		if err != nil {
			return nil, err
		}
		for _, v := range s.record.Volumes {
			v.ReadOnly = v.ReadOnly || from.ReadOnly
			add(v, false)
		}
	}
	own := filepath.Join(r.cfg.VolumesDir, spec.ID)
	if len(info.Config.Volumes) > 0 {
		if err := os.MkdirAll(own, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make directory for volumes: %w", err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(info.Config.Volumes)) {
		path = cleanPath(path)
		sum := sha256.Sum256([]byte(path))
		add(imageVolume{Path: path, Dir: filepath.Join(own, hex.EncodeToString(sum[:8]))}, true)
	}
	return all, nil
}

// dropVolumes removes the volumes of a container's image. Nothing may run in it.
func (r *Runtime) dropVolumes(id string) error {
	if r.cfg.VolumesDir == "" {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(r.cfg.VolumesDir, id)); err != nil {
		return fmt.Errorf("cannot remove volumes: %w", err)
	}
	return nil
}

// sweepVolumes removes those of containers that there are not.
func (r *Runtime) sweepVolumes(kept map[string]bool) error {
	if r.cfg.VolumesDir == "" {
		return nil
	}
	entries, err := os.ReadDir(r.cfg.VolumesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list volumes: %w", err)
	}
	for _, e := range entries {
		if !kept[e.Name()] {
			if err := r.dropVolumes(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

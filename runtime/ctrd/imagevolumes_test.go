package ctrd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestImageVolumes: what an image declares as volumes are directories of their own,
// filled from the image, under a read-only root too; containers that take them see
// the same; they outlive a restart and go with the container that has them.
func TestImageVolumes(t *testing.T) {
	daemon := runtimetest.NewContainerd(t, "containerd")
	registry := runtimetest.Images(t)
	s := suite{address: daemon.Address, state: stateDir(t)}
	cfg := s.config(t, "imagevolumes")
	cfg.VolumesDir = filepath.Join(t.TempDir(), "volumes")
	rt := open(t, cfg)
	declaring := registry.Push("volumes:1", v1.Config{
		Cmd:     []string{"sh"},
		Env:     []string{"PATH=/bin"},
		Volumes: map[string]struct{}{"/srv/db": {}, "/new/": {}, "/mine": {}, "/scratch": {}},
	}, map[string]string{"/srv/db/seed": "from the image\n", "/mine/hidden": "hidden\n"})
	mine := t.TempDir()
	spec := func(id, ref, script string) container.Spec {
		c := container.Spec{ID: id, Image: ref}
		c.Process.Command = []string{"sh", "-c", script}
		c.Rights.ReadonlyRootfs = true
		return c
	}
	// Each start adds a line; what the container mounts itself stays as it is.
	owner := spec("owner", declaring, "set -e; test -s /srv/db/seed; echo again >>/srv/db/seed; touch /new/made; ! test -e /mine/hidden; "+
		"grep -q '^tmpfs /scratch' /proc/mounts; ! touch /x")
	owner.Mounts = []container.Mount{
		{Type: "bind", Source: mine, Destination: "/mine"},
		{Type: "tmpfs", Destination: "/scratch/"},
	}
	reader := spec("reader", registry.Busybox, "set -e; test -e /new/made; test $(grep -c again /srv/db/seed) = 2; ! touch /new/x; ! test -e /scratch")
	reader.VolumesFrom = []container.VolumesFrom{{Of: "owner", ReadOnly: true}}
	// What was taken read-only stays so for whoever takes it from there.
	second := spec("second", declaring, "set -e; test -e /new/made; ! touch /srv/db/x; touch /scratch/x; test -e /mine/hidden")
	second.VolumesFrom = []container.VolumesFrom{{Of: "reader"}}
	for _, ref := range []string{declaring, registry.Busybox} {
		if err := pullErr(t.Context(), rt, ref); err != nil {
			t.Fatal(err)
		}
	}
	run := func(id string) {
		t.Helper()
		if _, err := rt.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if st := awaitStopped(t, rt, id); st.Exit.Code != 0 {
			t.Errorf("container %s does not see what it should: %+v", id, st.Exit)
		}
	}
	if err := rt.Create(t.Context(), reader); err == nil {
		t.Error("the volumes of a container that there is not were taken")
	}
	for _, c := range []container.Spec{owner, reader, second} {
		t.Cleanup(func() { remove(t, rt, c.ID) })
		if err := rt.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"owner", "owner", "reader", "second"} {
		run(id)
	}
	kept := func() string {
		t.Helper()
		entries, err := os.ReadDir(cfg.VolumesDir)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, e := range entries {
			out.WriteString(e.Name() + " ")
		}
		return out.String()
	}
	if err := os.MkdirAll(filepath.Join(cfg.VolumesDir, "stray", "0123"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := kept(); got != "owner second " {
		t.Errorf("after the sweep there are volumes of %q", got)
	}
	remove(t, rt, "owner")
	remove(t, rt, "second")
	if got := kept(); got != "" {
		t.Errorf("removed containers leave volumes of %q", got)
	}
}

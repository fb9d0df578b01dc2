package resources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/volume"
)

// shelf is a Volumes in memory: who uses what.
type shelf struct {
	mu    sync.Mutex // guards the fields below
	users map[string][]string
	disks map[string]bool
	// refuse is what the volume of a name fails with.
	refuse map[string]error
}

func (s *shelf) Acquire(_ context.Context, user string, w volume.Volume) (volume.Place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse[w.Name]; err != nil {
		return volume.Place{}, err
	}
	if !slices.Contains(s.users[w.Name], user) {
		s.users[w.Name] = append(s.users[w.Name], user)
	}
	return volume.Place{Path: s.Path(w), CopyUp: w.EFS == nil}, nil
}

func (s *shelf) Release(context.Context, string) error { return nil }

func (s *shelf) Remove(_ context.Context, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.users {
		s.users[name] = slices.DeleteFunc(s.users[name], func(u string) bool { return u == user })
	}
	return nil
}

func (*shelf) Path(w volume.Volume) string {
	if w.EFS != nil {
		return "/efs/" + w.EFS.FileSystemID + w.EFS.CredentialsURI + w.EFS.NetNS
	}
	return "/volumes/" + w.Name
}

func (s *shelf) AwaitEBS(ctx context.Context, e volume.EBS) error {
	if e.VolumeID == "vol-never" {
		<-ctx.Done()
		return fmt.Errorf("cannot find EBS volume %s: %w: %w", e.VolumeID, volume.ErrNotAttached, context.Cause(ctx))
	}
	return nil
}

func (s *shelf) StageEBS(_ context.Context, _ string, e volume.EBS) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks[e.Directory] = true
	return nil
}

func (s *shelf) UnstageEBS(_ context.Context, e volume.EBS) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.disks, e.Directory)
	return nil
}

func (*shelf) EBSPath(e volume.EBS) string { return "/ebs/" + e.Directory }

func newShelf() (*shelf, *Resources) {
	s := &shelf{users: map[string][]string{}, disks: map[string]bool{}, refuse: map[string]error{}}
	return s, New(Config{Volumes: s, NetNS: func(d *task.Definition) string { return "/netns/" + d.ID }})
}

const volumeARN = "arn:aws:ecs:eu-west-1:111122223333:task/c/9ab0"

func TestVolumes(t *testing.T) {
	s, r := newShelf()
	d := &task.Definition{
		ARN: volumeARN, ID: "9ab0", Family: "shop/web", Version: "7", RoleID: "role-1", Network: task.NetworkAWSVPC,
		Volumes: []task.Volume{
			{Name: "path", Kind: task.VolumeHost, Source: "/srv"},
			{Name: "empty", Kind: task.VolumeHost},
			{Name: "ours", Kind: task.VolumeDocker, Shared: true},
			{Name: "files", Kind: task.VolumeEFS, EFS: &task.EFS{FileSystemID: "fs-1", TLS: true, IAM: true}},
			{Name: "disk", Kind: task.VolumeEBS, Source: "9ab0_vol-1", EBS: &task.EBS{VolumeID: "vol-1"}},
			{Name: "unmounted", Kind: task.VolumeDocker, Shared: true, Autoprovision: true},
		},
		Containers: []task.Container{
			{Name: "a", Mounting: task.Mounting{VolumeMounts: []task.VolumeMount{
				{Volume: "empty", Destination: "/empty"},
				{Volume: "ours", Destination: "/ours", ReadOnly: true, Options: []string{"nocopy", "rslave"}},
				{Volume: "files", Destination: "/files"},
				{Volume: "disk", Destination: "/disk"},
				{Volume: "disk", Destination: "/disk2"},
			}}},
			{Name: "b", Spec: container.Spec{Mounts: []container.Mount{
				{Type: "bind", Source: "/srv", Destination: "/path"}, {Type: "tmpfs", Destination: "/run"},
			}}},
		},
	}
	got, err := r.Provision(t.Context(), Task{Definition: d})
	if err != nil {
		t.Fatal(err)
	}
	mounts := got["a"].Mounts
	if len(mounts) != 5 || !strings.HasPrefix(mounts[0].Source, "/volumes/ecs-shopweb-7-empty-") || len(mounts[0].Source) != len("/volumes/ecs-shopweb-7-empty-")+20 {
		t.Fatalf("mounts %+v", mounts)
	}
	empty := strings.TrimPrefix(mounts[0].Source, "/volumes/")
	e := volume.EBS{Directory: "9ab0_vol-1"}
	want := map[string]Outfit{"a": {
		Groups: []string{fmt.Sprint(e.GID())},
		Mounts: []container.Mount{
			{Type: "bind", Source: "/volumes/" + empty, Destination: "/empty", Options: []string{"rbind"}, CopyUp: true},
			{Type: "bind", Source: "/volumes/ours", Destination: "/ours", Options: []string{"rbind", "ro", "rslave"}},
			{Type: "bind", Source: "/efs/fs-1/v2/credentials/role-1/netns/9ab0", Destination: "/files", Options: []string{"rbind"}},
			{Type: "bind", Source: "/ebs/9ab0_vol-1", Destination: "/disk", Options: []string{"rbind"}},
			{Type: "bind", Source: "/ebs/9ab0_vol-1", Destination: "/disk2", Options: []string{"rbind"}},
		},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Outfit{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(s.users) != 4 || len(s.users["unmounted"]) != 1 || !s.disks["9ab0_vol-1"] {
		t.Errorf("made: %v, %v", s.users, s.disks)
	}

	wantViews := map[string][]VolumeView{
		"a": {
			{empty, "/volumes/" + empty, "/empty"},
			{"ours", "/volumes/ours", "/ours"},
			{VolumeName(d, &d.Volumes[3]), "/efs/fs-1/v2/credentials/role-1/netns/9ab0", "/files"},
			{"", "/ebs/9ab0_vol-1", "/disk"},
			{"", "/ebs/9ab0_vol-1", "/disk2"},
		},
		"b": {{"", "/srv", "/path"}},
	}
	for i := range d.Containers {
		c := &d.Containers[i]
		if diff := cmp.Diff(wantViews[c.Name], r.VolumeViews(d, c)); diff != "" {
			t.Errorf("views of %s (-want +got):\n%s", c.Name, diff)
		}
	}

	if err := r.Release(t.Context(), d); err != nil || len(s.disks) > 0 {
		t.Errorf("released: %v, %v", s.disks, err)
	}
	if err := r.Remove(t.Context(), d); err != nil || len(s.users["ours"]) > 0 {
		t.Errorf("removed: %v, %v", s.users, err)
	}
}

func TestVolumeReasons(t *testing.T) {
	for _, tc := range []struct {
		volume task.Volume
		want   string
	}{
		{
			task.Volume{Name: "v", Kind: task.VolumeDocker, Autoprovision: true},
			"volume [v] : task scoped volume could not be autoprovisioned",
		},
		{task.Volume{Name: "full", Kind: task.VolumeDocker, Shared: true}, "no space left on device"},
	} {
		s, r := newShelf()
		s.refuse["full"] = errors.New("no space left on device")
		_, err := r.Provision(t.Context(), Task{Definition: &task.Definition{ARN: volumeARN, ID: "9ab0", Volumes: []task.Volume{tc.volume}}})
		if err == nil || err.Error() != tc.want {
			t.Errorf("Provision: %v\nwant: %s", err, tc.want)
		}
	}
}

// A volume that does not come ends its task when ECS would have given it up.
func TestVolumeNeverAttached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		begun := time.Now()
		_, err := r.Provision(t.Context(), Task{Definition: &task.Definition{ARN: volumeARN, ID: "9ab0", Volumes: []task.Volume{
			{Name: "disk", Kind: task.VolumeEBS, Source: "x", EBS: &task.EBS{VolumeID: "vol-never"}},
		}}})
		const want = "cannot find EBS volume vol-never: the volume is not attached to this host: it was not attached in time"
		if err == nil || err.Error() != want || time.Since(begun) != 5*time.Minute || len(s.disks) > 0 {
			t.Errorf("after %v: %v\nwant: %s", time.Since(begun), err, want)
		}
	})
}

// Names are the same for ever, differ by task and volume, and fit in a directory.
func TestVolumeName(t *testing.T) {
	name := func(arn, family, volume string) string {
		return VolumeName(&task.Definition{ARN: arn, Family: family, Version: "1"}, &task.Volume{Name: volume})
	}
	long := strings.Repeat("x", 255)
	all := []string{
		name("t1", "f", "v"), name("t2", "f", "v"), name("t1", "f", "w"),
		name("t1", long, long+"a"), name("t1", long, long+"b"),
	}
	for i, n := range all {
		if len(n) > 240 || slices.Contains(all[:i], n) {
			t.Errorf("name %d: %s", i, n)
		}
	}
	if all[0] != name("t1", "f", "v") {
		t.Error("the name is another one the second time")
	}
	if got := VolumeName(&task.Definition{}, &task.Volume{Name: "data", Kind: task.VolumeDocker, Shared: true}); got != "data" {
		t.Errorf("shared: %s", got)
	}
}

// Tasks without such volumes pay nothing.
func TestVolumesNotWanted(t *testing.T) {
	_, r := newShelf()
	if r.volumes.wants(&task.Definition{Volumes: []task.Volume{{Name: "path", Kind: task.VolumeHost, Source: "/srv"}}}) {
		t.Error("a path of the host is wanted")
	}
}

package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReloaded(t *testing.T) {
	load := func(lines ...string) Config {
		c, _ := mustLoad(t, sources{file: strings.Join(lines, "\n")})
		return c
	}
	before := load("ECS_CLUSTER=blue", "ECS_LOGLEVEL=info", "ECS_ENGINE_AUTH_DATA=one", "AWS_SECRET_ACCESS_KEY=old", "ECS_IMAGE_PULL_BEHAVIOR=always")
	after := load("ECS_CLUSTER=green", "ECS_LOGLEVEL=debug", "ECS_ENGINE_AUTH_DATA=two", "AWS_SECRET_ACCESS_KEY=new", "ECS_IMAGE_PULL_BEHAVIOR=once",
		"BERTH_IMAGE_DISK_HIGH=91")
	now, live, late := before.Reloaded(after)
	slices.Sort(live)
	slices.Sort(late)
	if diff := cmp.Diff([]string{"BERTH_IMAGE_DISK_HIGH", "ECS_ENGINE_AUTH_DATA", "ECS_LOGLEVEL"}, live); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"AWS_SECRET_ACCESS_KEY", "ECS_CLUSTER", "ECS_IMAGE_PULL_BEHAVIOR"}, late); diff != "" {
		t.Error(diff)
	}
	if now.Cluster != "blue" || now.Agent.LogLevel != "debug" || now.Image.AuthData != "two" || now.AWS.SecretAccessKey != "old" ||
		now.Image.PullBehavior != PullAlways || now.Image.DiskHigh != 91 {
		t.Errorf("in effect is %+v", now)
	}
	for _, s := range now.Settings() {
		if want := map[string]string{"ECS_CLUSTER": "blue", "ECS_LOGLEVEL": "debug", "BERTH_IMAGE_DISK_HIGH": "91"}[s.Name]; want != "" && s.Value != want {
			t.Errorf("%s is shown as %s", s.Name, s.Value)
		}
	}
	if _, live, late := now.Reloaded(now); len(live)+len(late) > 0 {
		t.Errorf("nothing changed, and %q and %q differ", live, late)
	}
}

// A row that is live has to exist, and what it sets has to be taken over.
func TestLiveSettingsAreTakenOver(t *testing.T) {
	values := map[string]string{
		"ECS_LOGLEVEL": "debug", "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "false", "ECS_ENGINE_AUTH_TYPE": "docker", "ECS_ENGINE_AUTH_DATA": "{}",
		"ECS_DISABLE_IMAGE_CLEANUP": "true", "ECS_IMAGE_CLEANUP_INTERVAL": "77m", "ECS_IMAGE_MINIMUM_CLEANUP_AGE": "77m",
		"ECS_NUM_IMAGES_DELETE_PER_CYCLE": "77", "ECS_EXCLUDE_UNTRACKED_IMAGE": "a,b", "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP": "true",
		"NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE": "77m", "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE": "77", "BERTH_IMAGE_DISK_HIGH": "66", "BERTH_IMAGE_DISK_LOW": "55",
	}
	before, _ := mustLoad(t, sources{})
	for _, name := range Live() {
		after, _ := mustLoad(t, sources{file: name + "=" + values[name]})
		now, live, late := before.Reloaded(after)
		if !slices.Contains(live, name) || len(late) > 0 {
			t.Errorf("%s: live %q, late %q", name, live, late)
		}
		i := slices.IndexFunc(table(), func(r row) bool { return r.name == name })
		if i < 0 {
			t.Errorf("%s is no setting", name)
			continue
		}
		if got, want := table()[i].show(&now), table()[i].show(&after); got != want {
			t.Errorf("%s: in effect is %q, want %q", name, got, want)
		}
	}
}

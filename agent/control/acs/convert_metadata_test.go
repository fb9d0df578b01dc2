package acs

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	wire "github.com/berthd/berth/agent/wire/acs"
)

// TestMetadataEnvironment: steps 3 and 5 of spec/task-engine.md §6, by network
// mode.
func TestMetadataEnvironment(t *testing.T) {
	const text = `{"arn":"arn:aws:ecs:eu-west-1:1:task/c/0123456789abcdef","family":"f","version":"1","desiredStatus":"RUNNING","networkMode":"MODE",
	 "roleCredentials":{"credentialsId":"role-id"},
	 "containers":[{"name":"a","image":"i","environment":{"B":"2","A":"1","ECS_AGENT_URI":"mine"}},{"name":"b","image":"i"}]}`
	all := Conversion{Metadata: true, TaskRoles: true, TaskRolesHost: true}
	for _, tc := range []struct {
		name, mode string
		cv         Conversion
		want       string
	}{
		{"bridge", "bridge", all, "A=1 B=2 ROLE V3 V4 API"},
		{"host", "host", all, "A=1 B=2 ROLE V3 V4 API"},
		{"host without roles", "host", Conversion{Metadata: true, TaskRoles: true}, "A=1 B=2 V3 V4 API"},
		{"bridge without roles", "bridge", Conversion{Metadata: true, TaskRolesHost: true}, "A=1 B=2 V3 V4 API"},
		{"nothing", "bridge", Conversion{}, "A=1 B=2 ECS_AGENT_URI=mine"},
		{"none", "none", all, "A=1 B=2 ROLE V3 V4 API"},
	} {
		var task wire.Task
		if err := json.Unmarshal([]byte(strings.Replace(text, "MODE", tc.mode, 1)), &task); err != nil {
			t.Fatal(err)
		}
		d, err := tc.cv.Convert(&task, "tasks[0]")
		if err != nil {
			t.Fatal(err)
		}
		id := d.Containers[0].MetadataID
		got := strings.NewReplacer(
			"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/role-id", "ROLE",
			"ECS_CONTAINER_METADATA_URI=http://169.254.170.2/v3/"+id, "V3",
			"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/"+id, "V4",
			"ECS_AGENT_URI=http://169.254.170.2/api/"+id, "API",
		).Replace(strings.Join(d.Containers[0].Spec.Process.Env, " "))
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if tc.cv.Metadata && (len(id) != 36 || id == d.Containers[1].MetadataID) {
			t.Errorf("%s: ids %q and %q", tc.name, id, d.Containers[1].MetadataID)
		}
	}

	// An agent beside the host's own is not what 169.254.170.2 leads to.
	all.MetadataHost = "127.0.0.1:4711"
	var task wire.Task
	if err := json.Unmarshal([]byte(strings.Replace(text, "MODE", "host", 1)), &task); err != nil {
		t.Fatal(err)
	}
	d, err := all.Convert(&task, "tasks[0]")
	if err != nil {
		t.Fatal(err)
	}
	env := d.Containers[0].Spec.Process.Env
	if !slices.Contains(env, "ECS_CONTAINER_METADATA_URI_V4=http://127.0.0.1:4711/v4/"+d.Containers[0].MetadataID) || strings.Contains(strings.Join(env, " "), "CREDENTIALS") {
		t.Errorf("environment %q", env)
	}
}

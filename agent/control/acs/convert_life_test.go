package acs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// TestConvertNamespaces: of the modes of a task each container gets what it can
// know; what they share is the engine's.
func TestConvertNamespaces(t *testing.T) {
	for _, tc := range []struct {
		members  string
		pid, ipc string // the task's
		want     [2]container.Namespace
	}{
		{`"pidMode":"task","ipcMode":"task"`, "task", "task", [2]container.Namespace{}},
		{`"pidMode":"host","ipcMode":"host"`, "host", "host", [2]container.Namespace{{Mode: "host"}, {Mode: "host"}}},
		{`"pidMode":"none","ipcMode":"none"`, "", "none", [2]container.Namespace{{}, {Mode: "none"}}},
		{`"pidMode":"magic","ipcMode":"magic"`, "", "", [2]container.Namespace{}},
	} {
		d, err := Conversion{}.Convert(readTask(t, withTask(tc.members)), "t")
		if err != nil {
			t.Errorf("%s: %v", tc.members, err)
			continue
		}
		spec := d.Containers[0].Spec
		if d.PID != tc.pid || d.IPC != tc.ipc || spec.PID != tc.want[0] || spec.IPC != tc.want[1] {
			t.Errorf("%s: task %q %q, container %+v %+v", tc.members, d.PID, d.IPC, spec.PID, spec.IPC)
		}
	}
}

// TestConvertHealth: the check, and whether it is reported, are two things.
func TestConvertHealth(t *testing.T) {
	for _, tc := range []struct {
		members string
		want    *container.Healthcheck
		report  bool
	}{
		{"", nil, false},
		{
			`"healthCheckType":"docker","dockerConfig":{"config":"{\"HealthCheck\":{\"Test\":[\"CMD\",\"x\"],\"Retries\":2}}"}`,
			&container.Healthcheck{Test: []string{"CMD", "x"}, Retries: 2}, true,
		},
		{
			`"dockerConfig":{"config":"{\"Healthcheck\":{\"test\":[\"NONE\"]}}"}`,
			&container.Healthcheck{Test: []string{"NONE"}}, false,
		},
		{
			`"dockerConfig":{"config":"{\"Healthcheck\":{\"Interval\":7000000000}}"}`, // the image's, at other times
			&container.Healthcheck{Interval: 7 * time.Second}, false,
		},
	} {
		d, err := Conversion{}.Convert(readTask(t, one(tc.members)), "t")
		if err != nil {
			t.Errorf("%s: %v", tc.members, err)
			continue
		}
		c := d.Containers[0]
		if diff := cmp.Diff(tc.want, c.HealthCheck); diff != "" || c.ReportHealth != tc.report {
			t.Errorf("%s: reported %v, %s", tc.members, c.ReportHealth, diff)
		}
	}
}

// TestConvertManagedAgents: only those that the host can run.
func TestConvertManagedAgents(t *testing.T) {
	text := one(`"managedAgents":[{"name":"ExecuteCommandAgent","properties":{"sessionLimit":"3"}}]`)
	d, err := Conversion{ManagedAgents: []string{"ExecuteCommandAgent"}}.Convert(readTask(t, text), "t")
	if err != nil {
		t.Fatal(err)
	}
	want := []task.ManagedAgent{{Name: "ExecuteCommandAgent", Properties: map[string]string{"sessionLimit": "3"}}}
	if diff := cmp.Diff(want, d.Containers[0].ManagedAgents); diff != "" {
		t.Error(diff)
	}
	if _, err := (Conversion{}).Convert(readTask(t, text), "t"); !isUnsupported(err) {
		t.Errorf("without the binaries: %v", err)
	}
}

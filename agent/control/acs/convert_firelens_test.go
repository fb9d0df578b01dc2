package acs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
)

// routedTask is a task of containers, which are JSON without their braces.
func routedTask(containers ...string) string {
	for i, c := range containers {
		containers[i] = fmt.Sprintf(`{"image":"box",%s}`, c)
	}
	return fmt.Sprintf(`{"arn":%q,"desiredStatus":"RUNNING","containers":[%s]}`, taskARN, strings.Join(containers, ","))
}

// logging is the member that gives a container its log driver.
func logging(driver string) string {
	return fmt.Sprintf(`"dockerConfig":{"hostConfig":"{\"LogConfig\":{\"Type\":\"%s\",\"Config\":{\"Name\":\"http\"}}}"}`, driver)
}

const aRouter = `"name":"router","firelensConfiguration":{"type":"fluentbit","options":{"enable-ecs-log-metadata":"true"}}`

func TestConvertFirelens(t *testing.T) {
	start := []task.Dependency{{Container: "router", Condition: task.ConditionStart}}
	for _, tt := range []struct {
		name       string
		containers []string
		want       []task.Dependency // of app
	}{
		{"waits for the router", []string{`"name":"app",` + logging("awsfirelens"), aRouter}, start},
		{"does not, with another driver", []string{`"name":"app",` + logging("json-file"), aRouter}, nil},
		{"keeps its own condition", []string{
			`"name":"app","dependsOn":[{"containerName":"router","condition":"HEALTHY"}],` + logging("awsfirelens"), aRouter,
		}, []task.Dependency{{Container: "router", Condition: task.ConditionHealthy}}},
		{"does not wait for one that waits", []string{
			`"name":"app",` + logging("awsfirelens"), aRouter + `,"dependsOn":[{"containerName":"app","condition":"START"}]`,
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Conversion{LogDrivers: []string{"json-file", "awsfirelens"}}.Convert(readTask(t, routedTask(tt.containers...)), "tasks[0]")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, d.Containers[0].DependsOn); diff != "" {
				t.Errorf("dependencies (-want +got):\n%s", diff)
			}
			want := &task.Firelens{Type: "fluentbit", Options: map[string]string{"enable-ecs-log-metadata": "true"}}
			if diff := cmp.Diff(want, d.Containers[1].Firelens); diff != "" {
				t.Errorf("router (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConvertFirelensErrors(t *testing.T) {
	for _, tt := range []struct {
		containers []string
		want       string
	}{
		{[]string{`"name":"app",` + logging("awsfirelens")}, "tasks[0].containers[0].dockerConfig.hostConfig.LogConfig.Type: awsfirelens needs a container with a firelensConfiguration"},
		{[]string{aRouter + "," + logging("awsfirelens")}, "tasks[0].containers[0].dockerConfig.hostConfig.LogConfig.Type: a log router cannot send its own lines to awsfirelens"},
		{[]string{aRouter, strings.Replace(aRouter, "router", "second", 1)}, "tasks[0].containers[1].firelensConfiguration: there is one already, in container router"},
	} {
		_, err := Conversion{LogDrivers: []string{"json-file", "awsfirelens"}}.Convert(readTask(t, routedTask(tt.containers...)), "tasks[0]")
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

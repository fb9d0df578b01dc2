package acs

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
)

// TestLogOptions: what is filled in for a container's log driver, and nothing is
// that the task definition says itself (but in an isolated region).
func TestLogOptions(t *testing.T) {
	type options = map[string]string
	all := []string{"json-file", "awslogs", "syslog"}
	const role = `"executionRoleCredentials":{"credentialsId":"exec-1"},`
	for _, tc := range []struct {
		name            string
		cv              Conversion
		role            string
		container       string // beside the log configuration
		driver, options string
		want            task.Log
	}{
		{"none is the default", Conversion{}, "", "", "", "", task.Log{Driver: "json-file"}},
		{
			"a buffer that suffices",
			Conversion{LogDrivers: all},
			"", "", "syslog", `\"mode\":\"non-blocking\"`,
			task.Log{Driver: "syslog", Options: options{"mode": "non-blocking", "max-buffer-size": "10m"}},
		},
		{
			"a buffer of one's own",
			Conversion{LogDrivers: all},
			"", "", "syslog", `\"mode\":\"non-blocking\",\"max-buffer-size\":\"1m\"`,
			task.Log{Driver: "syslog", Options: options{"mode": "non-blocking", "max-buffer-size": "1m"}},
		},
		{
			"the host's region and keys",
			Conversion{LogDrivers: all, Region: "eu-west-1"},
			role, "", "awslogs", `\"awslogs-group\":\"g\"`,
			task.Log{Driver: "awslogs", Options: options{"awslogs-group": "g", "awslogs-region": "eu-west-1"}},
		},
		{
			"the execution role",
			Conversion{LogDrivers: all, Region: "eu-west-1"},
			role, `"logsAuthStrategy":"ExecutionRole",`, "awslogs", `\"awslogs-region\":\"us-east-1\"`,
			task.Log{Driver: "awslogs", ExecutionRole: true, Options: options{
				"awslogs-region": "us-east-1", "awslogs-credentials-endpoint": "/v2/credentials/exec-1",
			}},
		},
		{
			"a role that is not there",
			Conversion{LogDrivers: all},
			"", `"logsAuthStrategy":"ExecutionRole",`, "awslogs", "",
			task.Log{Driver: "awslogs", ExecutionRole: true, Options: options{}},
		},
		{
			"an isolated region",
			Conversion{LogDrivers: all, Region: "us-isob-east-1"},
			"", "", "awslogs", `\"awslogs-region\":\"us-east-1\",\"awslogs-endpoint\":\"https://x\"`,
			task.Log{Driver: "awslogs", Options: options{
				"awslogs-region": "us-east-1", "awslogs-endpoint": "https://logs.us-isob-east-1.sc2s.sgov.gov",
			}},
		},
		{
			"an isolated region without IPv4",
			Conversion{LogDrivers: all, Region: "us-isob-east-1", IPv6Only: true},
			"", "", "awslogs", `\"awslogs-region\":\"us-isob-east-1\"`,
			task.Log{Driver: "awslogs", Options: options{"awslogs-region": "us-isob-east-1"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := fmt.Sprintf(`{"arn":%q,"taskClusterArn":%q,"family":"f","version":"1","desiredStatus":"RUNNING",%s"containers":[{"name":"c","image":"i",%s
				"dockerConfig":{"config":"{}","hostConfig":"{\"LogConfig\":{\"Type\":\"%s\",\"Config\":{%s}}}"}}]}`,
				taskARN, clusterARN, tc.role, tc.container, tc.driver, tc.options)
			got, err := tc.cv.Convert(readTask(t, text), "tasks[0]")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Containers[0].Log, cmp.Transformer("empty", func(o options) options {
				if len(o) == 0 {
					return nil
				}
				return o
			})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

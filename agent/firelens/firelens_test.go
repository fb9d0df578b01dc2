package firelens

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

var update = flag.Bool("update", false, "write the golden texts anew")

// definition is a task with a router and two containers that log to it.
func definition(kind string, network task.NetworkMode) *task.Definition {
	key := "@type"
	if kind == FluentBit {
		key = "Name"
	}
	return &task.Definition{
		ARN: "arn:aws:ecs:eu-west-1:111122223333:task/blue/0af1", ID: "0af1", Family: "shop", Version: "7", Network: network,
		Containers: []task.Container{
			{Name: "web", Log: task.Log{Driver: LogDriver, Options: map[string]string{
				key: "http", "Host": "logs.example", "URI": "/in?a=b", "include-pattern": "^GET", "exclude-pattern": "health check",
				"log-driver-buffer-limit": "1000", "mode": "non-blocking", "max-buffer-size": "10m", "api_key": "written over",
			}}},
			{
				Name: "router", Firelens: &task.Firelens{Type: kind, Options: map[string]string{}}, Reservation: task.Reservation{MemoryReservation: 100},
				Spec: container.Spec{Process: container.Process{Env: []string{"AWS_EXECUTION_ENV=AWS_ECS_EC2"}}},
			},
			{Name: "plain", Log: task.Log{Driver: "json-file", Options: map[string]string{"max-size": "1m"}}},
			{Name: "quiet", Log: task.Log{Driver: LogDriver}},
			{Name: "app", Log: task.Log{Driver: LogDriver, Options: map[string]string{key: "stdout"}}},
		},
	}
}

func router(d *task.Definition) Router {
	return Router{
		Task: d, Cluster: "blue", InstanceID: "i-0123",
		Secrets: map[string][]string{"web": {"secret_key", "api_key"}},
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		network    task.NetworkMode
		options    map[string]string
		change     func(*Router)
	}{
		{"fluentbit-bridge", FluentBit, task.NetworkBridge, nil, nil},
		{"fluentd-bridge", Fluentd, task.NetworkBridge, nil, nil},
		{"fluentbit-awsvpc-s3", FluentBit, task.NetworkAWSVPC, map[string]string{
			"config-file-type": "s3", "config-file-value": "arn:aws:s3:::b/k.conf", "enable-ecs-log-metadata": "true",
		}, nil},
		{"fluentd-awsvpc-s3", Fluentd, task.NetworkAWSVPC, map[string]string{
			"config-file-type": "s3", "config-file-value": "arn:aws:s3:::b/k.conf",
		}, func(r *Router) { r.InstanceID = "" }},
		{"fluentbit-host-file", FluentBit, task.NetworkHost, map[string]string{
			"config-file-type": "file", "config-file-value": "/etc/extra.conf", "enable-ecs-log-metadata": "false",
		}, func(r *Router) { Of(r.Task).MemoryReservation = 0 }},
		{"fluentd-host-file", Fluentd, task.NetworkHost, map[string]string{
			"config-file-type": "file", "config-file-value": "/etc/extra.conf", "enable-ecs-log-metadata": "no idea",
		}, func(r *Router) { Of(r.Task).Spec.Process.Env = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := router(definition(tt.kind, tt.network))
			maps.Copy(Of(r.Task).Firelens.Options, tt.options)
			if tt.change != nil {
				tt.change(&r)
			}
			got, err := r.Config()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.name+".conf")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // for people to read
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		want   string
		change func(*task.Definition)
	}{
		{"invalid firelens configuration type: logstash", func(d *task.Definition) { Of(d).Firelens.Type = "logstash" }},
		{"invalid value ftp is specified for option config-file-type", func(d *task.Definition) {
			Of(d).Firelens.Options["config-file-type"] = "ftp"
		}},
		{"option config-file-type is specified but config-file-value is not specified", func(d *task.Definition) {
			Of(d).Firelens.Options["config-file-type"] = "s3"
		}},
		{
			"unable to apply log options of container web to firelens config: missing output key Name which is required for firelens configuration of type Name",
			func(d *task.Definition) { delete(d.Containers[0].Log.Options, "Name") },
		},
		{`unable to apply log options of container web to firelens config: option "Host" holds a line break`, func(d *task.Definition) {
			d.Containers[0].Log.Options["Host"] = "x\n[OUTPUT]"
		}},
		{"option config-file-value holds a line break", func(d *task.Definition) {
			maps.Copy(Of(d).Firelens.Options, map[string]string{"config-file-type": "file", "config-file-value": "/a\n"})
		}},
	} {
		r := router(definition(FluentBit, task.NetworkBridge))
		tt.change(r.Task)
		if text, err := r.Config(); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s; the text is %q", err, tt.want, text)
		}
	}
}

// TestSecretsAreNotWritten has a secret option that is in the options too.
func TestSecretsAreNotWritten(t *testing.T) {
	for _, kind := range []string{Fluentd, FluentBit} {
		text, err := router(definition(kind, task.NetworkBridge)).Config()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "written over") || !strings.Contains(text, "secret_key_0") {
			t.Errorf("the secret options of %s are not read from the environment:\n%s", kind, text)
		}
	}
}

func TestMemory(t *testing.T) {
	for _, tt := range []struct{ reservation, limit, want int64 }{
		{0, 0, 25}, {100, 512, 50}, {0, 512, 256}, {0, 1, 1},
	} {
		if got := memory(&task.Container{Reservation: task.Reservation{MemoryReservation: tt.reservation, Memory: tt.limit}}); got != tt.want {
			t.Errorf("reservation %d and limit %d make %d MB, want %d", tt.reservation, tt.limit, got, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	d := definition(Fluentd, task.NetworkBridge)
	if got := Tag(d, "web"); got != "web-firelens-0af1" {
		t.Errorf("tag is %s", got)
	}
	if got := Of(d); got == nil || got.Name != "router" {
		t.Errorf("router is %v", got)
	}
	if got := Of(&task.Definition{}); got != nil {
		t.Errorf("a task without a router has %v", got)
	}
}

package resources

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
)

// bucket is an S3 with one object, and counts how often it is read.
type bucket struct {
	text  string
	reads int
}

func (b *bucket) BucketRegion(context.Context, credentials.Set, string) (string, error) {
	return "eu-west-1", nil
}

func (b *bucket) Object(_ context.Context, keys credentials.Set, region, name, key string) ([]byte, error) {
	if keys.RoleARN != "execution" || region != "eu-west-1" || name != "conf" || key != "a/b.conf" {
		return nil, errors.New("no such object")
	}
	b.reads++
	return []byte(b.text), nil
}

// oneRole has the keys of an execution role, at once.
type oneRole struct{}

func (oneRole) Get(id string) (credentials.Set, credentials.State) {
	if id != "exec" {
		return credentials.Set{}, credentials.Unknown
	}
	return credentials.Set{RoleARN: "execution"}, credentials.Here
}

func (oneRole) Arrived() <-chan struct{} { return nil }

// routed is a task with a router of uid 0 that logs to a user's own, and a
// secret option.
func routed(options map[string]string) *task.Definition {
	return &task.Definition{
		ARN: "arn:aws:ecs:eu-west-1:1:task/blue/0af1", ID: "0af1", ClusterARN: "arn:aws:ecs:eu-west-1:1:cluster/blue",
		Family: "shop", Version: "7", Network: task.NetworkBridge, ExecutionRoleID: "exec",
		Containers: []task.Container{
			{Name: "app", Log: task.Log{Driver: "awsfirelens", Options: map[string]string{
				"Name": "http", "log-driver-buffer-limit": "1000", "mode": "non-blocking", "max-buffer-size": "10m",
			}}},
			{Name: "router", Firelens: &task.Firelens{Type: "fluentbit", Options: options}},
			{Name: "plain", Log: task.Log{Driver: "json-file"}},
		},
	}
}

func newRouter(t *testing.T, b *bucket) *logRouter {
	t.Helper()
	return &logRouter{
		Firelens: Firelens{Dir: filepath.Join(t.TempDir(), "firelens"), InstanceID: "i-1", Async: true},
		keys:     oneRole{}, objects: b, log: zap.NewNop(),
	}
}

// equip is what the part makes of a task, with app's secret option.
func equip(t *testing.T, l *logRouter, d *task.Definition) (outfits, error) {
	t.Helper()
	want := &Task{Definition: d, Endpoints: map[string]ipam.Endpoint{
		"router": {Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("172.29.0.7")}},
	}}
	all, err := l.provision(t.Context(), want)
	if err != nil {
		return nil, err
	}
	all.of("app").logSecrets = map[string]string{"apikey": "hush"}
	return all, l.finish(t.Context(), want, all)
}

func TestLogRouter(t *testing.T) {
	b := &bucket{text: "[FILTER]\n"}
	l := newRouter(t, b)
	d := routed(map[string]string{"config-file-type": "s3", "config-file-value": "arn:aws:s3:::conf/a/b.conf"})
	dir := filepath.Join(l.Dir, "0af1")
	bind := func(source, destination string) container.Mount {
		return container.Mount{Type: "bind", Source: filepath.Join(dir, source), Destination: destination, Options: []string{"rbind", "rprivate"}}
	}
	want := outfits{
		"router": {
			Mounts: []container.Mount{
				bind("config/fluent.conf", "/fluent-bit/etc/fluent-bit.conf"), bind("socket", "/var/run/"),
				bind("config/external.conf", "/fluent-bit/etc/external.conf"),
			},
			SecretEnv: container.SecretEnv{"apikey_0=hush"},
		},
		"app": {
			Env: []string{"FLUENT_HOST=172.29.0.7", "FLUENT_PORT=24224"},
			Log: &task.Log{Driver: "fluentd", Options: map[string]string{
				"tag": "app-firelens-0af1", "fluentd-address": "unix://" + dir + "/socket/fluent.sock", "fluentd-sub-second-precision": "true",
				"fluentd-async": "true", "fluentd-buffer-limit": "1000", "mode": "non-blocking", "max-buffer-size": "10m",
			}},
		},
	}
	var inode os.FileInfo
	for _, when := range []string{"first", "again, after a restart"} {
		got, err := equip(t, l, d)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Outfit{})); diff != "" {
			t.Errorf("%s: outfits (-want +got):\n%s", when, diff)
		}
		info, err := os.Stat(filepath.Join(dir, "config", "fluent.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if inode != nil && !os.SameFile(inode, info) {
			t.Error("the configuration that is mounted is another file now")
		}
		inode = info
	}
	text, err := os.ReadFile(filepath.Join(dir, "config", "fluent.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") || !strings.Contains(string(text), "apikey ${apikey_0}") ||
		!strings.Contains(string(text), "Record ecs_cluster blue\n") || !strings.Contains(string(text), "@INCLUDE /fluent-bit/etc/external.conf\n") {
		t.Errorf("the configuration is\n%s", text)
	}
	if b.reads != 1 {
		t.Errorf("the user's own configuration was read %d times", b.reads)
	}
	for range 2 {
		if err := errors.Join(l.release(t.Context(), d), l.remove(t.Context(), d)); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(l.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSweepLogRouters(t *testing.T) {
	l := newRouter(t, nil)
	if err := l.Sweep(func(string) bool { return false }); err != nil {
		t.Errorf("where there was never a router: %v", err)
	}
	lost := routed(nil)
	lost.ID = "dead"
	for _, d := range []*task.Definition{routed(nil), lost} {
		if _, err := equip(t, l, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sweep(func(id string) bool { return id == "0af1" }); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(l.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != "0af1" {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestLogRouterOfOtherNetworks(t *testing.T) {
	for network, want := range map[task.NetworkMode][]string{
		task.NetworkHost: nil, task.NetworkNone: nil, task.NetworkAWSVPC: {"FLUENT_HOST=127.0.0.1", "FLUENT_PORT=24224"},
		task.NetworkBridge: {"FLUENT_HOST=172.29.0.7", "FLUENT_PORT=24224"},
	} {
		d := routed(nil)
		d.Network, d.Containers[1].Firelens.Type, d.ClusterARN = network, "fluentd", ""
		d.Containers[0].Log.Options = map[string]string{"@type": "http"}
		l := newRouter(t, nil)
		l.Cluster = "green"
		got, err := equip(t, l, d)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got["app"].Env); diff != "" {
			t.Errorf("%s: variables (-want +got):\n%s", network, diff)
		}
		if diff := cmp.Diff([]string{"FLUENT_UID=0"}, got["router"].Env); diff != "" {
			t.Errorf("%s: the router's variables (-want +got):\n%s", network, diff)
		}
		text, err := os.ReadFile(got["router"].Mounts[0].Source)
		if err != nil || !strings.Contains(string(text), "ecs_cluster green\n") || got["router"].Mounts[0].Destination != "/fluentd/etc/fluent.conf" {
			t.Errorf("%s: %v; %v; the configuration is\n%s", network, err, got["router"].Mounts, text)
		}
	}
}

// TestLogRouterErrors compares with the words of spec/task-engine.md §5.11.
func TestLogRouterErrors(t *testing.T) {
	const prefix = "resource cannot be initialized for task arn:aws:ecs:eu-west-1:1:task/blue/0af1: unable to initialize firelens resource: error parsing firelens options: "
	for _, tt := range []struct {
		want    string
		options map[string]string
		change  func(*task.Definition)
	}{
		{prefix + "invalid value ftp is specified for option config-file-type", map[string]string{"config-file-type": "ftp"}, nil},
		{prefix + "option config-file-type is specified but config-file-value is not specified", map[string]string{"config-file-type": "s3"}, nil},
		{"invalid firelens configuration type: logstash", nil, func(d *task.Definition) { d.Containers[1].Firelens.Type = "logstash" }},
		{
			"unable to download firelens s3 config file: invalid s3 arn: nonsense",
			map[string]string{"config-file-type": "s3", "config-file-value": "nonsense"},
			nil,
		},
		{
			"unable to download firelens s3 config file: unable to download s3 config c from bucket b, error: no such object",
			map[string]string{"config-file-type": "s3", "config-file-value": "arn:aws:s3:::b/c"},
			nil,
		},
		{
			"unable to download firelens s3 config file: unable to find execution role credentials",
			map[string]string{"config-file-type": "s3", "config-file-value": "arn:aws:s3:::conf/a/b.conf"},
			func(d *task.Definition) { d.ExecutionRoleID = "" },
		},
		{
			"unable to generate firelens config file: unable to apply log options of container app to firelens config: " +
				"missing output key Name which is required for firelens configuration of type Name", nil,
			func(d *task.Definition) { d.Containers[0].Log.Options = map[string]string{"color": "red"} },
		},
		{
			`unable to initialize resource directory DIR: unable to determine the user ID: strconv.Atoi: parsing "web": invalid syntax`, nil,
			func(d *task.Definition) { d.Containers[1].Spec.Process.User = "web" },
		},
	} {
		l := newRouter(t, &bucket{})
		d := routed(tt.options)
		if tt.change != nil {
			tt.change(d)
		}
		_, err := equip(t, l, d)
		if want := strings.Replace(tt.want, "DIR", filepath.Join(l.Dir, "0af1"), 1); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sources are what a test puts where.
type sources struct {
	env      []string
	file     string
	json     string
	userData string
	region   string
	require  bool
}

func load(t *testing.T, s sources) (Config, []Warning, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := s.env
	if env == nil {
		env = []string{}
	}
	return Load(Options{
		Environ: env, File: write("ecs.config", s.file), JSONFile: write("ecs.config.json", s.json),
		UserData: []byte(s.userData), Region: s.region, RequireRegion: s.require,
	})
}

func mustLoad(t *testing.T, s sources) (Config, []Warning) {
	t.Helper()
	c, w, err := load(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// Every variable of task-engine.md §11.2, §11.3 and §8.1, and every key of §11.4, is a row: honoured, or with a reason.
func TestEveryVariableIsKnown(t *testing.T) {
	var variables, keys []string
	for _, r := range table() {
		if r.env {
			if slices.Contains(variables, r.name) {
				t.Errorf("%s is twice in the table", r.name)
			}
			variables = append(variables, r.name)
		}
		for _, k := range r.keys {
			if slices.Contains(keys, k) {
				t.Errorf("key %s is twice in the table", k)
			}
			keys = append(keys, k)
		}
	}
	variables = append(variables, "ECS_AGENT_CONFIG_FILE_PATH")
	for _, name := range lines(t, "testdata/variables.txt") {
		if !slices.Contains(variables, name) {
			t.Errorf("variable %s is not known", name)
		}
	}
	for _, key := range lines(t, "testdata/keys.txt") {
		if !slices.Contains(keys, key) {
			t.Errorf("key %s is not known", key)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, w := mustLoad(t, sources{})
	if len(w) > 0 {
		t.Errorf("warnings out of nothing: %v", w)
	}
	want := map[string]string{
		"ECS_CLUSTER": "default", "ECS_DATADIR": "/var/lib/berth", "ECS_CONTAINER_STOP_TIMEOUT": "30s", "ECS_CONTAINER_START_TIMEOUT": "3m0s",
		"ECS_CONTAINER_CREATE_TIMEOUT": "4m0s", "ECS_MANIFEST_PULL_TIMEOUT": "1m0s", "ECS_IMAGE_PULL_TIMEOUT": "2h0m0s",
		"ECS_RESERVED_PORTS": "[22,2375,2376,51678,51679]", "ECS_RESERVED_PORTS_UDP": "[]", "ECS_TASK_METADATA_RPS_LIMIT": "40,60",
		"ECS_ENABLE_TASK_IAM_ROLE": "true", "ECS_ENABLE_TASK_ENI": "true", "ECS_POLLING_METRICS_WAIT_DURATION": "10s",
		"ECS_NUM_IMAGES_DELETE_PER_CYCLE": "5", "ECS_IMAGE_PULL_BEHAVIOR": "default", "BERTH_SOCKET": "/run/berth/berth.sock",
		"BERTH_BRIDGE": "berth0", "BERTH_CONTAINERD_ADDRESS": "/run/containerd/containerd.sock", "BERTH_CGROUP_DRIVER": "auto",
		"BERTH_INTROSPECTION_ADDRESS": "127.0.0.1:51678", "ECS_AUDIT_LOGFILE": "/var/log/ecs/audit.log",
	}
	for name, value := range want {
		s := setting(t, c, name)
		if s.Value != value || s.Source != SourceDefault {
			t.Errorf("%s = %q from %s, want %q from %s", name, s.Value, s.Source, value, SourceDefault)
		}
	}
	if c.Explicit("ECS_CLUSTER") {
		t.Error("a default cluster counts as explicit")
	}
}

func setting(t *testing.T, c Config, name string) Setting {
	t.Helper()
	for _, s := range c.Settings() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no setting %s", name)
	return Setting{}
}

func TestPrecedence(t *testing.T) {
	user := func(cluster string) string { return `{"ECSAgentConfiguration":{"Cluster":"` + cluster + `"}}` }
	tests := []struct {
		name          string
		in            sources
		value, source string
	}{
		{"environment first", sources{env: []string{"ECS_CLUSTER=env"}, file: "ECS_CLUSTER=file", json: `{"Cluster":"json"}`, userData: user("user")}, "env", "environment"},
		{"then the file", sources{file: "\nECS_CLUSTER=file", json: `{"Cluster":"json"}`, userData: user("user")}, "file", "ecs.config:2"},
		{"then JSON", sources{json: `{"Cluster":"json"}`, userData: user("user")}, "json", "ecs.config.json"},
		{"then user data", sources{userData: user("user")}, "user", "user data"},
		{"an empty value says nothing", sources{env: []string{"ECS_CLUSTER= "}, file: "ECS_CLUSTER=", json: `{"Cluster":"json"}`}, "json", "ecs.config.json"},
		{"null says nothing", sources{json: `{"Cluster":null}`, userData: user("user")}, "user", "user data"},
		{"the deprecated key", sources{json: `{"ClusterArn":"old"}`}, "old", "ecs.config.json"},
		{"the key before the deprecated one", sources{json: `{"ClusterArn":"old","Cluster":"new"}`}, "new", "ecs.config.json"},
		{"user data that is a script", sources{userData: "#!/bin/sh\n"}, "default", "default"},
		{"white space is cut", sources{env: []string{"ECS_CLUSTER= blue \t"}}, "blue", "environment"},
		{"last line wins", sources{file: "ECS_CLUSTER=a\nECS_CLUSTER=b"}, "b", "ecs.config:2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := mustLoad(t, tt.in)
			s := setting(t, c, "ECS_CLUSTER")
			if c.Cluster != tt.value || s.Value != tt.value || filepath.Base(s.Source) != tt.source {
				t.Errorf("cluster %q, listed %q from %q; want %q from %q", c.Cluster, s.Value, s.Source, tt.value, tt.source)
			}
		})
	}
}

func TestExplicitFalseWinsAndZeroDoesNot(t *testing.T) {
	c, _ := mustLoad(t, sources{
		env:  []string{"ECS_ENABLE_TASK_CPU_MEM_LIMIT=F", "ECS_RESERVED_MEMORY=0", "ECS_RESERVED_PORTS=[]"},
		json: `{"TaskCPUMemLimit":true,"ReservedMemory":512}`,
	})
	if c.Cgroup.TaskLimits || !c.Explicit("ECS_ENABLE_TASK_CPU_MEM_LIMIT") {
		t.Error("an explicit false did not win")
	}
	if c.Instance.ReservedMemory != 512 {
		t.Errorf("reserved memory %d, want the file's 512", c.Instance.ReservedMemory)
	}
	if want := []uint16{22, 2375, 2376, 51678, 51679}; !slices.Equal(c.Instance.ReservedPorts, want) {
		t.Errorf("reserved ports %v, want %v", c.Instance.ReservedPorts, want)
	}
}

// Each rule of bounds and forms: what is written, what becomes of it, and whether somebody is told.
func TestValues(t *testing.T) {
	tests := []struct {
		name, value, want string
		warned            bool
	}{
		{"ECS_CONTAINER_STOP_TIMEOUT", "10m", "10m0s", false},
		{"ECS_CONTAINER_STOP_TIMEOUT", "100ms", "1s", true},
		{"ECS_CONTAINER_STOP_TIMEOUT", "90", "30s", true},
		{"ECS_CONTAINER_START_TIMEOUT", "44s", "45s", true},
		{"ECS_CONTAINER_CREATE_TIMEOUT", "59s", "1m0s", true},
		{"ECS_MANIFEST_PULL_TIMEOUT", "1s", "30s", true},
		{"ECS_IMAGE_PULL_TIMEOUT", "1s", "1s", false},
		{"ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "1s", "1m0s", true},
		{"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "999ms", "3h0m0s", true},
		{"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1s", "1s", false},
		{"ECS_IMAGE_CLEANUP_INTERVAL", "9m", "30m0s", true},
		{"ECS_IMAGE_CLEANUP_INTERVAL", "10m", "10m0s", false},
		{"BERTH_IMAGE_DISK_HIGH", "101", "85", true},
		{"BERTH_IMAGE_DISK_HIGH", "100", "100", false}, // never
		{"BERTH_IMAGE_DISK_LOW", "50", "50", false},
		{"BERTH_IMAGE_DISK_LOW", "99", "85", false}, // not above the high mark
		{"ECS_NUM_IMAGES_DELETE_PER_CYCLE", "-1", "5", true},
		{"ECS_POLLING_METRICS_WAIT_DURATION", "1s", "5s", true},
		{"ECS_POLLING_METRICS_WAIT_DURATION", "1h", "20s", true},
		{"ECS_CGROUP_CPU_PERIOD", "8ms", "8ms", false},
		{"ECS_CGROUP_CPU_PERIOD", "7ms", "100ms", true},
		{"ECS_CGROUP_CPU_PERIOD", "101ms", "100ms", true},
		{"ECS_TASK_PIDS_LIMIT", "4194304", "4194304", false},
		{"ECS_TASK_PIDS_LIMIT", "4194305", "0", true},
		{"ECS_TASK_PIDS_LIMIT", "-5", "0", true},
		{"ECS_TASK_METADATA_RPS_LIMIT", "10,20", "10,20", false},
		{"ECS_TASK_METADATA_RPS_LIMIT", "10", "40,60", true},
		{"ECS_TASK_METADATA_RPS_LIMIT", "0,20", "40,60", true},
		{"ECS_RESERVED_MEMORY", "65535", "65535", false},
		{"ECS_RESERVED_MEMORY", "65536", "0", true},
		{"ECS_RESERVED_PORTS", "[1,2]", "[1,2]", false},
		{"ECS_RESERVED_PORTS", "1,2", "[22,2375,2376,51678,51679]", true},
		{"ECS_RESERVED_PORTS_UDP", "[70000]", "[]", true},
		{"ECS_DYNAMIC_HOST_PORT_RANGE", "40000-40010", "40000-40010", false},
		{"ECS_DYNAMIC_HOST_PORT_RANGE", "40010-40000", "", true},
		{"ECS_DYNAMIC_HOST_PORT_RANGE", "0-70000", "", true},
		{"ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached", "prefer-cached", false},
		{"ECS_IMAGE_PULL_BEHAVIOR", "sometimes", "default", true},
		{"ECS_INSTANCE_IP_COMPATIBILITY", "IPv6", "ipv6", false},
		{"ECS_INSTANCE_IP_COMPATIBILITY", "ipv5", "", true},
		{"ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "ec2_instance", "ec2_instance", false},
		{"ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "vpc", "none", true},
		{"ECS_ENABLE_SPOT_INSTANCE_DRAINING", "1", "true", false},
		{"ECS_ENABLE_SPOT_INSTANCE_DRAINING", " True ", "true", false},
		{"ECS_ENABLE_SPOT_INSTANCE_DRAINING", "yes", "true", true},
		{"ECS_ENABLE_SPOT_INSTANCE_DRAINING", "false", "false", false},
		{"ECS_EXCLUDE_UNTRACKED_IMAGE", "a:1, b:2", "a:1, b:2", false},
		{"ECS_DATADIR", "/data/", "/var/lib/berth", true},
		{"ECS_DATADIR", "/srv/berth", "/srv/berth", false},
		{"ECS_DATADIR", "berth", "/var/lib/berth", true},
		{"ECS_LOGLEVEL", "DEBUG", "debug", false},
		{"BERTH_CONTAINERD_ADDRESS", "unix:///run/c.sock", "/run/c.sock", false},
		{"BERTH_BRIDGE", "much-too-long-a-name", "berth0", true},
		{"BERTH_BRIDGE_SUBNET", "172.30.5.9/20", "172.30.0.0/20", false},
		{"BERTH_INTROSPECTION_ADDRESS", "51678", "127.0.0.1:51678", true},
		{"BERTH_CGROUP_DRIVER", "systemd", "systemd", false},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			for _, in := range []sources{{env: []string{tt.name + "=" + tt.value}}, {file: tt.name + "=" + tt.value}} {
				c, w := mustLoad(t, in)
				if got := setting(t, c, tt.name).Value; got != tt.want {
					t.Errorf("became %q, want %q", got, tt.want)
				}
				if (len(w) > 0) != tt.warned {
					t.Errorf("warnings %v, want some: %t", w, tt.warned)
				}
				for _, one := range w {
					if !strings.HasPrefix(one.String(), tt.name+"=") {
						t.Errorf("the warning does not begin with name and value: %s", one)
					}
				}
			}
		})
	}
}

func TestJSONValues(t *testing.T) {
	tests := []struct {
		json, name, want string
	}{
		{`{"DockerStopTimeout":60000000000}`, "ECS_CONTAINER_STOP_TIMEOUT", "1m0s"},
		{`{"DockerStopTimeout":"45s"}`, "ECS_CONTAINER_STOP_TIMEOUT", "45s"},
		{`{"ImagePullBehavior":3}`, "ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached"},
		{`{"ImagePullBehavior":"once"}`, "ECS_IMAGE_PULL_BEHAVIOR", "once"},
		{`{"ContainerInstancePropagateTagsFrom":1}`, "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "ec2_instance"},
		{`{"ContainerCreateTimeout":1000000000}`, "ECS_CONTAINER_CREATE_TIMEOUT", "1m0s"},
		{`{"ReservedPorts":[80]}`, "ECS_RESERVED_PORTS", "[80]"},
		{`{"TaskMetadataSteadyStateRate":7,"TaskMetadataBurstRate":9}`, "ECS_TASK_METADATA_RPS_LIMIT", "7,9"},
		{`{"EngineAuthData":{"r.example":{"username":"u","password":"hunter2"}}}`, "ECS_ENGINE_AUTH_DATA", "***"},
		{`{"ImageCleanupExclusionList":["a:1"]}`, "ECS_EXCLUDE_UNTRACKED_IMAGE", "a:1"},
		{`{"NoIID":true}`, "NoIID", "true"},
	}
	for _, tt := range tests {
		t.Run(tt.json, func(t *testing.T) {
			c, _ := mustLoad(t, sources{json: tt.json})
			if got := setting(t, c, tt.name).Value; got != tt.want {
				t.Errorf("%s became %q, want %q", tt.name, got, tt.want)
			}
		})
	}
}

func TestFatal(t *testing.T) {
	tests := []struct {
		name string
		in   sources
		says []string
	}{
		{"no region", sources{require: true}, []string{"AWS_DEFAULT_REGION"}},
		{"external needs the variable", sources{env: []string{"ECS_EXTERNAL=true"}, region: "eu-west-1", require: true}, []string{"AWS_DEFAULT_REGION"}},
		{"unknown logging driver", sources{env: []string{`ECS_AVAILABLE_LOGGING_DRIVERS=["awslogs","carbon","quill"]`}}, []string{"Invalid logging drivers: carbon, quill", "ECS_AVAILABLE_LOGGING_DRIVERS"}},
		{"attributes", sources{file: "ECS_INSTANCE_ATTRIBUTES={stack:blue}"}, []string{"ECS_INSTANCE_ATTRIBUTES", "{stack:blue}", "ecs.config:1", "a JSON object"}},
		{"tags", sources{file: "ECS_CONTAINER_INSTANCE_TAGS=x"}, []string{"ECS_CONTAINER_INSTANCE_TAGS"}},
		{"routes", sources{file: `ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES=["10.0.0.0"]`}, []string{"ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", `"10.0.0.0" is not a CIDR`}},
		{"stop timeout from JSON", sources{json: `{"DockerStopTimeout":1}`}, []string{"ECS_CONTAINER_STOP_TIMEOUT", "less than 1s"}},
		{"start timeout from user data", sources{userData: `{"ECSAgentConfiguration":{"ContainerStartTimeout":1}}`}, []string{"ECS_CONTAINER_START_TIMEOUT", "user data"}},
		{"malformed JSON", sources{json: `{"Cluster":`}, []string{"ecs.config.json"}},
		{"bridge subnet", sources{file: "BERTH_BRIDGE_SUBNET=fd00::/64"}, []string{"BERTH_BRIDGE_SUBNET", "wrong address family"}},
		{"all at once", sources{file: "ECS_INSTANCE_ATTRIBUTES=x\nECS_CONTAINER_INSTANCE_TAGS=y"}, []string{"ECS_INSTANCE_ATTRIBUTES", "ECS_CONTAINER_INSTANCE_TAGS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := load(t, tt.in)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestRegion(t *testing.T) {
	tests := []struct {
		name          string
		in            sources
		value, source string
	}{
		{"variable", sources{env: []string{"AWS_DEFAULT_REGION= eu-north-1 ", "AWS_REGION=us-east-1"}}, "eu-north-1", "environment"},
		{"the SDK's variable", sources{env: []string{"AWS_REGION=us-east-1"}, region: "eu-west-1"}, "us-east-1", "environment"},
		{"JSON", sources{json: `{"AWSRegion":"us-west-2"}`}, "us-west-2", "ecs.config.json"},
		{"metadata", sources{region: "eu-west-1"}, "eu-west-1", "instance metadata"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.require = true
			c, _ := mustLoad(t, tt.in)
			s := setting(t, c, "AWS_DEFAULT_REGION")
			if c.Region != tt.value || s.Value != tt.value || filepath.Base(s.Source) != tt.source {
				t.Errorf("region %q from %q, want %q from %q", c.Region, s.Source, tt.value, tt.source)
			}
		})
	}
}

func TestConsequences(t *testing.T) {
	c, _ := mustLoad(t, sources{file: "ECS_EXTERNAL=true\nECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=true\nECS_AUDIT_LOGFILE_DISABLED=true\nBERTH_RUN_DIR=/run/other\nBERTH_LOG_SOCKET=/run/mine.sock"})
	got := []string{
		fmt.Sprint(c.Network.TaskENI, c.Network.HighDensityENI), c.Metadata.Introspection, c.Paths.AuditLog, c.Paths.Socket, c.Paths.LogSocket,
		setting(t, c, "ECS_ENABLE_TASK_ENI").Source,
	}
	want := []string{"false false", ":51678", "", "/run/other/berth.sock", "/run/mine.sock", "ECS_EXTERNAL"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestContainerdAddress(t *testing.T) {
	c, _ := mustLoad(t, sources{env: []string{"CONTAINERD_ADDRESS=/run/k3s.sock"}})
	if c.Containerd.Address != "/run/k3s.sock" {
		t.Errorf("address %q, want CONTAINERD_ADDRESS", c.Containerd.Address)
	}
	c, _ = mustLoad(t, sources{env: []string{"CONTAINERD_ADDRESS=/run/k3s.sock"}, file: "BERTH_CONTAINERD_ADDRESS=/run/ours.sock"})
	if c.Containerd.Address != "/run/ours.sock" {
		t.Errorf("address %q, want BERTH_CONTAINERD_ADDRESS", c.Containerd.Address)
	}
}

func TestNotHonouredNamesOnlyWhatWasSet(t *testing.T) {
	c, _ := mustLoad(t, sources{file: "DOCKER_HOST=unix:///var/run/docker.sock\nECS_CLUSTER=x\nECS_LOGFILE=", json: `{"PauseContainerTag":"1"}`})
	var names []string
	for _, s := range c.NotHonoured() {
		names = append(names, s.Name)
		if s.Reason == "" || s.Value == "" {
			t.Errorf("%s has no reason or no value", s.Name)
		}
	}
	if diff := cmp.Diff([]string{"DOCKER_HOST", "PauseContainerTag"}, names); diff != "" {
		t.Error(diff)
	}
}

// What is read and not acted on yet is named when somebody asks for it, and not when he asks for what happens anyway.
func TestNotHonouredNamesWhatIsNotBuilt(t *testing.T) {
	c, _ := mustLoad(t, sources{file: "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\nECS_CHECKPOINT=true\nECS_WARM_POOLS_CHECK=true\n" +
		"ECS_DISABLE_IMAGE_CLEANUP=true\nECS_IMAGE_CLEANUP_INTERVAL=20m\nECS_ENGINE_AUTH_DATA=hunter2\nECS_ENABLE_TASK_ENI=true"})
	var got []string
	for _, s := range c.NotHonoured() {
		got = append(got, s.Name+"="+s.Value)
		if s.Reason == "" {
			t.Errorf("%s has no reason", s.Name)
		}
	}
	want := []string{"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true"}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	c, _ = mustLoad(t, sources{file: "ECS_EXTERNAL=true\nAWS_DEFAULT_REGION=eu-west-1"})
	if off := c.NotHonoured(); len(off) > 0 {
		t.Errorf("what follows from ECS_EXTERNAL is named as not honoured: %v", off)
	}
}

// A line about a setting that there is not, or no longer, warns of nothing.
func TestPendingsAreSettings(t *testing.T) {
	rows := table()
	for name := range pendings() {
		i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
		if i < 0 || rows[i].reason != "" {
			t.Errorf("%s is pending and no setting that is read", name)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	_, w := mustLoad(t, sources{
		env:  []string{"HOME=/root", "ECS_CONTAINER_METADATA_URI_V4=http://x", "BERTH_BRIGDE=b"},
		file: "ECS_CLUTSER=blue\nECS_SOMETHING_ELSE_ALTOGETHER=1\nAWS_WHATEVER=1",
		json: `{"cluster":"x"}`,
	})
	var got []string
	for _, one := range w {
		one.Source = filepath.Base(one.Source)
		got = append(got, one.String())
	}
	want := []string{
		"BERTH_BRIGDE (environment) is not a setting; did you mean BERTH_BRIDGE?",
		"ECS_CLUTSER (ecs.config:1) is not a setting; did you mean ECS_CLUSTER?",
		"ECS_SOMETHING_ELSE_ALTOGETHER (ecs.config:2) is not a setting",
		"cluster (ecs.config.json) is not a setting; did you mean Cluster?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c, w, err := load(t, sources{
		env:  []string{"AWS_SECRET_ACCESS_KEY=hunter2", "HTTPS_PROXY=http://u:hunter2@p:1"},
		file: "ECS_ENGINE_AUTH_TYPE=docker\nECS_ENGINE_AUTH_DATA={\"r\":{\"password\":\"hunter2\"}}",
	})
	if err != nil {
		t.Fatal(err)
	}
	listing, err := json.Marshal(c.Settings())
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c.Image)
	if err != nil {
		t.Fatal(err)
	}
	s := c.AWS.SecretAccessKey
	for _, text := range []string{
		string(listing), string(asJSON), fmt.Sprint(w), fmt.Sprintf("%v %+v %#v %q %x %s", s, c.AWS, c.Image, s, s, s),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
			t.Errorf("a secret is printed: %s", text)
		}
	}
	if s.Reveal() != "hunter2" || setting(t, c, "AWS_SECRET_ACCESS_KEY").Value != "***" {
		t.Error("the secret is not there, or not listed as ***")
	}
}

func TestProxiesInSmallLetters(t *testing.T) {
	c, _ := mustLoad(t, sources{env: []string{"https_proxy=http://small:1", "HTTP_PROXY=http://large:1", "http_proxy=http://small:1"}})
	if got, want := c.Proxy, (Proxy{HTTP: "http://large:1", HTTPS: "http://small:1"}); got != want {
		t.Errorf("proxies %+v, want %+v", got, want)
	}
}

func TestMissingFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "absent")
	if _, _, err := Load(Options{Environ: []string{}, File: missing}); err == nil {
		t.Error("a file asked for by name may be missing")
	}
	c, _, err := Load(Options{Environ: []string{"ECS_AGENT_CONFIG_FILE_PATH=" + missing}, JSONFile: "/dev/null"})
	if err != nil || c.Cluster == "" {
		t.Errorf("a missing JSON file is an error: %v", err)
	}
}

func TestConfigIsNotSharedThroughTheListing(t *testing.T) {
	c, _ := mustLoad(t, sources{})
	c.Settings()[0].Value = "changed"
	if c.Settings()[0].Value == "changed" {
		t.Error("a caller can change the listing")
	}
}

func TestPolling(t *testing.T) {
	c, _ := mustLoad(t, sources{file: "ECS_POLL_METRICS=true\nECS_POLLING_METRICS_WAIT_DURATION=7s"})
	if !c.Metrics.Poll || c.Metrics.PollWait != 7*time.Second {
		t.Errorf("polling %t each %s", c.Metrics.Poll, c.Metrics.PollWait)
	}
}

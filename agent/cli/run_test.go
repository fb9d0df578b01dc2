package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/ipam"
)

func TestReadDefinition(t *testing.T) {
	const containers = `"containerDefinitions": [{"name": "web", "image": "i", "memory": 8}]`
	tests := []struct {
		name, text string
		family     string
		note, err  string
	}{
		{name: "as registered", text: `{"family": "web", ` + containers + `}`, family: "web"},
		{name: "as described", text: `{"taskDefinition": {"family": "web", "revision": 3, "registeredAt": "2026-01-02T03:04:05Z", "status": "ACTIVE", ` +
			`"taskDefinitionArn": "arn:…", "compatibilities": ["EC2"], "requiresAttributes": [{"name": "a"}], "registeredBy": "me", ` + containers + `}, "tags": []}`, family: "web"},
		{name: "without a family", text: `{` + containers + `}`},
		{name: "a slip of the pen", text: `{"family": "web", "netwrkMode": "host", ` + containers + `}`, family: "web", note: `unknown field "netwrkMode"`},
		{name: "a slip deep inside", text: `{"containerDefinitions": [{"name": "web", "image": "i", "imagine": 8}]}`, note: `unknown field "imagine"`},
		{name: "a wrong type", text: `{"containerDefinitions": [{"name": "web", "image": "i", "memory": "8"}]}`, err: "memory"},
		{name: "no JSON", text: `family: web`, err: "not JSON"},
		{name: "no containers", text: `{"family": "web"}`, err: "no containerDefinitions"},
		{name: "nothing", text: ``, err: "no containerDefinitions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, notes, err := readDefinition([]byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one about %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Family != tt.family || d.ContainerDefinitions[0].Name != "web" {
				t.Errorf("read %+v", d)
			}
			if got := strings.Join(notes, "\n"); !strings.Contains(got, tt.note) || tt.note == "" && got != "" {
				t.Errorf("notes %q, want %q", got, tt.note)
			}
		})
	}
}

func TestLoadDefinitionNamesTheFamily(t *testing.T) {
	const text = `{"containerDefinitions": [{"name": "web", "image": "i"}]}`
	path := filepath.Join(t.TempDir(), "my web+1.task.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{path: "my-web-1-task", "-": "run"} {
		d, _, err := loadDefinition(strings.NewReader(text), file)
		if err != nil || d.Family != want {
			t.Errorf("%s: family %q, %v; want %q", file, d.Family, err, want)
		}
	}
	if _, _, err := loadDefinition(nil, path+".absent"); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is changed is said, and nothing else is.
func TestAdaptDefinition(t *testing.T) {
	awslogs := &ecs.LogConfiguration{LogDriver: "awslogs", Options: map[string]string{"awslogs-group": "g"}}
	firelens := &ecs.LogConfiguration{LogDriver: "awsfirelens", SecretOptions: []ecs.Secret{{Name: "apikey", ValueFrom: "p"}}}
	kept := &ecs.LogConfiguration{LogDriver: "json-file", Options: map[string]string{"max-size": "1m"}}
	tests := []struct {
		name     string
		in, want ecs.RegisterTaskDefinitionRequest
		notes    []string

		credentials bool
	}{
		{
			name: "nothing to change",
			in: ecs.RegisterTaskDefinitionRequest{NetworkMode: "host", ContainerDefinitions: []ecs.ContainerDefinition{
				{Name: "a", LogConfiguration: kept}, {Name: "b", LogConfiguration: &ecs.LogConfiguration{LogDriver: "none"}},
			}},
			want: ecs.RegisterTaskDefinitionRequest{NetworkMode: "host", ContainerDefinitions: []ecs.ContainerDefinition{
				{Name: "a", LogConfiguration: kept}, {Name: "b", LogConfiguration: &ecs.LogConfiguration{LogDriver: "none"}},
			}},
		},
		{
			name: "a Fargate service",
			in: ecs.RegisterTaskDefinitionRequest{
				NetworkMode: "awsvpc", TaskRoleARN: "t", ExecutionRoleARN: "e", RequiresCompatibilities: []string{"FARGATE"},
				EphemeralStorage: &ecs.EphemeralStorage{SizeInGiB: 30},
				ContainerDefinitions: []ecs.ContainerDefinition{{
					Name: "a", LogConfiguration: awslogs, PortMappings: []ecs.PortMapping{{ContainerPort: 80}, {ContainerPort: 81, HostPort: 81}, {ContainerPortRange: "90-91"}},
				}},
			},
			want: ecs.RegisterTaskDefinitionRequest{
				NetworkMode: "bridge",
				ContainerDefinitions: []ecs.ContainerDefinition{{
					Name: "a", PortMappings: []ecs.PortMapping{{ContainerPort: 80, HostPort: 80}, {ContainerPort: 81, HostPort: 81}, {ContainerPortRange: "90-91"}},
				}},
			},
			notes: []string{
				"ephemeralStorage: there is as much as this host's disk has",
				"taskRoleArn, executionRoleArn: roles are not assumed here",
				"container a: its output comes here instead of to the log driver awslogs",
				"network mode awsvpc: the container is on a bridge of this host instead",
			},
		},
		{
			name: "a log router, and what is read in the name of the execution role",
			in: ecs.RegisterTaskDefinitionRequest{
				TaskRoleARN: "t", ExecutionRoleARN: "e", PlacementConstraints: []ecs.TaskDefinitionPlacementConstraint{{Type: "memberOf"}},
				ContainerDefinitions: []ecs.ContainerDefinition{
					{Name: "a", LogConfiguration: firelens}, {Name: "b", FirelensConfiguration: &ecs.FirelensConfiguration{Type: "fluentbit"}},
				},
			},
			want: ecs.RegisterTaskDefinitionRequest{ExecutionRoleARN: "e", ContainerDefinitions: []ecs.ContainerDefinition{
				{Name: "a", LogConfiguration: firelens}, {Name: "b", FirelensConfiguration: &ecs.FirelensConfiguration{Type: "fluentbit"}},
			}},
			notes: []string{
				"placementConstraints: this host is the only one there is",
				"taskRoleArn: roles are not assumed here; executionRoleArn: credentials of your own stand in for the role",
				"container a: its output comes here, and goes to the log router",
			},
		},
		{
			name: "roles that there are none of", credentials: true,
			in: ecs.RegisterTaskDefinitionRequest{ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a", Secrets: []ecs.Secret{{}}}}},
			want: ecs.RegisterTaskDefinitionRequest{
				TaskRoleARN: runRole, ExecutionRoleARN: runRole,
				ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a", Secrets: []ecs.Secret{{}}}},
			},
			notes: []string{"taskRoleArn, executionRoleArn: credentials of your own stand in for the role"},
		},
		{
			name:  "containers that expect each other on localhost",
			in:    ecs.RegisterTaskDefinitionRequest{NetworkMode: "awsvpc", ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a"}, {Name: "b"}}},
			want:  ecs.RegisterTaskDefinitionRequest{NetworkMode: "host", ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a"}, {Name: "b"}}},
			notes: []string{"network mode awsvpc: the containers share this host's network instead"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			notes := adaptDefinition(&tt.in, tt.credentials, "credentials of your own")
			if diff := cmp.Diff(tt.want, tt.in); diff != "" {
				t.Errorf("definition (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunOverrides(t *testing.T) {
	two := &ecs.RegisterTaskDefinitionRequest{ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a"}, {Name: "b"}}}
	one := &ecs.RegisterTaskDefinitionRequest{ContainerDefinitions: []ecs.ContainerDefinition{{Name: "a"}}}
	env := []ecs.KeyValuePair{{Name: "K", Value: "v=w"}}
	tests := []struct {
		name    string
		d       *ecs.RegisterTaskDefinitionRequest
		flags   runFlags
		command []string
		want    []ecs.ContainerOverride
		err     string
	}{
		{name: "nothing", d: two},
		{name: "variables for all", d: two, flags: runFlags{env: []string{"K=v=w"}}, want: []ecs.ContainerOverride{{Name: "a", Environment: env}, {Name: "b", Environment: env}}},
		{name: "variables for one", d: two, flags: runFlags{env: []string{"K=v=w"}, container: "b"}, want: []ecs.ContainerOverride{{Name: "b", Environment: env}}},
		{name: "a command for the only one", d: one, command: []string{"x"}, want: []ecs.ContainerOverride{{Name: "a", Command: []string{"x"}}}},
		{name: "a command for the named one", d: two, flags: runFlags{container: "b"}, command: []string{"x"}, want: []ecs.ContainerOverride{{Name: "b", Command: []string{"x"}}}},
		{name: "a command for whom", d: two, command: []string{"x"}, err: "--container is one of a, b"},
		{name: "an unknown container", d: two, flags: runFlags{container: "c"}, command: []string{"x"}, err: "it has a, b"},
		{name: "a container for nothing", d: two, flags: runFlags{container: "a"}, err: "give one of them"},
		{name: "no value", d: one, flags: runFlags{env: []string{"K"}}, err: "want NAME=VALUE"},
		{name: "no name", d: one, flags: runFlags{env: []string{"=v"}}, err: "want NAME=VALUE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := runOverrides(tt.d, &tt.flags, tt.command)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one about %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []ecs.ContainerOverride
			if o != nil {
				got = o.ContainerOverrides
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("overrides (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTaskExit(t *testing.T) {
	at := func(seconds int64) *time.Time { return new(time.Unix(seconds, 0)) }
	tests := []struct {
		name string
		task hostapi.TaskView
		code int
		err  string
	}{
		{"success", hostapi.TaskView{Containers: []hostapi.ContainerView{{Name: "a", Essential: true, ExitCode: new(0), FinishedAt: at(1)}}}, 0, ""},
		{"the first of two", hostapi.TaskView{Containers: []hostapi.ContainerView{
			{Name: "a", Essential: true, ExitCode: new(137), FinishedAt: at(2)}, {Name: "b", Essential: true, ExitCode: new(3), FinishedAt: at(1)},
		}}, 3, ""},
		{"others do not count", hostapi.TaskView{Containers: []hostapi.ContainerView{
			{Name: "a", ExitCode: new(9), FinishedAt: at(1)}, {Name: "b", Essential: true, ExitCode: new(0), FinishedAt: at(2)},
		}}, 0, ""},
		{"out of memory", hostapi.TaskView{Containers: []hostapi.ContainerView{
			{Name: "a", Essential: true, ExitCode: new(137), FinishedAt: at(1), Reason: "OutOfMemoryError: killed"},
		}}, 137, "container a: OutOfMemoryError: killed"},
		{"the cause was another", hostapi.TaskView{Containers: []hostapi.ContainerView{
			{Name: "a", Essential: true, ExitCode: new(0), FinishedAt: at(1)}, {Name: "b", Essential: true, Reason: "CannotPullContainerError: no"},
		}}, 1, "container b: CannotPullContainerError: no"},
		{"never begun", hostapi.TaskView{Reason: "no room", Containers: []hostapi.ContainerView{{Name: "a", Essential: true}}}, 1, "the task never ran: no room"},
		{"nobody knows why", hostapi.TaskView{Containers: []hostapi.ContainerView{{Name: "a", Essential: true}}}, 1, "the task never ran"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, err := taskExit(&tt.task)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if code != tt.code || text != tt.err {
				t.Errorf("code %d, error %q; want %d, %q", code, text, tt.code, tt.err)
			}
		})
	}
}

// Runs at the same time have places of their own; one that was killed has its place tidied up first.
func TestSlots(t *testing.T) {
	dir := t.TempDir()
	paths := config.Paths{Run: filepath.Join(dir, "run"), Data: filepath.Join(dir, "data")}
	take := func() *slot {
		t.Helper()
		s, err := takeSlot(paths)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second := take(), take()
	if first.number != 1 || second.number != 2 || first.left || second.left {
		t.Errorf("slots %d (left %v) and %d (left %v), want 1 and 2, untouched", first.number, first.left, second.number, second.left)
	}
	third := take()
	if err := os.MkdirAll(second.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if s := take(); s.number != 4 || s.left {
		t.Errorf("slot %d (left %v): what is in use is not left behind", s.number, s.left)
	}
	for _, s := range []*slot{first, second, third} {
		if err := s.release(); err != nil {
			t.Fatal(err)
		}
	}
	if s := take(); s.number != 2 || !s.left {
		t.Errorf("slot %d (left %v), want 2 with what was left in it", s.number, s.left)
	}
	if s := take(); s.number != 1 || s.left {
		t.Errorf("slot %d (left %v), want 1", s.number, s.left)
	}
	for range maxSlots - 3 {
		take()
	}
	if _, err := takeSlot(paths); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("one too many: %v", err)
	}
}

// The settings of every slot can be used, and no two slots share a thing.
func TestSlotsKeepOutOfEachOthersWay(t *testing.T) {
	host := &config.Config{Containerd: config.Containerd{Namespace: "berth"}}
	load := func(s *slot, try int) (config.Config, bool) {
		t.Helper()
		environ, ok := s.environ(host, "http://127.0.0.1:1", try)
		if !ok {
			return config.Config{}, false
		}
		// What the person's environment says does not reach the agent of the run.
		environ = append([]string{"ECS_CLUSTER=production", "BERTH_SOCKET=/elsewhere", "ECS_BACKEND_HOST=https://elsewhere", "AWS_SESSION_TOKEN=t"}, environ...)
		c, warnings, err := config.Load(config.Options{Environ: environ, JSONFile: filepath.Join(t.TempDir(), "none")})
		if err != nil || len(warnings) > 0 {
			t.Fatalf("slot %d, try %d: %v, %v", s.number, try, err, warnings)
		}
		return c, true
	}
	used := map[string]int{}
	var pools []ipam.Pool
	for n := 1; n <= maxSlots; n++ {
		s := &slot{number: n, run: "/run/berth/runs/" + string(rune('a'+n)), data: "/var/lib/berth/runs/" + string(rune('a'+n))}
		c, _ := load(s, 0)
		for _, thing := range []string{c.Network.Bridge, c.Network.Subnet, c.Network.SubnetIPv6, c.Containerd.Namespace, c.Paths.Socket, c.Paths.LogSocket, c.Paths.Run, c.Paths.Data} {
			if used[thing] != 0 {
				t.Errorf("slots %d and %d share %s", used[thing], n, thing)
			}
			used[thing] = n
		}
		if c.Cluster != "default" || c.Endpoint != "http://127.0.0.1:1" || c.Region != "us-east-1" || !c.AWS.MetadataDisabled || c.AWS.SessionToken != "" {
			t.Errorf("slot %d: cluster %q at %q in %q", n, c.Cluster, c.Endpoint, c.Region)
		}
		pools = append(pools, poolOfSettings(t, &c))
	}
	for i, p := range append(pools, ipam.DefaultPool()) {
		for j, q := range pools {
			if i != j && (p.IPv4.Overlaps(q.IPv4) || p.IPv6.Overlaps(q.IPv6)) {
				t.Errorf("%v and %v overlap", p, q)
			}
		}
	}
	s, tries := &slot{number: 3, run: "/run/3", data: "/data/3"}, map[string]bool{}
	for try := 0; ; try++ {
		c, ok := load(s, try)
		if !ok {
			break
		}
		tries[c.Network.Subnet] = true
	}
	if len(tries) != 45 {
		t.Errorf("a slot has %d subnets to choose from, want 45", len(tries))
	}
}

func poolOfSettings(t *testing.T, c *config.Config) ipam.Pool {
	t.Helper()
	p := ipam.Pool{}
	if err := p.IPv4.UnmarshalText([]byte(c.Network.Subnet)); err != nil {
		t.Fatal(err)
	}
	if err := p.IPv6.UnmarshalText([]byte(c.Network.SubnetIPv6)); err != nil {
		t.Fatal(err)
	}
	return p
}

// Only a local cluster on loopback is one that a run may use.
func TestIsLocalCluster(t *testing.T) {
	local := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_berth/health" {
			http.NotFound(w, r)
		}
	}))
	defer local.Close()
	tunnel := httptest.NewServer(http.NotFoundHandler())
	defer tunnel.Close()
	_, port, err := net.SplitHostPort(local.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for endpoint, want := range map[string]bool{
		local.URL: true, "http://localhost:" + port: true, tunnel.URL: false, "http://127.0.0.1:1": false,
		"https://ecs.eu-west-1.amazonaws.com": false, "http://192.0.2.1": false, "": false, ":": false,
	} {
		if got := isLocalCluster(t.Context(), endpoint); got != want {
			t.Errorf("%q: %v, want %v", endpoint, got, want)
		}
	}
}

// What a run refuses before it begins anything.
func TestRunRefuses(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	path := filepath.Join(t.TempDir(), "web.json")
	if err := os.WriteFile(path, []byte(`{"containerDefinitions": [{"name": "web", "image": "i"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no file", []string{"run"}, ExitUsage, "needs more"},
		{"an absent file", []string{"run", path + ".absent"}, ExitFailure, "cannot read task definition"},
		{"a bad variable", []string{"run", "--env", "K", path}, ExitUsage, "NAME=VALUE"},
		// The host of hostapitest is in a cluster that is not local.
		{"detached from nobody", []string{"run", "-d", path}, ExitUsage, "--detach needs an agent of a local cluster"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runWith(t, socket, "", tt.args...)
			if r.code != tt.code || r.out != "" || !strings.Contains(r.err, tt.says) {
				t.Errorf("code %d, stdout %q, stderr %q; want %d and %q", r.code, r.out, r.err, tt.code, tt.says)
			}
		})
	}
}

func TestPull(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	for _, name := range []string{"pull", "pull-json"} {
		args := []string{"pull", "docker.io/library/nginx:1"}
		if name == "pull-json" {
			args = append(args, "--json")
		}
		r := runWith(t, socket, "", args...)
		if r.code != ExitOK || r.err != "" {
			t.Errorf("code %d, stderr %q", r.code, r.err)
		}
		golden(t, name, r.out)
	}
	if r := runWith(t, socket, "", "pull", "missing"); r.code != ExitFailure || !strings.Contains(r.err, "missing") {
		t.Errorf("an image that is not there: code %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
}

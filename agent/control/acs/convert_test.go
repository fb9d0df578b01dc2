package acs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/container"
)

const (
	clusterARN = "arn:aws:ecs:eu-west-1:111122223333:cluster/blue-fleet"
	taskARN    = "arn:aws:ecs:eu-west-1:111122223333:task/blue-fleet/9ab0"
)

func readTask(t *testing.T, text string) *wire.Task {
	t.Helper()
	out := new(wire.Task)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestConvertEverything converts a task that uses every member there is.
func TestConvertEverything(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "everything.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Conversion{Cluster: "blue-fleet", TaskRoles: true}.Convert(readTask(t, string(text)), "tasks[0]")
	if err != nil {
		t.Fatal(err)
	}
	labels := func(name string, own ...string) map[string]string {
		l := map[string]string{
			"com.amazonaws.ecs.task-arn": taskARN, "com.amazonaws.ecs.container-name": name,
			"com.amazonaws.ecs.task-definition-family": "shop", "com.amazonaws.ecs.task-definition-version": "7",
			"com.amazonaws.ecs.cluster": "blue-fleet",
		}
		for i := 0; i < len(own); i += 2 {
			l[own[i]] = own[i+1]
		}
		return l
	}
	credentials := "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/role-1"
	want := task.Definition{
		ARN: taskARN, ID: "9ab0", ClusterARN: clusterARN, Family: "shop", Version: "7",
		Shown: task.Shown{LaunchType: "EC2", Service: "shop-service", Group: "service:shop"}, CPU: 0.5, Memory: 512,
		Network: task.NetworkBridge, PID: "host", RoleID: "role-1", ExecutionRoleID: "exec-1",
		Volumes: []task.Volume{
			{Name: "data", Kind: task.VolumeHost, Source: "/host/data"},
			{Name: "logs", Kind: task.VolumeHost, Source: "/host/logs"},
		},
		Containers: []task.Container{
			{
				Name: "web", ARN: "arn:web", Image: "shop:7", Essential: true,
				Reservation:              task.Reservation{CPU: 1, Memory: 2, MemoryReservation: 128},
				EnvironmentWithoutRegion: true,
				Spec: container.Spec{
					Image:  "shop:7",
					Labels: labels("web", "team", "shop"),
					Process: container.Process{
						Command: []string{"override"}, Entrypoint: []string{"/entry"},
						Env:  []string{"A=1", "MODE=prod", credentials},
						User: "1000:1000", WorkingDir: "/srv", Hostname: "h", Domainname: "d",
						Terminal: true, Stdin: true, Init: true, StopSignal: "SIGQUIT",
					},
					Limits: container.Limits{
						CPUShares: 2, Memory: 4 << 20, MemoryReservation: 128 << 20, MemorySwap: 256 << 20, Swappiness: new(uint64(60)),
						Pids: 100, ShmSize: 1 << 20, OOMScoreAdj: new(10), CPUPeriod: 100_000, CPUQuota: 50_000, CPUSet: "0-1",
						Ulimits: []container.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}, {Name: "core", Soft: -1, Hard: -1}},
					},
					Rights: container.Rights{
						CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"MKNOD"}, Privileged: true, ReadonlyRootfs: true,
						NoNewPrivileges: true, Seccomp: "unconfined", AppArmor: "docker-default",
						SELinux: []string{"user:USER", "disable"}, GroupAdd: []string{"audio"}, Userns: "host",
					},
					Mounts: []container.Mount{
						{Type: "bind", Source: "/host/data", CreateSource: true, Destination: "/data", Options: []string{"rbind", "ro", "rprivate"}},
						{Type: "bind", Source: "/host/logs", CreateSource: true, Destination: "/logs", Options: []string{"rbind", "rprivate"}},
						{Type: "tmpfs", Source: "tmpfs", Destination: "/run", Options: []string{"nosuid", "nodev", "rw", "exec", "size=64m"}},
					},
					Devices: []container.Device{{HostPath: "/dev/fuse", ContainerPath: "/dev/fuse", Permissions: "rw"}},
					Sysctls: map[string]string{"net.core.somaxconn": "1024"},
					PID:     container.Namespace{Mode: "host"},
					IPC:     container.Namespace{Mode: "shareable"},
				},
				Networking: task.Networking{
					Ports: []task.PortMapping{
						{ContainerPort: 8080, ContainerPortEnd: 8080, Protocol: "tcp"},
						{ContainerPort: 53, ContainerPortEnd: 53, HostPort: 5353, Protocol: "udp"},
						{ContainerPort: 9000, ContainerPortEnd: 9010, Protocol: "tcp", Range: true},
					},
					Hosts: []task.Host{{Name: "db", Address: "10.0.0.9"}, {Name: "six", Address: "2001:db8::1"}},
					DNS:   task.DNS{Servers: []string{"10.0.0.2"}, Search: []string{"corp"}},
					Links: []task.Link{{Container: "side", Alias: "s"}},
				},
				Log: task.Log{Driver: "json-file", Options: map[string]string{"mode": "non-blocking", "max-buffer-size": "10m"}},
				Lifecycle: task.Lifecycle{
					DependsOn: []task.Dependency{
						{Container: "side", Condition: task.ConditionHealthy},
						{Container: "side", Condition: task.ConditionStart},
					},
					StartTimeout: 120 * time.Second, StopTimeout: 30 * time.Second,
					HealthCheck: &container.Healthcheck{
						Test: []string{"CMD-SHELL", "true"}, Interval: 15 * time.Second, Timeout: 3 * time.Second,
						StartPeriod: time.Second, Retries: 4,
					},
					ReportHealth: true,
					Restart:      &task.RestartPolicy{IgnoredExitCodes: []int{0, 2}, AttemptPeriod: 60 * time.Second},
				},
			},
			{
				Name: "side", Image: "side",
				Spec: container.Spec{
					Image: "side", Labels: labels("side"),
					Process: container.Process{Env: []string{"AWS_REGION=x", credentials}},
					Limits:  container.Limits{CPUShares: 262144},
					Mounts: []container.Mount{
						{Type: "bind", Source: "/host/data", CreateSource: true, Destination: "/data", Options: []string{"rbind", "ro", "rprivate"}},
						{Type: "bind", Source: "/host/logs", CreateSource: true, Destination: "/logs", Options: []string{"rbind", "rprivate", "ro"}},
					},
					PID: container.Namespace{Mode: "host"},
				},
				Reservation: task.Reservation{CPU: 999_999_999},
				Log:         task.Log{Driver: "json-file"},
				Lifecycle:   task.Lifecycle{DependsOn: []task.Dependency{{Container: "web", Condition: task.ConditionCreate}}},
				Mounting:    task.Mounting{VolumesFrom: []task.VolumesFrom{{Container: "web", ReadOnly: true}}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDocumentsWin: what the Docker documents say is stronger than the members.
func TestDocumentsWin(t *testing.T) {
	d, err := Conversion{}.Convert(readTask(t, one(`"cpu":256,"memory":64,"command":["a"],"environment":{"A":"1"},"dockerConfig":{
		"config":"{\"cmd\":[\"b\"],\"ENV\":[\"B=2\"],\"Labels\":{\"com.amazonaws.ecs.cluster\":\"mine\"}}",
		"hostConfig":"{\"CpuShares\":512,\"memory\":1048576,\"MemorySwap\":-1,\"Binds\":[\"/x:/y:rshared\"]}"}`)), "t")
	if err != nil {
		t.Fatal(err)
	}
	s := d.Containers[0].Spec
	if s.Process.Command[0] != "b" || cmp.Diff([]string{"B=2"}, s.Process.Env) != "" || s.Limits.CPUShares != 512 ||
		s.Limits.Memory != 1<<20 || s.Limits.MemorySwap != -1 || s.Mounts[0].Options[1] != "rshared" {
		t.Errorf("converted to %+v", s)
	}
	if got := s.Labels["com.amazonaws.ecs.cluster"]; got != clusterARN {
		t.Errorf("the label cluster is %q: the agent's labels are stronger than the user's", got)
	}
}

// one is a task of one container with these members.
func one(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"arn":"` + taskARN + `","taskClusterArn":"` + clusterARN + `","desiredStatus":"RUNNING","containers":[{"name":"c","image":"i"` + members + `}]}`
}

// hostConfig is a container with that hostConfig.
func hostConfig(text string) string {
	quoted, _ := json.Marshal(text) //nolint:errchkjson // It is a string.
	return one(`"dockerConfig":{"hostConfig":` + string(quoted) + `}`)
}

func withTask(members string) string {
	return strings.Replace(one(""), `"desiredStatus"`, members+`,"desiredStatus"`, 1)
}

func TestSmallThings(t *testing.T) {
	first := func(text string) task.Container {
		t.Helper()
		d, err := Conversion{}.Convert(readTask(t, text), "t")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return d.Containers[0]
	}
	if c := first(one(`"memory":100`)); c.Spec.Limits.MemorySwap != 200<<20 {
		t.Errorf("swap without a limit of its own is %d", c.Spec.Limits.MemorySwap)
	}
	if c := first(one(`"portMappings":[{"containerPort":80}]`)); len(c.Ports) != 1 {
		t.Errorf("bridge mode publishes %v", c.Ports)
	}
	if c := first(strings.Replace(one(`"portMappings":[{"containerPort":80}],"links":["nobody"]`), `"desiredStatus"`, `"networkMode":"host","desiredStatus"`, 1)); len(c.Ports) != 0 || len(c.Links) != 0 {
		t.Errorf("host mode publishes %v and links %v", c.Ports, c.Links)
	}
	mounts := first(hostConfig(`{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true},{"Type":"tmpfs","Target":"/c"}]}`)).Spec.Mounts
	if diff := cmp.Diff([]container.Mount{
		{Type: "bind", Source: "/a", Destination: "/b", Options: []string{"rbind", "rprivate", "ro"}},
		{Type: "tmpfs", Source: "tmpfs", Destination: "/c", Options: []string{"noexec", "nosuid", "nodev"}},
	}, mounts); diff != "" {
		t.Error(diff)
	}
	d, err := Conversion{}.Convert(readTask(t, hostConfig(`{"NetworkMode":"none"}`)), "t")
	if err != nil || d.Network != task.NetworkNone {
		t.Errorf("network mode of the document is %q, %v", d.Network, err)
	}
	if d, err = (Conversion{}).Convert(readTask(t, withTask(`"enableFaultInjection":true`)), "t"); err != nil || !d.FaultInjection {
		t.Errorf("faults may be asked for: %v, %v", d.FaultInjection, err)
	}
	if c := first(one(`"environment":{"AWS_DEFAULT_REGION":"x"}`)); c.EnvironmentWithoutRegion {
		t.Error("the region is set and yet to be added")
	}
	if c := first(one(`"healthCheckType":"","dockerConfig":{"config":"{\"HealthCheck\":{\"Test\":[\"NONE\"]}}"}`)); c.HealthCheck == nil || c.ReportHealth {
		t.Errorf("a health check of NONE became %v", c.HealthCheck)
	}
	if c := first(one(`"restartPolicy":{"enabled":false,"restartAttemptPeriod":5}`)); c.Restart != nil {
		t.Error("a restart policy that is off was kept")
	}
}

func TestConvertErrors(t *testing.T) {
	const unsupported = " is not supported by this version of Berth"
	for _, tc := range []struct{ task, want string }{
		{withTask(`"networkMode":"awsvpc"`), "tasks[1].networkMode: the network mode awsvpc" + unsupported},
		{hostConfig(`{"NetworkMode":"awsvpc"}`), "tasks[1].networkMode: the network mode awsvpc" + unsupported},
		{withTask(`"networkMode":"carrier-pigeon"`), `tasks[1].networkMode: "carrier-pigeon" is not a network mode`},
		{withTask(`"attachments":[{"attachmentType":"s3files"}]`), "tasks[1].attachments[0]: an attachment of type s3files" + unsupported},
		{withTask(`"associations":[{"type":"gpu"}]`), "tasks[1].associations[0]: a GPU without ECS_ENABLE_GPU_SUPPORT" + unsupported},
		{withTask(`"proxyConfiguration":{}`), "tasks[1].proxyConfiguration: a proxy in network mode bridge" + unsupported},
		{withTask(`"volumes":[{"name":"v","host":{"sourcePath":"rel"}}]`), `tasks[1].volumes[0].host.sourcePath: "rel" is not an absolute path`},
		{one(`"secrets":[{"name":"x"}]`), "tasks[1].containers[0].secrets[0].valueFrom: is missing"},
		{one(`"secrets":[{"name":"x=y","valueFrom":"p"}]`), `tasks[1].containers[0].secrets[0].name: "x=y" is no name of a variable`},
		{one(`"secrets":[{"name":"x","valueFrom":"p","type":"MOUNT_POINT"}]`), "tasks[1].containers[0].secrets[0].type: a secret in a file" + unsupported},
		{one(`"secrets":[{"name":"x","valueFrom":"p","provider":"vault"}]`), "tasks[1].containers[0].secrets[0].provider: the secret store vault" + unsupported},
		{one(`"environmentFiles":[{"type":"s3"}]`), "tasks[1].containers[0].environmentFiles[0].value: is missing"},
		{one(`"environmentFiles":[{"type":"efs","value":"x"}]`), "tasks[1].containers[0].environmentFiles[0].type: an environment file in efs" + unsupported},
		{one(`"registryAuthentication":{"type":"ecr"}`), "tasks[1].containers[0].registryAuthentication.ecrAuthData: is missing"},
		{one(`"registryAuthentication":{"type":"asm","asmAuthData":{}}`), "tasks[1].containers[0].registryAuthentication.asmAuthData.credentialsParameter: is missing"},
		{one(`"registryAuthentication":{"type":"gcr"}`), "tasks[1].containers[0].registryAuthentication.type: registry authentication of type gcr" + unsupported},
		{one(`"managedAgents":[{"name":"ExecuteCommandAgent"}]`), "tasks[1].containers[0].managedAgents[0]: the managed agent ExecuteCommandAgent" + unsupported},
		{one(`"mountPoints":[{"sourceVolume":"v","containerPath":"/v"}]`), "tasks[1].containers[0].mountPoints[0].sourceVolume: HostConfigError: Invalid volume referenced: v"},
		{one(`"volumesFrom":[{"sourceContainer":"v"}]`), "tasks[1].containers[0].volumesFrom[0].sourceContainer: could not find volume source container with name v"},
		{one(`"volumesFrom":[{"sourceContainer":"c"}]`), "tasks[1].containers[0].volumesFrom: Task dependencies cannot be resolved, taskArn: " + taskARN},
		{one(`"links":["a:b:c"]`), "tasks[1].containers[0].links[0]: invalid link format"},
		{one(`"links":["a:b"]`), "tasks[1].containers[0].links[0]: could not find container for link a:b"},
		{one(`"healthCheckType":"docker"`), "tasks[1].containers[0].healthCheckType: DockerClientConfigError: docker health check is nil while container health check type is DOCKER"},
		{
			one(`"dockerConfig":{"config":"{\"NetworkDisabled\":true}","hostConfig":"{\"NetworkMode\":\"host\"}"}`),
			"tasks[1].containers[0].dockerConfig.config.NetworkDisabled: a container without the network of its task in network mode host" + unsupported,
		},
		{strings.Replace(one(""), `"RUNNING"`, `"CREATED"`, 1), "tasks[1].desiredStatus: the desired status CREATED" + unsupported},
		{one(`"dockerConfig":{"config":"{"}`), "tasks[1].containers[0].dockerConfig.config: DockerClientConfigError: Unable decode given docker config: unexpected end of JSON input"},
		{hostConfig(`{"Ulimits":[{"Soft":"x"}]}`), "tasks[1].containers[0].dockerConfig.hostConfig: HostConfigError: Unable to decode given host config: Ulimits[0].Soft: a JSON string does not fit int64"},
		{hostConfig(`{"LogConfig":{"Type":"awslogs"}}`), "tasks[1].containers[0].dockerConfig.hostConfig.LogConfig.Type: the log driver awslogs" + unsupported},
		{hostConfig(`{"SecurityOpt":["magic"]}`), `tasks[1].containers[0].dockerConfig.hostConfig.SecurityOpt[0]: the security option "magic"` + unsupported},
		{hostConfig(`{"SecurityOpt":["seccomp=/etc/p"]}`), `tasks[1].containers[0].dockerConfig.hostConfig.SecurityOpt[0]: "/etc/p" is neither unconfined nor a profile in JSON`},
		{hostConfig(`{"Runtime":"nvidia"}`), "tasks[1].containers[0].dockerConfig.hostConfig.Runtime: the runtime nvidia" + unsupported},
		{hostConfig(`{"Binds":["name:/x"]}`), `tasks[1].containers[0].dockerConfig.hostConfig.Binds[0]: "name:/x" is not /source:/destination`},
		{hostConfig(`{"Binds":["/a:/b:ro,odd"]}`), `tasks[1].containers[0].dockerConfig.hostConfig.Binds[0]: "odd" is not an option of a bind mount`},
		{hostConfig(`{"Mounts":[{"Type":"bind","Source":"/a","Target":"b"}]}`), `tasks[1].containers[0].dockerConfig.hostConfig.Mounts[0].Target: "b" is not an absolute path`},
		{hostConfig(`{"Mounts":[{"Type":"volume","Source":"a","Target":"/b"}]}`), `tasks[1].containers[0].dockerConfig.hostConfig.Mounts[0]: a mount of type "volume" from "a"` + unsupported},
		{hostConfig(`{"Devices":[{"PathInContainer":"/dev/x"}]}`), "tasks[1].containers[0].dockerConfig.hostConfig.Devices[0].PathOnHost: is missing"},
		{hostConfig(`{"IpcMode":"container:x"}`), "tasks[1].containers[0].dockerConfig.hostConfig.IpcMode: the mode container:x" + unsupported},
		{hostConfig(`{"MemorySwappiness":101}`), "tasks[1].containers[0].dockerConfig.hostConfig.MemorySwappiness: 101 is more than 100"},
		{hostConfig(`{"Tmpfs":{"x":""}}`), `tasks[1].containers[0].dockerConfig.hostConfig.Tmpfs: "x" is not an absolute path`},
		{hostConfig(`{"ExtraHosts":["db"]}`), `tasks[1].containers[0].dockerConfig.hostConfig.ExtraHosts[0]: "db" is not name:address`},
		{hostConfig(`{"Memory":-5}`), "tasks[1].containers[0].dockerConfig.hostConfig.Memory: -5 is negative"},
		{hostConfig(`{"Ulimits":[{"Name":"nofile","Soft":9,"Hard":1}]}`), "tasks[1].containers[0].dockerConfig.hostConfig.Ulimits[0].Soft: 9 is more than the hard limit 1"},
		{hostConfig(`{"Privileged":true}`), "tasks[1].containers[0].dockerConfig.hostConfig.Privileged: privileged containers are disabled on this host (ECS_DISABLE_PRIVILEGED)"},
		{strings.Replace(withTask(`"memory":10`), `"image":"i"`, `"image":"i","memory":20`, 1), "tasks[1].containers[0].memory: resource cannot be initialized for task " + taskARN + ": cgroup resource: unable to build resource spec for task: task memory spec builder: container memory limit(20) greater than task memory limit(10)"},
		{strings.Replace(one(""), "9ab0", "..", 1), `tasks[1].arn: "` + strings.Replace(taskARN, "9ab0", "..", 1) + `" does not end in a task id`},
		{strings.Replace(one(""), `"name":"c"`, `"name":"../c"`, 1), `tasks[1].containers[0].name: "../c" is not a name of a container`},
		{`{"arn":"x/1","desiredStatus":"RUNNING"}`, "tasks[1].containers: is missing"},
	} {
		_, err := Conversion{PrivilegedDisabled: true}.Convert(readTask(t, tc.task), "tasks[1]")
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s\n got %v\nwant %s", tc.task, err, tc.want)
		}
		if isUnsupported(err) != strings.HasSuffix(tc.want, unsupported) {
			t.Errorf("%s: unsupported is %v", tc.task, isUnsupported(err))
		}
	}
}

func isUnsupported(err error) bool { return errors.As(err, new(*UnsupportedError)) }

// FuzzConvert: whatever a payload holds, it is converted or refused.
func FuzzConvert(f *testing.F) {
	f.Add(one(`"portMappings":[{"containerPortRange":"1-5"}],"links":["c"],"volumesFrom":[{"sourceContainer":"c"}]`))
	f.Add(hostConfig(`{"Tmpfs":{"/x":"noexec,,exec"},"SecurityOpt":["label:"],"ExtraHosts":[":"]}`))
	if text, err := os.ReadFile(filepath.Join("testdata", "everything.json")); err == nil {
		f.Add(string(text))
	}
	f.Fuzz(func(_ *testing.T, text string) {
		var t wire.Task
		if json.Unmarshal([]byte(text), &t) == nil {
			_, _ = Conversion{}.Convert(&t, "t")
		}
	})
}

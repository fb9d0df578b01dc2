package acs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/acs"
)

// frames are the examples of spec/control-plane.md §4, one a line.
func frames(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "frames.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// TestExamples reads every example of the spec and writes it again: nothing of
// it may be lost, so every member has a field.
func TestExamples(t *testing.T) {
	for _, frame := range frames(t) {
		m, err := acs.Decode(frame)
		if err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		t.Run(m.MessageType(), func(t *testing.T) {
			again, err := acs.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(generic(t, frame), generic(t, again)); diff != "" {
				t.Errorf("decode and encode changed the frame (-want +got):\n%s", diff)
			}
			if v, ok := m.(interface{ Validate() error }); ok {
				if err := v.Validate(); err != nil {
					t.Errorf("example is not valid: %v", err)
				}
			}
		})
	}
}

// generic is a frame with what says nothing left out: false, 0 and "".
func generic(t *testing.T, frame []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(frame, &v); err != nil {
		t.Fatal(err)
	}
	return prune(v)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			switch e := prune(e); e {
			case "", false, 0.0:
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

func TestPayloadOfTheSpec(t *testing.T) {
	var payload *acs.PayloadMessage
	for _, frame := range frames(t) {
		if m, err := acs.Decode(frame); err == nil {
			if p, ok := m.(*acs.PayloadMessage); ok && p.SeqNum == 42 {
				payload = p
			}
		}
	}
	task := payload.Tasks[0]
	if err := task.Validate("tasks[0]"); err != nil {
		t.Fatal(err)
	}
	c := task.Containers[0]
	if task.CPU != 0.5 || task.Memory != 512 || c.CPU != 256 || !c.Essential || c.Environment["MODE"] != "prod" {
		t.Errorf("task was read as %+v", task)
	}
	var host acs.HostConfig
	if err := host.Merge(c.DockerConfig.HostConfig); err != nil {
		t.Fatal(err)
	}
	want := acs.LogConfig{Type: "awslogs", Config: map[string]string{
		"awslogs-group": "/shop", "awslogs-region": "eu-west-1", "awslogs-stream": "web/web/9ab0",
	}}
	if diff := cmp.Diff(want, host.LogConfig); diff != "" {
		t.Error(diff)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", task, task.ExecutionRoleCredentials, *task.ExecutionRoleCredentials, task.ExecutionRoleCredentials); strings.Contains(s, "ASIA") {
		t.Errorf("credentials were printed: %s", s)
	}
}

func TestDecodeErrors(t *testing.T) {
	_, err := acs.Decode([]byte(`{"type":"NewFeatureMessage","message":{"x":1}}`))
	if unknown, ok := errors.AsType[*acs.UnknownTypeError](err); !ok || unknown.Type != "NewFeatureMessage" {
		t.Errorf("unknown type gave %v", err)
	}
	_, err = acs.Decode([]byte(`{"type":"TaskManifestMessage","message":{"tasks":[{},{"taskArn":5}]}}`))
	if field, ok := errors.AsType[*acs.FieldError](err); !ok || field.Path != "tasks[1].taskArn" {
		t.Errorf("wrong type gave %v", err)
	}
	if _, err := acs.Decode([]byte(`{"type":`)); err == nil {
		t.Error("half a frame was read")
	}
}

// TestOneBadTask: what cannot be read of one task leaves the others whole.
func TestOneBadTask(t *testing.T) {
	m, err := acs.Decode([]byte(`{"type":"PayloadMessage","message":{"messageId":"m","tasks":[
		{"arn":"a","desiredStatus":"STOPPED"}, null,
		{"arn":"b","containers":[{"name":"x"},{"name":"y","portMappings":[{"hostPort":"http"}],"memory":64}]},
		{"arn":"c","containers":[{"memory":{}}]}, 7]}}`))
	if err != nil {
		t.Fatal(err)
	}
	p := m.(*acs.PayloadMessage)
	if len(p.Tasks) != 5 || p.Tasks[0].Malformed != nil || p.Tasks[1] != nil {
		t.Fatalf("tasks were read as %+v", p.Tasks)
	}
	for i, want := range map[int]string{
		2: "tasks[2].containers[1].portMappings[0].hostPort: a JSON string does not fit int",
		3: "tasks[3].containers[0].memory: a JSON object does not fit int64",
		4: "tasks[4]: a JSON number does not fit acs.Task",
	} {
		err := p.Tasks[i].Validate(fmt.Sprintf("tasks[%d]", i))
		if err == nil || err.Error() != want {
			t.Errorf("task %d: got %v, want %s", i, err, want)
		}
	}
	if b := p.Tasks[2]; b.ARN != "b" || b.Containers[1].Memory != 64 {
		t.Errorf("the rest of a malformed task was lost: %+v", b)
	}
}

func TestTaskValidate(t *testing.T) {
	for _, tc := range []struct{ task, want string }{
		{`{"arn":"a","desiredStatus":"RUNNING"}`, ""},
		{`{"desiredStatus":"RUNNING"}`, "tasks[3].arn: is missing"},
		{`{"arn":"a","desiredStatus":"GONE"}`, `tasks[3].desiredStatus: "GONE" is not a status`},
		{`{"arn":"a","desiredStatus":"RUNNING","containers":[null]}`, "tasks[3].containers[0]: is null"},
		{`{"arn":"a","desiredStatus":"RUNNING","containers":[{"image":"i"}]}`, "tasks[3].containers[0].name: is missing"},
		{`{"arn":"a","desiredStatus":"RUNNING","containers":[{"name":"n"}]}`, "tasks[3].containers[0].image: is missing"},
		{
			`{"arn":"a","desiredStatus":"RUNNING","containers":[{"name":"n","image":"i"},{"name":"n","image":"i"}]}`,
			`tasks[3].containers[1].name: "n" is the name of two containers`,
		},
		{container(`"portMappings":[{"containerPort":80},{"containerPort":53,"protocol":"icmp"}]`), `tasks[3].containers[0].portMappings[1].protocol: "icmp" is neither tcp nor udp`},
		{container(`"portMappings":[{"containerPort":0}]`), `tasks[3].containers[0].portMappings[0].containerPort: 0 is not a port`},
		{container(`"portMappings":[{"containerPort":70000}]`), `tasks[3].containers[0].portMappings[0].containerPort: 70000 is not a port`},
		{container(`"portMappings":[{"containerPort":1,"hostPort":-1}]`), `tasks[3].containers[0].portMappings[0].hostPort: -1 is not a port`},
		{container(`"portMappings":[{"containerPortRange":"9-8"}]`), `tasks[3].containers[0].portMappings[0].containerPortRange: "9-8" is not a range of ports`},
		{container(`"portMappings":[{"containerPortRange":"8-9","containerPort":8}]`), `tasks[3].containers[0].portMappings[0].containerPortRange: excludes containerPort`},
		{container(`"dependsOn":[{"containerName":"x","condition":"SOON"}]`), `tasks[3].containers[0].dependsOn[0].condition: "SOON" is not START, COMPLETE, SUCCESS or HEALTHY`},
		{container(`"overrides":"{\"cpu\":5}"`), `tasks[3].containers[0].overrides: has the unknown key "cpu"`},
		{container(`"overrides":{"command":["sh"]}`), ""},
		{container(`"cpu":-1`), `tasks[3].containers[0].cpu: -1 is negative`},
		{`{"arn":"a","desiredStatus":"RUNNING","volumes":[{"name":"v","type":"ebs"}]}`, `tasks[3].volumes[0].type: "ebs" cannot be used as the type of a volume`},
		{`{"arn":"a","desiredStatus":"RUNNING","volumes":[{"name":"v","type":"floppy"}]}`, `tasks[3].volumes[0].type: "floppy" is not a type of volume`},
		{`{"arn":"a","desiredStatus":"RUNNING","volumes":[{"type":"host"}]}`, `tasks[3].volumes[0].name: is missing`},
	} {
		var task acs.Task
		if err := json.Unmarshal([]byte(tc.task), &task); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := task.Validate("tasks[3]"); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.task, got, tc.want)
		}
	}
}

func container(member string) string {
	return `{"arn":"a","desiredStatus":"RUNNING","containers":[{"name":"n","image":"i",` + member + `}]}`
}

func TestOverrides(t *testing.T) {
	for _, text := range []string{`"{\"command\":[\"sh\",\"-c\"]}"`, `{"command":["sh","-c"]}`} {
		var c acs.Container
		if err := json.Unmarshal([]byte(`{"overrides":`+text+`}`), &c); err != nil {
			t.Fatal(err)
		}
		o, err := acs.ParseOverrides(c.Overrides)
		if err != nil || cmp.Diff([]string{"sh", "-c"}, o.Command) != "" {
			t.Errorf("%s gave %v, %v", text, o, err)
		}
	}
}

func TestDockerJSON(t *testing.T) {
	for _, key := range []string{"HealthCheck", "Healthcheck", "healthcheck"} {
		c := acs.ContainerConfig{Image: "derived", Cmd: acs.StrSlice{"derived"}, Env: []string{"A=1"}}
		err := c.Merge(`{"user":"1000","` + key + `":{"test":["CMD-SHELL","true"],"Interval":15000000000,"RETRIES":4},"CMD":"one","Future":{}}`)
		if err != nil {
			t.Fatal(err)
		}
		want := acs.ContainerConfig{
			Image: "derived", Cmd: acs.StrSlice{"one"}, Env: []string{"A=1"}, User: "1000",
			Healthcheck: &acs.HealthConfig{Test: acs.StrSlice{"CMD-SHELL", "true"}, Interval: 15 * time.Second, Retries: 4},
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	h := acs.HostConfig{CPUShares: 256, Memory: 64 << 20}
	if err := h.Merge(`{"CpuShares":512,"Ulimits":[{"Name":"nofile","Soft":1024,"Hard":2048}],"Init":true}`); err != nil {
		t.Fatal(err)
	}
	if h.CPUShares != 512 || h.Memory != 64<<20 || h.Ulimits[0].Hard != 2048 || !*h.Init {
		t.Errorf("merged to %+v", h)
	}
	err := h.Merge(`{"Ulimits":[{"Name":"a"},{"Soft":"many"}]}`)
	if err == nil || err.Error() != "Ulimits[1].Soft: a JSON string does not fit int64" {
		t.Errorf("got %v", err)
	}
}

func TestDecodeRefusal(t *testing.T) {
	for body, want := range map[string]string{
		`{"type":"InactiveInstanceException","message":{"message":"gone"}}`: "InactiveInstanceException: gone",
		`{"AccessDeniedException":"no"}`:                                    "AccessDeniedException: no",
		`<html>`:                                                            "",
		`{"type":"HeartbeatMessage"}`:                                       "",
	} {
		got := ""
		if e := acs.DecodeRefusal([]byte(body)); e != nil {
			got = e.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

func TestENIValidate(t *testing.T) {
	good := acs.ENI{EC2ID: "eni-1", MACAddress: "0a:0", IPv4Addresses: []acs.IPv4Address{{PrivateAddress: "10.0.0.2"}}, SubnetGatewayIPv4Address: "10.0.0.1/24"}
	for want, change := range map[string]func(*acs.ENI){
		"":                           func(*acs.ENI) {},
		"eni.macAddress: is missing": func(e *acs.ENI) { e.MACAddress = "" },
		"eni.ec2Id: is missing":      func(e *acs.ENI) { e.EC2ID = "" },
		`eni.subnetGatewayIpv4Address: "10.0.0.1" is not an address with a prefix length`: func(e *acs.ENI) { e.SubnetGatewayIPv4Address = "10.0.0.1" },
		"eni.interfaceVlanProperties: is missing":                                         func(e *acs.ENI) { e.InterfaceAssociationProtocol = "vlan" },
		`eni.interfaceAssociationProtocol: "veth" is not for an EC2 instance`:             func(e *acs.ENI) { e.InterfaceAssociationProtocol = "veth" },
		"eni.ipv4Addresses: is missing":                                                   func(e *acs.ENI) { e.IPv4Addresses = nil },
	} {
		e := good
		change(&e)
		got := ""
		if err := e.Validate("eni"); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := acs.Decode(frame)
		if err != nil {
			return
		}
		if p, ok := m.(*acs.PayloadMessage); ok {
			for i, task := range p.Tasks {
				if task != nil {
					_ = task.Validate(fmt.Sprintf("tasks[%d]", i))
				}
			}
		}
		once, err := acs.Encode(m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		m2, err := acs.Decode(once)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, once)
		}
		twice, err := acs.Encode(m2)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, once, twice)
		}
	})
}

func FuzzHostConfig(f *testing.F) {
	f.Add(`{"CapAdd":[],"LogConfig":{"Type":"none"},"Init":null}`)
	f.Fuzz(func(_ *testing.T, text string) {
		var h acs.HostConfig
		_ = h.Merge(text)
		var c acs.ContainerConfig
		_ = c.Merge(text)
	})
}

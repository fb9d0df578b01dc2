package ecs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/ecs"
)

// TestEncoding holds the examples of spec control-plane §1.5, §3 and §6.2: what
// must be on the wire, what must not, and in which form.
func TestEncoding(t *testing.T) {
	started := ecs.At(time.UnixMilli(1740830250120))
	stopped := ecs.At(time.UnixMilli(1740830262000))
	for _, tc := range []struct {
		name string
		in   any
		want string
	}{
		{
			"running report keeps an empty reason and empty bindings",
			ecs.SubmitTaskStateChangeRequest{
				Cluster: "blue-fleet", Task: "arn:t", Status: "RUNNING", PullStartedAt: started, PullStoppedAt: stopped,
				Containers: []ecs.ContainerStateChange{{ContainerName: "web", Status: "RUNNING", RuntimeID: "f3a1"}},
			},
			`{"cluster":"blue-fleet","task":"arn:t","status":"RUNNING","containers":[{"containerName":"web","runtimeId":"f3a1","networkBindings":[],"status":"RUNNING"}],"pullStartedAt":1740830250.12,"pullStoppedAt":1740830262,"reason":""}`,
		},
		{
			"exit code zero is said",
			ecs.ContainerStateChange{ContainerName: "web", Status: "STOPPED", ExitCode: new(0)},
			`{"containerName":"web","exitCode":0,"networkBindings":[],"status":"STOPPED"}`,
		},
		{
			"attachment form has three members only",
			ecs.SubmitTaskStateChangeRequest{Cluster: "c", Task: "t", Attachments: []ecs.AttachmentStateChange{{AttachmentARN: "a", Status: ecs.AttachmentAttached}}},
			`{"cluster":"c","task":"t","attachments":[{"attachmentArn":"a","status":"ATTACHED"}]}`,
		},
		{
			"managed agent keeps its reason",
			ecs.ManagedAgentStateChange{ContainerName: "web", ManagedAgentName: "ExecuteCommandAgent", Status: "RUNNING"},
			`{"containerName":"web","managedAgentName":"ExecuteCommandAgent","status":"RUNNING","reason":""}`,
		},
		{
			"range binding",
			ecs.NetworkBinding{BindIP: "0.0.0.0", ContainerPortRange: "8000-8004", HostPortRange: "32768-32772", Protocol: "tcp"},
			`{"bindIP":"0.0.0.0","protocol":"tcp","containerPortRange":"8000-8004","hostPortRange":"32768-32772"}`,
		},
		{
			"registration sends empty identity and empty port sets",
			ecs.RegisterContainerInstanceRequest{
				Cluster: "blue-fleet", ClientToken: "6a3d",
				TotalResources: []ecs.Resource{
					{Name: "CPU", Type: "INTEGER", IntegerValue: 4096},
					{Name: "PORTS_UDP", Type: "STRINGSET", StringSetValue: []string{}},
				},
				Attributes: []ecs.Attribute{{Name: "ecs.os-type", Value: "linux"}, {Name: "ecs.capability.efs"}},
			},
			`{"cluster":"blue-fleet","instanceIdentityDocument":"","instanceIdentityDocumentSignature":"","totalResources":[{"name":"CPU","type":"INTEGER","integerValue":4096},{"name":"PORTS_UDP","type":"STRINGSET","stringSetValue":[]}],"attributes":[{"name":"ecs.os-type","value":"linux"},{"name":"ecs.capability.efs"}],"clientToken":"6a3d"}`,
		},
		{
			"discovery always sends the zone",
			ecs.DiscoverPollEndpointRequest{ContainerInstance: "arn:i", Cluster: "c"},
			`{"containerInstance":"arn:i","cluster":"c","zoneId":""}`,
		},
		{
			"error",
			&ecs.Error{Type: ecs.ErrTypeClient, Message: "Cluster not found."},
			`{"__type":"ClientException","message":"Cluster not found."}`,
		},
		{"unset timestamp", struct{ T ecs.Timestamp }{}, `{"T":null}`},
		{"moment before the epoch", ecs.At(time.UnixMilli(-1500)), `-1.5`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("wire form\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestTimestampDecoding(t *testing.T) {
	for in, want := range map[string]time.Time{
		`1740830400.123`:             time.UnixMilli(1740830400123),
		`1740830400`:                 time.UnixMilli(1740830400000),
		`1.7408304001239999e9`:       time.UnixMilli(1740830400124),
		`"2025-03-01T12:00:00.123Z"`: time.UnixMilli(1740830400123),
		`null`:                       {},
	} {
		var got ecs.Timestamp
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
	for _, in := range []string{`1e300`, `"yesterday"`, `true`, `{}`, `-1e13`} {
		var got ecs.Timestamp
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s: read as %v, want an error", in, got)
		}
	}
}

// TestDecodeNamesTheMember is what a user sees who wrote a wrong type.
func TestDecodeNamesTheMember(t *testing.T) {
	for in, want := range map[string]string{
		`{"containerDefinitions":[{"name":"a","memory":"512"}]}`: "containerDefinitions.memory: a JSON string is not acceptable here, need int",
		`[]`:            "body: a JSON array is not acceptable here",
		`{"family":`:    "body is not JSON at byte",
		`{"cpu":"1"} x`: "body is not JSON at byte",
	} {
		err := ecs.Decode([]byte(in), &ecs.RegisterTaskDefinitionRequest{})
		if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeSerialization}) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a SerializationException with %q", in, err, want)
		}
	}
	var r ecs.RegisterTaskDefinitionRequest
	if err := ecs.Decode([]byte(`{"family":"f","somethingNew":{"deep":[1]}}`), &r); err != nil || r.Family != "f" {
		t.Errorf("unknown member: got %v, %+v", err, r)
	}
	if err := ecs.Decode(nil, &r); err != nil {
		t.Errorf("empty body: %v", err)
	}
}

func TestParseError(t *testing.T) {
	for _, tc := range []struct {
		header, body string
		want         ecs.Error
	}{
		{"", `{"__type":"ClientException","message":"no"}`, ecs.Error{Type: "ClientException", Message: "no"}},
		{"", `{"__type":"com.amazon#ServerException","Message":"oh"}`, ecs.Error{Type: "ServerException", Message: "oh"}},
		{"ThrottlingException:http://x", `{}`, ecs.Error{Type: "ThrottlingException"}},
		{"", `<html>502</html>`, ecs.Error{Message: "<html>502</html>"}},
	} {
		if diff := cmp.Diff(&tc.want, ecs.ParseError(tc.header, []byte(tc.body))); diff != "" {
			t.Errorf("%q %s: (-want +got)\n%s", tc.header, tc.body, diff)
		}
	}
}

func TestErrorIs(t *testing.T) {
	err := error(&ecs.Error{Type: ecs.ErrTypeClient, Message: "Cluster not found."})
	if !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClient}) {
		t.Error("an Error must match its type")
	}
	if errors.Is(err, &ecs.Error{Type: ecs.ErrTypeServer}) || errors.Is(err, &ecs.Error{Type: ecs.ErrTypeClient, Message: "other"}) {
		t.Error("an Error must not match another type or message")
	}
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abc", 5, "abc"},
		{"abc", 2, "ab"},
		{"aé", 2, "a"},
		{"aéz", 3, "aé"},
		{"", 0, ""},
	} {
		if got := ecs.Cut(tc.in, tc.limit); got != tc.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

// FuzzDecode feeds damaged calls to the widest messages: nothing may panic, and
// what was read must survive being written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"family":"f","containerDefinitions":[{"name":"a","image":"b","memory":5,"portMappings":[{"containerPort":80}],"dependsOn":[{"containerName":"a","condition":"START"}]}]}`))
	f.Add([]byte(`{"task":"t","status":"RUNNING","containers":[{"containerName":"c","exitCode":0}],"pullStartedAt":1740830250.12}`))
	f.Add([]byte(`{"containerInstances":[{"registeredAt":"2025-03-01T12:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, new(ecs.RegisterTaskDefinitionRequest), new(ecs.RegisterTaskDefinitionRequest))
		again(t, body, new(ecs.SubmitTaskStateChangeRequest), new(ecs.SubmitTaskStateChangeRequest))
		again(t, body, new(ecs.DescribeContainerInstancesResponse), new(ecs.DescribeContainerInstancesResponse))
		var def ecs.RegisterTaskDefinitionRequest
		if ecs.Decode(body, &def) == nil {
			var field *ecs.FieldError
			if err := def.Validate(); err != nil && (!errors.As(err, &field) || field.Field == "") {
				t.Errorf("validation did not name a member: %v", err)
			}
		}
	})
}

func again(t *testing.T, body []byte, one, two any) {
	t.Helper()
	if ecs.Decode(body, one) != nil {
		return
	}
	first, err := json.Marshal(one)
	if err != nil {
		t.Fatalf("cannot write what was read: %v", err)
	}
	if err := ecs.Decode(first, two); err != nil {
		t.Fatalf("cannot read what was written: %v\n%s", err, first)
	}
	second, err := json.Marshal(two)
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Errorf("not stable\n%s\n%s", first, second)
	}
}

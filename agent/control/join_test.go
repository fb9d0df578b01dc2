package control

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/ecs"
)

// registry is a Registrar that answers from a script and remembers.
type registry struct {
	// answer is called for each registration; nil accepts.
	answer   func(n int, r *ecs.RegisterContainerInstanceRequest) error
	requests []*ecs.RegisterContainerInstanceRequest
	created  []string
	// drop is an attribute that does not come back.
	drop string
	// status is what ECS holds of the host.
	status string
}

func (r *registry) RegisterContainerInstance(_ context.Context, in *ecs.RegisterContainerInstanceRequest) (*ecs.RegisterContainerInstanceResponse, error) {
	r.requests = append(r.requests, in)
	if r.answer != nil {
		if err := r.answer(len(r.requests), in); err != nil {
			return nil, err
		}
	}
	out := &ecs.ContainerInstance{ContainerInstanceARN: "arn:instance", Status: r.status}
	for _, a := range in.Attributes {
		if a.Name != r.drop {
			out.Attributes = append(out.Attributes, a)
		}
	}
	out.Attributes = append(out.Attributes, ecs.Attribute{Name: "ecs.availability-zone", Value: "eu-west-1a"})
	return &ecs.RegisterContainerInstanceResponse{ContainerInstance: out}, nil
}

func (r *registry) CreateCluster(_ context.Context, in *ecs.CreateClusterRequest) (*ecs.CreateClusterResponse, error) {
	r.created = append(r.created, in.ClusterName)
	return &ecs.CreateClusterResponse{}, nil
}

// papers is a Document.
type papers struct{ document, signature string }

func (p papers) Document(context.Context) (string, error)  { return text(p.document) }
func (p papers) Signature(context.Context) (string, error) { return text(p.signature) }

func text(s string) (string, error) {
	if s == "" {
		return "", errors.New("no instance metadata service")
	}
	return s, nil
}

func someHost() Host {
	return Host{
		CPUs: 4, MemoryMiB: 15980, ReservedMiB: 300,
		ReservedTCP: []uint16{22, 51678}, OSFamily: "debian_12", EC2InstanceID: "i-1", GPUs: []string{"GPU-5f0c"},
		CustomAttributes: map[string]string{"stack": "prod"}, Tags: map[string]string{"b": "2", "a": "1"},
		Features: Features{LogDrivers: []string{"json-file", "none"}, Privileged: true, TaskLimits: true},
	}
}

// TestRegistration compares a first registration with the golden text.
func TestRegistration(t *testing.T) {
	api := &registry{}
	got, err := Join(t.Context(), JoinConfig{API: api, Document: papers{"{\"doc\" : 1}", "c2ln"}, Cluster: "blue", Host: someHost()}, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	want := Identity{ContainerInstanceARN: "arn:instance", Cluster: "blue", AvailabilityZone: "eu-west-1a", EC2InstanceID: "i-1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r := *api.requests[0]
	if r.ClientToken == "" {
		t.Error("there is no client token")
	}
	r.ClientToken = "uuid"
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "register.json", string(b)+"\n")
}

func TestAgain(t *testing.T) {
	api := &registry{}
	saved := Identity{ContainerInstanceARN: "arn:mine", Cluster: "blue"}
	got, err := Join(t.Context(), JoinConfig{API: api, Cluster: "blue", Host: someHost()}, saved)
	if err != nil || got.ContainerInstanceARN != "arn:mine" {
		t.Errorf("registered again as %+v, %v", got, err)
	}
	r := api.requests[0]
	if r.ContainerInstanceARN != "arn:mine" || r.InstanceIdentityDocument != "" || r.Tags == nil {
		t.Errorf("registered again with %+v", r)
	}
	for _, a := range r.Attributes {
		if a.Name == "stack" {
			t.Error("a custom attribute was sent a second time")
		}
	}
}

// ECS is asked once what it holds of a host, by a registration like the others.
func TestStatus(t *testing.T) {
	saved := Identity{ContainerInstanceARN: "arn:mine", Cluster: "blue"}
	refused := &ecs.Error{Type: ecs.ErrTypeServer, Message: "not now"}
	for _, tt := range []struct {
		api  registry
		want string
		err  string
	}{
		{registry{status: "DRAINING"}, "DRAINING", ""},
		{registry{}, "", "does not say"},
		{registry{answer: func(int, *ecs.RegisterContainerInstanceRequest) error { return refused }}, "", "not now"},
	} {
		got, err := Status(t.Context(), JoinConfig{API: &tt.api, Cluster: "blue", Host: someHost()}, saved)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q, %v; want %q, %s", got, err, tt.want, tt.err)
		}
		if len(tt.api.requests) != 1 || tt.api.requests[0].ContainerInstanceARN != "arn:mine" {
			t.Errorf("asked %d times", len(tt.api.requests))
		}
	}
}

func TestNoDocument(t *testing.T) {
	for _, p := range []papers{{}, {"doc", ""}} {
		api := &registry{}
		if _, err := Join(t.Context(), JoinConfig{API: api, Document: p, Cluster: "blue", Host: someHost()}, Identity{}); err != nil {
			t.Fatal(err)
		}
		if r := api.requests[0]; r.InstanceIdentityDocument != p.document || r.InstanceIdentityDocumentSignature != "" {
			t.Errorf("registered with %q and %q", r.InstanceIdentityDocument, r.InstanceIdentityDocumentSignature)
		}
	}
}

func TestClusterIsMade(t *testing.T) {
	missing := &ecs.Error{Type: ecs.ErrTypeClient, Message: "Cluster not found."}
	once := func(n int, _ *ecs.RegisterContainerInstanceRequest) error {
		if n == 1 {
			return missing
		}
		return nil
	}
	api := &registry{answer: once}
	got, err := Join(t.Context(), JoinConfig{API: api, Host: someHost()}, Identity{})
	if err != nil || got.Cluster != "default" || strings.Join(api.created, " ") != "default" {
		t.Errorf("got %+v, %v, made %v", got, err, api.created)
	}
	if api.requests[0].ClientToken != api.requests[1].ClientToken {
		t.Error("the two registrations have different client tokens")
	}
	api = &registry{answer: once}
	if _, err := Join(t.Context(), JoinConfig{API: api, Cluster: "default", Host: someHost()}, Identity{}); ExitCode(err) != ExitTerminal || api.created != nil {
		t.Errorf("a configured cluster: %v, made %v", err, api.created)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{&ecs.Error{Type: ecs.ErrTypeInvalidParameter, Message: "x"}, ExitTerminal},
		{&ecs.Error{Type: ecs.ErrTypeClient, Message: "x"}, ExitTerminal},
		{&ecs.Error{Type: "OtherException", Message: "Container instance type changes are not supported."}, ExitTerminal},
		{&ecs.Error{Type: ecs.ErrTypeAccessDenied, Message: "x"}, ExitFailure},
		{errors.New("no route to host"), ExitFailure},
	} {
		api := &registry{answer: func(int, *ecs.RegisterContainerInstanceRequest) error { return tc.err }}
		_, err := Join(t.Context(), JoinConfig{API: api, Cluster: "blue", Host: someHost()}, Identity{})
		if !errors.Is(err, tc.err) || ExitCode(err) != tc.want || len(api.requests) != 1 {
			t.Errorf("%v: exit code %d after %d attempts", err, ExitCode(err), len(api.requests))
		}
	}
	gone := &registry{answer: func(int, *ecs.RegisterContainerInstanceRequest) error {
		return &ecs.Error{Type: ecs.ErrTypeClient, Message: "inactive"}
	}}
	if _, err := Join(t.Context(), JoinConfig{API: gone, Cluster: "blue", Host: someHost()}, Identity{ContainerInstanceARN: "arn:mine"}); ExitCode(err) != ExitTerminal ||
		!strings.Contains(err.Error(), "this host is arn:mine; if that was deregistered") {
		t.Errorf("a host that was deregistered is told %v", err)
	}
	_, err := Join(t.Context(), JoinConfig{API: &registry{drop: "ecs.os-type"}, Cluster: "blue", Host: someHost()}, Identity{})
	if ExitCode(err) != ExitTerminal || !strings.Contains(err.Error(), "ecs.os-type") {
		t.Errorf("an attribute that does not come back: %v", err)
	}
	small := someHost()
	small.MemoryMiB = 100
	if _, err := Join(t.Context(), JoinConfig{API: &registry{}, Host: small}, Identity{}); ExitCode(err) != ExitFailure || !strings.Contains(err.Error(), "ECS_RESERVED_MEMORY") {
		t.Errorf("more memory reserved than there is: %v", err)
	}
	if ExitCode(nil) != 0 {
		t.Error("no error has an exit code")
	}
}

// TestTransient: trouble of the service is waited out, for an hour.
func TestTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := &ecs.Error{Type: ecs.ErrTypeThrottling}
		start := time.Now()
		api := &registry{answer: func(n int, _ *ecs.RegisterContainerInstanceRequest) error {
			if n < 4 {
				return throttled
			}
			return nil
		}}
		if _, err := Join(t.Context(), JoinConfig{API: api, Cluster: "blue", Host: someHost()}, Identity{}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d < 21*time.Second || d > 26*time.Second {
			t.Errorf("four attempts took %v", d)
		}
		start = time.Now()
		api = &registry{answer: func(int, *ecs.RegisterContainerInstanceRequest) error { return throttled }}
		_, err := Join(t.Context(), JoinConfig{API: api, Cluster: "blue", Host: someHost()}, Identity{})
		if !errors.Is(err, throttled) || ExitCode(err) != ExitFailure || time.Since(start) != time.Hour {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestRestore(t *testing.T) {
	saved := Identity{ContainerInstanceARN: "arn", Cluster: "blue", EC2InstanceID: "i-1"}
	for _, tc := range []struct {
		saved             Identity
		cluster, instance string
		keep              Identity
		discard, terminal bool
	}{
		{saved, "blue", "i-1", saved, false, false},
		{saved, "blue", "", saved, false, false},
		{saved, "blue", "i-2", Identity{}, true, false},
		{saved, "red", "i-2", Identity{}, true, false},
		{saved, "red", "i-1", Identity{}, false, true},
		{saved, "", "i-1", Identity{}, false, true},
		{Identity{Cluster: "default"}, "", "", Identity{Cluster: "default"}, false, false},
		{Identity{}, "red", "i-1", Identity{}, false, false},
	} {
		keep, discard, err := Restore(tc.saved, tc.cluster, tc.instance)
		if keep != tc.keep || discard != tc.discard || (ExitCode(err) == ExitTerminal) != tc.terminal {
			t.Errorf("%+v with %s on %s: %+v %v %v", tc.saved, tc.cluster, tc.instance, keep, discard, err)
		}
	}
}

// TestFeatures: nothing is advertised that is not switched on, and each switch
// advertises something.
func TestFeatures(t *testing.T) {
	h := Host{VPC: "vpc", Subnet: "subnet", Architecture: "arm64", OutpostARN: "arn:o", GPUDriver: "580.1"}
	h.Features.LogDrivers, h.Features.TaskENIVersion = []string{"awslogs", "json-file"}, "1.105.1"
	switches := reflect.ValueOf(&h.Features).Elem()
	for i := range switches.NumField() {
		if field := switches.Field(i); field.Kind() == reflect.Bool {
			field.SetBool(switches.Type().Field(i).Name != "External")
		}
	}
	list := func(h Host) string {
		var b strings.Builder
		for _, a := range h.attributes(true) {
			b.WriteString(strings.TrimSpace(a.Name+" "+a.Value) + "\n")
		}
		return b.String()
	}
	all := list(h)
	for i := range switches.NumField() {
		field := switches.Field(i)
		if field.Kind() != reflect.Bool || !field.Bool() {
			continue
		}
		field.SetBool(false)
		if list(h) == all {
			t.Errorf("%s changes nothing", switches.Type().Field(i).Name)
		}
		field.SetBool(true)
	}
	external := h
	external.Features.External = true
	golden(t, "attributes.txt", "# nothing\n"+list(Host{})+"# everything\n"+all+"# everything, on ECS Anywhere\n"+list(external))
}

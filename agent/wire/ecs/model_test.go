package ecs_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/wire/ecs"
)

// publicModel is the description of the ECS API that comes with Debian's AWS CLI.
const publicModel = "/usr/lib/python3/dist-packages/awscli/botocore/data/ecs/2014-11-13/service-2.json"

type modelShape struct {
	Type    string
	Members map[string]struct{ Shape string }
	Member  struct{ Shape string }
	Value   struct{ Shape string }
}

// TestPublicModel compares the messages with the public description of the API:
// every member it has must be here, under its name and of its kind, so that
// nothing a user registers is lost.
func TestPublicModel(t *testing.T) {
	raw, err := os.ReadFile(publicModel)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs the API description of Debian's AWS CLI: apt-get install awscli")
	}
	if err != nil {
		t.Fatal(err)
	}
	var model struct {
		Shapes map[string]modelShape
	}
	if err := json.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	c := &comparison{t: t, shapes: model.Shapes, seen: map[reflect.Type]bool{}}
	for _, message := range []any{
		ecs.CreateClusterRequest{},
		ecs.CreateClusterResponse{},
		ecs.DeleteAttributesRequest{},
		ecs.DeleteClusterRequest{},
		ecs.DeregisterContainerInstanceRequest{},
		ecs.DeregisterTaskDefinitionRequest{},
		ecs.DescribeClustersRequest{},
		ecs.DescribeClustersResponse{},
		ecs.DescribeContainerInstancesRequest{},
		ecs.DescribeContainerInstancesResponse{},
		ecs.DescribeTaskDefinitionRequest{},
		ecs.DescribeTaskDefinitionResponse{},
		ecs.DescribeTasksRequest{},
		ecs.DescribeTasksResponse{},
		ecs.DiscoverPollEndpointRequest{},
		ecs.DiscoverPollEndpointResponse{},
		ecs.ExecuteCommandRequest{},
		ecs.GetTaskProtectionRequest{},
		ecs.GetTaskProtectionResponse{},
		ecs.ListAttributesRequest{},
		ecs.ListAttributesResponse{},
		ecs.ListClustersRequest{},
		ecs.ListContainerInstancesRequest{},
		ecs.ListTagsForResourceResponse{},
		ecs.ListTaskDefinitionFamiliesRequest{},
		ecs.ListTaskDefinitionsRequest{},
		ecs.ListTasksRequest{},
		ecs.PutAttributesRequest{},
		ecs.RegisterContainerInstanceRequest{},
		ecs.RegisterTaskDefinitionRequest{},
		ecs.RunTaskRequest{},
		ecs.RunTaskResponse{},
		ecs.StartTaskRequest{},
		ecs.StopTaskRequest{},
		ecs.StopTaskResponse{},
		ecs.SubmitAttachmentStateChangesRequest{},
		ecs.SubmitContainerStateChangeRequest{},
		ecs.SubmitTaskStateChangeRequest{},
		ecs.TagResourceRequest{},
		ecs.UntagResourceRequest{},
		ecs.UpdateContainerInstancesStateRequest{},
		ecs.UpdateTaskProtectionRequest{},
		ecs.UpdateTaskProtectionResponse{},
	} {
		kind := reflect.TypeOf(message)
		c.compare(kind.Name(), kind.Name(), kind)
	}
	if len(c.seen) < 80 {
		t.Errorf("only %d types were compared; the comparison does not reach into the messages", len(c.seen))
	}
}

type comparison struct {
	t      *testing.T
	shapes map[string]modelShape
	seen   map[reflect.Type]bool
}

func (c *comparison) compare(path, name string, have reflect.Type) {
	shape, ok := c.shapes[name]
	if !ok {
		c.t.Fatalf("%s: the description has no shape %s", path, name)
	}
	for have.Kind() == reflect.Pointer {
		have = have.Elem()
	}
	want := map[string]reflect.Kind{
		"string": reflect.String, "integer": reflect.Int, "long": reflect.Int64, "double": reflect.Float64, "boolean": reflect.Bool,
		"list": reflect.Slice, "map": reflect.Map, "structure": reflect.Struct, "timestamp": reflect.Struct,
	}[shape.Type]
	if have.Kind() != want {
		c.t.Errorf("%s: is a %s, the description says %s", path, have, shape.Type)
		return
	}
	switch shape.Type {
	case "list":
		c.compare(path+"[]", shape.Member.Shape, have.Elem())
	case "map":
		c.compare(path+"{}", shape.Value.Shape, have.Elem())
	case "timestamp":
		if have != reflect.TypeFor[ecs.Timestamp]() {
			c.t.Errorf("%s: is a %s, not a Timestamp", path, have)
		}
	case "structure":
		c.structure(path, shape, have)
	}
}

func (c *comparison) structure(path string, shape modelShape, have reflect.Type) {
	if c.seen[have] {
		return
	}
	c.seen[have] = true
	members := map[string]reflect.Type{}
	for field := range have.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		members[name] = field.Type
	}
	for name, member := range shape.Members {
		if kind, ok := members[name]; ok {
			c.compare(path+"."+name, member.Shape, kind)
		} else {
			c.t.Errorf("%s.%s is missing", path, name)
		}
	}
}

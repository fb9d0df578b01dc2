package localcluster

import (
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// target finds the instance that an attribute names; without a target type the
// id must be an ARN.
func (s *state) target(cluster *ecs.Cluster, a ecs.Attribute) (*instance, error) {
	if i := s.instance(cluster, a.TargetID); i != nil {
		return i, nil
	}
	return nil, &ecs.Error{Type: ecs.ErrTypeTargetNotFound, Message: "The specified target wasn't found: " + a.TargetID}
}

func (s *state) putAttributes(in *ecs.PutAttributesRequest) (*ecs.PutAttributesResponse, error) {
	return &ecs.PutAttributesResponse{Attributes: in.Attributes}, s.changeAttributes(in.Cluster, in.Attributes, true)
}

func (s *state) deleteAttributes(in *ecs.DeleteAttributesRequest) (*ecs.DeleteAttributesResponse, error) {
	return &ecs.DeleteAttributesResponse{Attributes: in.Attributes}, s.changeAttributes(in.Cluster, in.Attributes, false)
}

func (s *state) changeAttributes(clusterRef string, attributes []ecs.Attribute, put bool) error {
	cluster, err := s.cluster(clusterRef)
	if err != nil {
		return err
	}
	targets := make([]*instance, len(attributes))
	for n, a := range attributes {
		if a.Name == "" || strings.HasPrefix(a.Name, "ecs.") || strings.HasPrefix(a.Name, "com.amazonaws.") {
			return invalid("Invalid attribute name: " + a.Name)
		}
		if targets[n], err = s.target(cluster, a); err != nil {
			return err
		}
	}
	for n, a := range attributes {
		i := targets[n]
		i.Custom = slices.DeleteFunc(i.Custom, func(have ecs.Attribute) bool { return have.Name == a.Name })
		if put {
			i.Custom = append(i.Custom, ecs.Attribute{Name: a.Name, Value: a.Value})
		}
		i.Version++
	}
	return nil
}

func (s *state) listAttributes(in *ecs.ListAttributesRequest) (*ecs.ListAttributesResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	found := map[string]ecs.Attribute{}
	keys := []string{}
	for arn, i := range s.Instances {
		if i.Cluster != cluster.ClusterName || i.Status == ecs.StatusInactive {
			continue
		}
		for _, a := range append(slices.Clone(i.Attributes), i.Custom...) {
			if (in.AttributeName == "" || a.Name == in.AttributeName) && (in.AttributeValue == "" || a.Value == in.AttributeValue) {
				a.TargetType, a.TargetID = "container-instance", arn
				found[arn+" "+a.Name] = a
				keys = append(keys, arn+" "+a.Name)
			}
		}
	}
	slices.Sort(keys)
	keys, token, err := pageAfter(slices.Compact(keys), in.NextToken, in.MaxResults)
	out := &ecs.ListAttributesResponse{Attributes: []ecs.Attribute{}, NextToken: token}
	for _, key := range keys {
		out.Attributes = append(out.Attributes, found[key])
	}
	return out, err
}

package localcluster

import (
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// tagsOf finds the tags of an ARN, to read or to change.
func (s *state) tagsOf(arn string) (*[]ecs.Tag, error) {
	if !strings.HasPrefix(arn, "arn:") {
		return nil, invalid("Invalid resourceArn: " + arn)
	}
	if c := s.Clusters[lastPart(arn)]; c != nil && c.ClusterARN == arn {
		return &c.Tags, nil
	}
	if d := s.Definitions[arn]; d != nil {
		return &d.Tags, nil
	}
	if i := s.Instances[arn]; i != nil {
		return &i.ContainerInstance.Tags, nil
	}
	if t := s.Tasks[arn]; t != nil {
		return &t.Task.Tags, nil
	}
	return nil, invalid("The specified resource was not found: " + arn)
}

func (s *state) listTags(in *ecs.ListTagsForResourceRequest) (*ecs.ListTagsForResourceResponse, error) {
	tags, err := s.tagsOf(in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return &ecs.ListTagsForResourceResponse{Tags: emptyNotNil(*tags)}, nil
}

func (s *state) tagResource(in *ecs.TagResourceRequest) (*ecs.TagResourceResponse, error) {
	tags, err := s.tagsOf(in.ResourceARN)
	if err != nil {
		return nil, err
	}
	*tags = setTags(*tags, in.Tags)
	return &ecs.TagResourceResponse{}, nil
}

func (s *state) untagResource(in *ecs.UntagResourceRequest) (*ecs.UntagResourceResponse, error) {
	tags, err := s.tagsOf(in.ResourceARN)
	if err != nil {
		return nil, err
	}
	*tags = slices.DeleteFunc(*tags, func(t ecs.Tag) bool { return slices.Contains(in.TagKeys, t.Key) })
	return &ecs.UntagResourceResponse{}, nil
}

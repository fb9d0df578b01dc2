package localcluster

import (
	"maps"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

const defaultCluster = "default"

// cluster finds a cluster by name or ARN; "" is the default cluster. A deleted
// one counts as missing.
func (s *state) cluster(ref string) (*ecs.Cluster, error) {
	name := clusterName(ref)
	c := s.Clusters[name]
	if c == nil || c.Status != ecs.StatusActive || (strings.HasPrefix(ref, "arn:") && ref != c.ClusterARN) {
		return nil, &ecs.Error{Type: ecs.ErrTypeClusterNotFound, Message: "Cluster not found."}
	}
	return c, nil
}

func clusterName(ref string) string {
	if ref == "" {
		return defaultCluster
	}
	return lastPart(ref)
}

func (s *state) createCluster(in *ecs.CreateClusterRequest) (*ecs.CreateClusterResponse, error) {
	name := in.ClusterName
	if name == "" {
		name = defaultCluster
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" || len(name) > 255 {
		return nil, invalid("Identifier is for cluster. Identifier must be 255 characters or fewer, of letters, digits, hyphens and underscores.")
	}
	c := s.Clusters[name]
	if c == nil || c.Status != ecs.StatusActive {
		c = &ecs.Cluster{ClusterARN: s.arn("cluster/" + name), ClusterName: name, Status: ecs.StatusActive, Settings: []ecs.ClusterSetting{{Name: "containerInsights", Value: "disabled"}}}
		s.Clusters[name] = c
	}
	c.Tags = setTags(c.Tags, in.Tags)
	if in.Settings != nil {
		c.Settings = in.Settings
	}
	if in.Configuration != nil {
		c.Configuration = in.Configuration
	}
	if in.CapacityProviders != nil {
		c.CapacityProviders, c.DefaultCapacityProviderStrategy = in.CapacityProviders, in.DefaultCapacityProviderStrategy
	}
	shown := s.showCluster(c, []string{ecs.IncludeTags, "SETTINGS", "CONFIGURATIONS"})
	return &ecs.CreateClusterResponse{Cluster: &shown}, nil
}

// showCluster gives the public shape with counts, and only the parts asked for.
func (s *state) showCluster(c *ecs.Cluster, include []string) ecs.Cluster {
	out := *c
	if !hasTag(include) {
		out.Tags = []ecs.Tag{}
	}
	if !slices.Contains(include, "SETTINGS") {
		out.Settings = []ecs.ClusterSetting{}
	}
	if !slices.Contains(include, "CONFIGURATIONS") {
		out.Configuration = nil
	}
	out.Statistics = []ecs.KeyValuePair{}
	out.CapacityProviders = emptyNotNil(out.CapacityProviders)
	out.DefaultCapacityProviderStrategy = emptyNotNil(out.DefaultCapacityProviderStrategy)
	for _, i := range s.Instances {
		if i.Cluster == c.ClusterName && i.Status != ecs.StatusInactive {
			out.RegisteredContainerInstancesCount++
		}
	}
	for _, t := range s.Tasks {
		if t.Cluster == c.ClusterName {
			out.RunningTasksCount += t.counts(ecs.StatusRunning)
			out.PendingTasksCount += t.counts(ecs.StatusPending)
		}
	}
	return out
}

func (s *state) describeClusters(in *ecs.DescribeClustersRequest) (*ecs.DescribeClustersResponse, error) {
	refs := in.Clusters
	if len(refs) == 0 {
		refs = []string{defaultCluster}
	}
	out := &ecs.DescribeClustersResponse{Clusters: []ecs.Cluster{}, Failures: []ecs.Failure{}}
	for _, ref := range refs {
		c := s.Clusters[clusterName(ref)]
		if c == nil {
			out.Failures = append(out.Failures, ecs.Failure{ARN: s.arn("cluster/" + clusterName(ref)), Reason: ecs.FailureMissing})
			continue
		}
		out.Clusters = append(out.Clusters, s.showCluster(c, in.Include))
	}
	return out, nil
}

func (s *state) listClusters(in *ecs.ListClustersRequest) (*ecs.ListClustersResponse, error) {
	arns := []string{}
	for _, c := range s.Clusters {
		if c.Status == ecs.StatusActive {
			arns = append(arns, c.ClusterARN)
		}
	}
	slices.Sort(arns)
	arns, token, err := pageAfter(arns, in.NextToken, in.MaxResults)
	return &ecs.ListClustersResponse{ClusterARNs: arns, NextToken: token}, err
}

func (s *state) deleteCluster(in *ecs.DeleteClusterRequest) (*ecs.DeleteClusterResponse, error) {
	c, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	shown := s.showCluster(c, nil)
	if shown.RunningTasksCount+shown.PendingTasksCount > 0 {
		return nil, &ecs.Error{Type: ecs.ErrTypeClusterContainsTasks, Message: "The Cluster cannot be deleted while Tasks are active."}
	}
	if shown.RegisteredContainerInstancesCount > 0 {
		return nil, &ecs.Error{Type: ecs.ErrTypeClusterContainsInstances, Message: "The Cluster cannot be deleted while Container Instances are active or draining."}
	}
	maps.DeleteFunc(s.Instances, func(_ string, i *instance) bool { return i.Cluster == c.ClusterName })
	c.Status = ecs.StatusInactive
	shown.Status = ecs.StatusInactive
	return &ecs.DeleteClusterResponse{Cluster: &shown}, nil
}

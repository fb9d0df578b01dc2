package localcluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

func (s *state) registerTaskDefinition(in *ecs.RegisterTaskDefinitionRequest) (*ecs.RegisterTaskDefinitionResponse, error) {
	if err := in.Validate(); err != nil {
		return nil, client(err.Error())
	}
	s.Revisions[in.Family]++
	revision := s.Revisions[in.Family]
	registered := now()
	d := &definition{
		Tags: in.Tags,
		TaskDefinition: ecs.TaskDefinition{
			TaskDefinitionARN: s.arn(fmt.Sprintf("task-definition/%s:%d", in.Family, revision)),
			Family:            in.Family, Revision: revision, Status: ecs.StatusActive,
			ContainerDefinitions: fillContainers(in.ContainerDefinitions),
			TaskRoleARN:          in.TaskRoleARN, ExecutionRoleARN: in.ExecutionRoleARN,
			NetworkMode: in.NetworkMode, Volumes: emptyNotNil(in.Volumes),
			PlacementConstraints:    emptyNotNil(in.PlacementConstraints),
			Compatibilities:         compatibilities(in),
			RequiresCompatibilities: in.RequiresCompatibilities,
			RuntimePlatform:         in.RuntimePlatform, CPU: normalCPU(in.CPU), Memory: normalMemory(in.Memory),
			InferenceAccelerators: in.InferenceAccelerators, PIDMode: in.PIDMode, IPCMode: in.IPCMode,
			ProxyConfiguration: in.ProxyConfiguration, RegisteredAt: registered, RegisteredBy: "arn:aws:iam::" + s.env.account + ":root",
			EphemeralStorage: in.EphemeralStorage, EnableFaultInjection: in.EnableFaultInjection,
		},
	}
	d.RequiresAttributes = requiredAttributes(&d.TaskDefinition)
	s.Definitions[d.TaskDefinitionARN] = d
	return &ecs.RegisterTaskDefinitionResponse{TaskDefinition: &d.TaskDefinition, Tags: emptyNotNil(d.Tags)}, nil
}

// fillContainers adds the defaults that the service shows for what was left out.
func fillContainers(in []ecs.ContainerDefinition) []ecs.ContainerDefinition {
	out := slices.Clone(in)
	for i := range out {
		c := &out[i]
		c.Essential = new(c.IsEssential())
		c.PortMappings = emptyNotNil(slices.Clone(c.PortMappings))
		for j := range c.PortMappings {
			setDefault(&c.PortMappings[j].Protocol, ecs.ProtocolTCP)
		}
		c.Environment = emptyNotNil(c.Environment)
		c.MountPoints = emptyNotNil(c.MountPoints)
		c.VolumesFrom = emptyNotNil(c.VolumesFrom)
		if h := c.HealthCheck; h != nil {
			filled := *h
			setDefault(&filled.Interval, new(30))
			setDefault(&filled.Timeout, new(5))
			setDefault(&filled.Retries, new(3))
			c.HealthCheck = &filled
		}
	}
	return out
}

func compatibilities(in *ecs.RegisterTaskDefinitionRequest) []string {
	out := []string{"EXTERNAL", ecs.LaunchEC2}
	if in.NetworkMode == ecs.NetworkAWSVPC {
		out = []string{ecs.LaunchEC2}
		if in.CPU != "" && in.Memory != "" {
			out = append(out, ecs.LaunchFargate)
		}
	}
	return out
}

// normalCPU and normalMemory show sizes as ECS does: CPU units and MiB.
func normalCPU(s string) string { return normal(ecs.ParseCPU(s)) }

func normalMemory(s string) string { return normal(ecs.ParseMemory(s)) }

func normal(n int, err error) string {
	if err != nil || n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// definition finds "family", "family:revision" or an ARN. A bare family is its
// latest ACTIVE revision; an exact one may be INACTIVE.
func (s *state) definition(ref string) (*definition, error) {
	if ref == "" {
		return nil, client("TaskDefinition should not be blank.")
	}
	family, revision, exact := strings.Cut(lastPart(ref), ":")
	if exact {
		if d := s.Definitions[s.arn("task-definition/"+family+":"+revision)]; d != nil {
			return d, nil
		}
		return nil, client("Unable to describe task definition.")
	}
	for r := s.Revisions[family]; r > 0; r-- {
		d := s.Definitions[s.arn(fmt.Sprintf("task-definition/%s:%d", family, r))]
		if d != nil && d.Status == ecs.StatusActive {
			return d, nil
		}
	}
	return nil, client("Unable to describe task definition.")
}

func (s *state) deregisterTaskDefinition(in *ecs.DeregisterTaskDefinitionRequest) (*ecs.DeregisterTaskDefinitionResponse, error) {
	if !strings.Contains(lastPart(in.TaskDefinition), ":") {
		return nil, client("Invalid revision number. Number: family:revision is needed.")
	}
	d, err := s.definition(in.TaskDefinition)
	if err != nil {
		return nil, client("The specified task definition does not exist.")
	}
	if d.Status == ecs.StatusInactive {
		return nil, invalid("The specified task definition is inactive. Specify an active task definition and try again.")
	}
	d.Status = ecs.StatusInactive
	d.DeregisteredAt = now()
	return &ecs.DeregisterTaskDefinitionResponse{TaskDefinition: &d.TaskDefinition}, nil
}

func (s *state) describeTaskDefinition(in *ecs.DescribeTaskDefinitionRequest) (*ecs.DescribeTaskDefinitionResponse, error) {
	d, err := s.definition(in.TaskDefinition)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeTaskDefinitionResponse{TaskDefinition: &d.TaskDefinition, Tags: []ecs.Tag{}}
	if hasTag(in.Include) {
		out.Tags = emptyNotNil(d.Tags)
	}
	return out, nil
}

func (s *state) listTaskDefinitions(in *ecs.ListTaskDefinitionsRequest) (*ecs.ListTaskDefinitionsResponse, error) {
	status := in.Status
	setDefault(&status, ecs.StatusActive)
	var found []*definition
	for _, d := range s.Definitions {
		if d.Status == status && (in.FamilyPrefix == "" || d.Family == in.FamilyPrefix) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *definition) int {
		if c := strings.Compare(a.Family, b.Family); c != 0 {
			return c
		}
		return a.Revision - b.Revision
	})
	if in.Sort == "DESC" {
		slices.Reverse(found)
	}
	arns := make([]string, len(found))
	for i, d := range found {
		arns[i] = d.TaskDefinitionARN
	}
	arns, token, err := pageAfter(arns, in.NextToken, in.MaxResults)
	return &ecs.ListTaskDefinitionsResponse{TaskDefinitionARNs: arns, NextToken: token}, err
}

func (s *state) listFamilies(in *ecs.ListTaskDefinitionFamiliesRequest) (*ecs.ListTaskDefinitionFamiliesResponse, error) {
	active := map[string]bool{}
	for _, d := range s.Definitions {
		active[d.Family] = active[d.Family] || d.Status == ecs.StatusActive
	}
	families := []string{}
	for family, isActive := range active {
		wanted := in.Status == "" || in.Status == "ALL" || isActive == (in.Status == ecs.StatusActive)
		if wanted && strings.HasPrefix(family, in.FamilyPrefix) {
			families = append(families, family)
		}
	}
	slices.Sort(families)
	families, token, err := pageAfter(families, in.NextToken, in.MaxResults)
	return &ecs.ListTaskDefinitionFamiliesResponse{Families: families, NextToken: token}, err
}

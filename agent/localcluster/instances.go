package localcluster

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// instance finds a container instance of a cluster by id or ARN.
func (s *state) instance(cluster *ecs.Cluster, ref string) *instance {
	arn := ref
	if !strings.HasPrefix(ref, "arn:") {
		arn = s.arn("container-instance/" + cluster.ClusterName + "/" + ref)
	}
	i := s.Instances[arn]
	if i == nil || i.Cluster != cluster.ClusterName {
		return nil
	}
	return i
}

func (s *state) registerInstance(in *ecs.RegisterContainerInstanceRequest) (*ecs.RegisterContainerInstanceResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, &ecs.Error{Type: ecs.ErrTypeClient, Message: "Cluster not found."}
	}
	if err := in.Validate(); err != nil {
		return nil, invalid(err.Error())
	}
	i, err := s.registeringInstance(cluster, in)
	if err != nil {
		return nil, err
	}
	i.RegisteredResources = in.TotalResources
	if len(in.PlatformDevices) > 0 {
		i.Devices = in.PlatformDevices
		var ids []string
		for _, d := range in.PlatformDevices {
			ids = append(ids, d.ID)
		}
		i.RegisteredResources = append(i.RegisteredResources, ecs.Resource{Name: ecs.ResourceGPU, Type: ecs.ResourceTypeStringSet, StringSetValue: ids})
	}
	i.Attributes = s.withServiceAttributes(in.Attributes)
	i.ContainerInstance.Tags = setTags(i.ContainerInstance.Tags, in.Tags)
	if in.VersionInfo != nil {
		i.VersionInfo = in.VersionInfo
	}
	i.Version++
	shown := s.showInstance(i, []string{ecs.IncludeTags})
	return &ecs.RegisterContainerInstanceResponse{ContainerInstance: &shown}, nil
}

// registeringInstance finds who registers: the host that names its ARN, the one
// whose client token was seen before, or a new one.
func (s *state) registeringInstance(cluster *ecs.Cluster, in *ecs.RegisterContainerInstanceRequest) (*instance, error) {
	if in.ContainerInstanceARN != "" {
		i := s.instance(cluster, in.ContainerInstanceARN)
		if i == nil || i.Status == ecs.StatusInactive {
			return nil, client("The referenced container instance was not found or is inactive.")
		}
		return i, nil
	}
	key := ecs.OpRegisterContainerInstance + "/" + cluster.ClusterName + "/" + in.ClientToken
	if seen := s.Tokens[key]; in.ClientToken != "" && seen != nil {
		if i := s.Instances[seen.ARNs[0]]; i != nil && i.Status != ecs.StatusInactive {
			return i, nil
		}
	}
	arn := s.arn("container-instance/" + cluster.ClusterName + "/" + newID())
	i := &instance{Cluster: cluster.ClusterName, ContainerInstance: ecs.ContainerInstance{
		ContainerInstanceARN: arn, EC2InstanceID: ec2InstanceID(in.InstanceIdentityDocument),
		Status: ecs.StatusActive, RegisteredAt: now(), VersionInfo: &ecs.VersionInfo{},
	}}
	s.Instances[arn] = i
	if in.ClientToken != "" {
		s.Tokens[key] = &tokenOutcome{At: now(), ARNs: []string{arn}}
	}
	return i, nil
}

// ec2InstanceID is what a host's identity document says; one without a document gets an id that nobody has.
func ec2InstanceID(document string) string {
	var identity struct {
		InstanceID string `json:"instanceId"`
	}
	if err := json.Unmarshal([]byte(document), &identity); err != nil || identity.InstanceID == "" {
		return "i-" + newID()[:17]
	}
	return identity.InstanceID
}

// withServiceAttributes adds what the service itself says of a host.
func (s *state) withServiceAttributes(sent []ecs.Attribute) []ecs.Attribute {
	out := slices.Clone(sent)
	for _, a := range []ecs.Attribute{
		{Name: "ecs.availability-zone", Value: s.env.region + "a"},
		{Name: "ecs.instance-type", Value: "berth.local"},
		{Name: "ecs.ami-id", Value: "ami-00000000000000000"},
	} {
		if !slices.ContainsFunc(out, func(have ecs.Attribute) bool { return have.Name == a.Name }) {
			out = append(out, a)
		}
	}
	return out
}

func (i *instance) attribute(name string) (string, bool) {
	for _, list := range [][]ecs.Attribute{i.Custom, i.Attributes} {
		for _, a := range list {
			if a.Name == name {
				return a.Value, true
			}
		}
	}
	return "", false
}

// showInstance gives the public shape with counts and what remains.
func (s *state) showInstance(i *instance, include []string) ecs.ContainerInstance {
	out := i.ContainerInstance
	out.AgentConnected = s.env.connected(i.ContainerInstanceARN)
	out.Attributes = append(slices.Clone(i.Attributes), i.Custom...)
	out.Attachments = []ecs.Attachment{}
	out.RemainingResources = s.remaining(i).resources(i.RegisteredResources)
	if !hasTag(include) {
		out.Tags = []ecs.Tag{}
	}
	if !slices.Contains(include, "CONTAINER_INSTANCE_HEALTH") {
		out.HealthStatus = nil
	}
	for _, t := range s.Tasks {
		if t.ContainerInstanceARN == i.ContainerInstanceARN {
			out.RunningTasksCount += t.counts(ecs.StatusRunning)
			out.PendingTasksCount += t.counts(ecs.StatusPending)
		}
	}
	return out
}

func (s *state) describeInstances(in *ecs.DescribeContainerInstancesRequest) (*ecs.DescribeContainerInstancesResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if len(in.ContainerInstances) == 0 || len(in.ContainerInstances) > 100 {
		return nil, invalid("Container instance list must have between 1 and 100 entries.")
	}
	out := &ecs.DescribeContainerInstancesResponse{ContainerInstances: []ecs.ContainerInstance{}, Failures: []ecs.Failure{}}
	for _, ref := range in.ContainerInstances {
		if i := s.instance(cluster, ref); i != nil {
			out.ContainerInstances = append(out.ContainerInstances, s.showInstance(i, in.Include))
		} else {
			out.Failures = append(out.Failures, s.missing("container-instance", cluster, ref))
		}
	}
	return out, nil
}

func (s *state) missing(kind string, cluster *ecs.Cluster, ref string) ecs.Failure {
	return ecs.Failure{ARN: s.arn(kind + "/" + cluster.ClusterName + "/" + lastPart(ref)), Reason: ecs.FailureMissing}
}

func (s *state) listInstances(in *ecs.ListContainerInstancesRequest) (*ecs.ListContainerInstancesResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	matches, err := parseExpression(in.Filter)
	if err != nil {
		return nil, invalid(err.Error())
	}
	arns := []string{}
	for arn, i := range s.Instances {
		wanted := i.Status == in.Status || (in.Status == "" && i.Status != ecs.StatusInactive)
		if i.Cluster == cluster.ClusterName && wanted && matches(i) {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	arns, token, err := pageAfter(arns, in.NextToken, in.MaxResults)
	return &ecs.ListContainerInstancesResponse{ContainerInstanceARNs: arns, NextToken: token}, err
}

func (s *state) deregisterInstance(in *ecs.DeregisterContainerInstanceRequest) (*ecs.DeregisterContainerInstanceResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	i := s.instance(cluster, in.ContainerInstance)
	if i == nil || i.Status == ecs.StatusInactive {
		return nil, invalid("Instance not found in cluster.")
	}
	shown := s.showInstance(i, nil)
	if shown.RunningTasksCount+shown.PendingTasksCount > 0 && !in.Force {
		return nil, invalid("Found running tasks on the instance.")
	}
	for _, t := range s.Tasks {
		if t.ContainerInstanceARN == i.ContainerInstanceARN && t.LastStatus != ecs.StatusStopped {
			t.orphan()
		}
	}
	i.Status = ecs.StatusInactive
	i.Version++
	shown.Status = ecs.StatusInactive
	return &ecs.DeregisterContainerInstanceResponse{ContainerInstance: &shown}, nil
}

func (s *state) updateInstancesState(in *ecs.UpdateContainerInstancesStateRequest) (*ecs.UpdateContainerInstancesStateResponse, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if in.Status != ecs.StatusActive && in.Status != ecs.StatusDraining {
		return nil, invalid("Container instance status must be ACTIVE or DRAINING.")
	}
	if len(in.ContainerInstances) == 0 || len(in.ContainerInstances) > 10 {
		return nil, invalid("Container instance list must have between 1 and 10 entries.")
	}
	out := &ecs.UpdateContainerInstancesStateResponse{ContainerInstances: []ecs.ContainerInstance{}, Failures: []ecs.Failure{}}
	for _, ref := range in.ContainerInstances {
		i := s.instance(cluster, ref)
		switch {
		case i == nil:
			out.Failures = append(out.Failures, s.missing("container-instance", cluster, ref))
		case i.Status == ecs.StatusInactive:
			out.Failures = append(out.Failures, ecs.Failure{ARN: i.ContainerInstanceARN, Reason: ecs.FailureInactive})
		default:
			i.Status = in.Status
			i.Version++
			out.ContainerInstances = append(out.ContainerInstances, s.showInstance(i, nil))
		}
	}
	return out, nil
}

// holdings is an amount of resources: what an instance has left, or what a task
// takes. CPU is CPU units, memory is MiB.
type holdings struct {
	cpu, memory int
	used        map[string]map[string]bool // Ports and GPUs in use, by resource name.
}

func (h *holdings) use(resource, value string) {
	if h.used[resource] == nil {
		h.used[resource] = map[string]bool{}
	}
	h.used[resource][value] = true
}

// remaining is what the tasks that are meant to run leave of an instance. A task
// that is told to stop no longer counts: the service gives its resources away
// before it is gone, and the agent has to make the next one wait.
func (s *state) remaining(i *instance) *holdings {
	left := &holdings{used: map[string]map[string]bool{}}
	for _, r := range i.RegisteredResources {
		switch r.Name {
		case ecs.ResourceCPU:
			left.cpu = r.IntegerValue
		case ecs.ResourceMemory:
			left.memory = r.IntegerValue
		case ecs.ResourcePorts, ecs.ResourcePortsUDP:
			for _, port := range r.StringSetValue {
				left.use(r.Name, port)
			}
		}
	}
	for _, t := range s.Tasks {
		if t.ContainerInstanceARN != i.ContainerInstanceARN || t.DesiredStatus == ecs.StatusStopped {
			continue
		}
		needs := s.needs(t)
		left.cpu -= needs.cpu
		left.memory -= needs.memory
		for resource, values := range needs.used {
			for value := range values {
				left.use(resource, value)
			}
		}
	}
	return left
}

// resources writes what is left in the shape of what was registered. As in ECS a
// port set lists the ports in use, a GPU set the devices that are free.
func (h *holdings) resources(registered []ecs.Resource) []ecs.Resource {
	out := make([]ecs.Resource, len(registered))
	for i, r := range registered {
		switch r.Name {
		case ecs.ResourceCPU:
			r.IntegerValue = h.cpu
		case ecs.ResourceMemory:
			r.IntegerValue = h.memory
		case ecs.ResourcePorts, ecs.ResourcePortsUDP:
			r.StringSetValue = sortedPorts(h.used[r.Name])
		case ecs.ResourceGPU:
			r.StringSetValue = slices.DeleteFunc(slices.Clone(r.StringSetValue), func(id string) bool { return h.used[r.Name][id] })
		}
		out[i] = r
	}
	return out
}

func sortedPorts(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for port := range set {
		out = append(out, port)
	}
	slices.SortFunc(out, func(a, b string) int {
		x, _ := strconv.Atoi(a) // What is no number sorts first.
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return out
}

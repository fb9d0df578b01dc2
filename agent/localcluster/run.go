package localcluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/berthd/berth/agent/wire/ecs"
)

// maxCount is how many tasks one run-task may ask for.
const maxCount = 10

// launch is what run-task and start-task have in common.
type launch struct {
	cluster    *ecs.Cluster
	definition *definition
	in         *ecs.RunTaskRequest
}

func (s *state) runTask(in *ecs.RunTaskRequest) (*ecs.RunTaskResponse, error) {
	l, err := s.launch(in)
	if err != nil {
		return nil, err
	}
	count := 1
	if in.Count != nil {
		count = *in.Count
	}
	if count < 1 || count > maxCount {
		return nil, invalid("The number of tasks per launch request must be between 1 and 10.")
	}
	key, fingerprint := ecs.OpRunTask+"/"+l.cluster.ClusterName+"/"+in.ClientToken, hash(in)
	if seen := s.Tokens[key]; in.ClientToken != "" && seen != nil {
		if seen.Input != fingerprint {
			return nil, &ecs.Error{Type: ecs.ErrTypeConflict, Message: "The clientToken was used before with other parameters."}
		}
		return &ecs.RunTaskResponse{Tasks: s.showTasks(seen.ARNs), Failures: []ecs.Failure{}}, nil
	}
	place, err := s.placement(l)
	if err != nil {
		return nil, err
	}
	if place.empty() {
		return nil, invalid("No Container Instances were found in your cluster.")
	}
	out := &ecs.RunTaskResponse{Tasks: []ecs.Task{}, Failures: []ecs.Failure{}}
	var arns []string
	for range count {
		t := s.prepare(l)
		host, failures := place.choose(t)
		if host == nil {
			out.Failures = append(out.Failures, failures...)
			continue
		}
		if failure := s.start(t, host); failure != nil {
			out.Failures = append(out.Failures, *failure)
			continue
		}
		arns = append(arns, t.TaskARN)
	}
	out.Tasks = s.showTasks(arns)
	if in.ClientToken != "" && len(arns) > 0 {
		s.Tokens[key] = &tokenOutcome{At: now(), ARNs: arns, Input: fingerprint}
	}
	return out, nil
}

func (s *state) startTask(in *ecs.StartTaskRequest) (*ecs.StartTaskResponse, error) {
	if len(in.ContainerInstances) == 0 || len(in.ContainerInstances) > maxCount {
		return nil, invalid("Container instance list must have between 1 and 10 entries.")
	}
	l, err := s.launch(&ecs.RunTaskRequest{
		Cluster: in.Cluster, TaskDefinition: in.TaskDefinition, Overrides: in.Overrides, Group: in.Group, StartedBy: in.StartedBy,
		Tags: in.Tags, PropagateTags: in.PropagateTags, EnableExecuteCommand: in.EnableExecuteCommand, NetworkConfiguration: in.NetworkConfiguration,
	})
	if err != nil {
		return nil, err
	}
	out := &ecs.StartTaskResponse{Tasks: []ecs.Task{}, Failures: []ecs.Failure{}}
	var arns []string
	for _, ref := range in.ContainerInstances {
		host := s.instance(l.cluster, ref)
		if host == nil {
			out.Failures = append(out.Failures, s.missing("container-instance", l.cluster, ref))
			continue
		}
		t := s.prepare(l)
		reason := s.refusal(t, host)
		if reason == "" {
			if failure := s.start(t, host); failure != nil {
				reason = failure.Reason
			}
		}
		if reason != "" {
			out.Failures = append(out.Failures, ecs.Failure{ARN: host.ContainerInstanceARN, Reason: reason})
			continue
		}
		arns = append(arns, t.TaskARN)
	}
	out.Tasks = s.showTasks(arns)
	return out, nil
}

func hash(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "" // A message that came as JSON can be written as JSON.
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// launch checks a request to run a task before anything is placed.
func (s *state) launch(in *ecs.RunTaskRequest) (*launch, error) {
	cluster, err := s.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if in.LaunchType == ecs.LaunchFargate {
		return nil, invalid("A local cluster has container instances only; the launch type FARGATE is not to be had.")
	}
	d, err := s.definition(in.TaskDefinition)
	if err != nil {
		return nil, client("TaskDefinition not found.")
	}
	if d.Status != ecs.StatusActive {
		return nil, client("TaskDefinition is inactive")
	}
	if d.NetworkMode == ecs.NetworkAWSVPC && (in.NetworkConfiguration == nil || in.NetworkConfiguration.AWSVPCConfiguration == nil) {
		return nil, invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
	}
	if d.NetworkMode != ecs.NetworkAWSVPC && in.NetworkConfiguration != nil {
		return nil, invalid("Network Configuration is not valid for the given networkMode of this task definition.")
	}
	if slices.ContainsFunc(d.Volumes, func(v ecs.Volume) bool { return v.ConfiguredAtLaunch }) {
		return nil, client("A local cluster has no EBS volumes to attach: volumes configured at launch are not to be had.")
	}
	return &launch{cluster: cluster, definition: d, in: in}, checkOverrides(d, in.Overrides)
}

func checkOverrides(d *definition, o *ecs.TaskOverride) error {
	if o == nil {
		return nil
	}
	if _, err := ecs.ParseCPU(o.CPU); err != nil {
		return client("Invalid 'cpu' setting for task override: " + err.Error())
	}
	if _, err := ecs.ParseMemory(o.Memory); err != nil {
		return client("Invalid 'memory' setting for task override: " + err.Error())
	}
	known := map[string]bool{}
	for _, c := range d.ContainerDefinitions {
		known[c.Name] = true
	}
	for _, c := range o.ContainerOverrides {
		if !known[c.Name] {
			return invalid(fmt.Sprintf("Override for container named %s is not a container in the TaskDefinition.", c.Name))
		}
	}
	return nil
}

// prepare makes the task of a launch, not yet anywhere.
func (s *state) prepare(l *launch) *task {
	d, in := &l.definition.TaskDefinition, l.in
	arn := s.arn("task/" + l.cluster.ClusterName + "/" + newID())
	overrides := in.Overrides
	setDefault(&overrides, &ecs.TaskOverride{})
	t := &task{Cluster: l.cluster.ClusterName, Task: ecs.Task{
		TaskARN: arn, ClusterARN: l.cluster.ClusterARN, TaskDefinitionARN: d.TaskDefinitionARN,
		Overrides: overrides, StartedBy: in.StartedBy, Group: in.Group,
		LastStatus: ecs.StatusPending, DesiredStatus: ecs.StatusRunning, LaunchType: ecs.LaunchEC2,
		CreatedAt: now(), Version: 1, HealthStatus: ecs.HealthUnknown, EnableExecuteCommand: in.EnableExecuteCommand,
		AvailabilityZone: s.env.region + "a", CPU: d.CPU, Memory: d.Memory,
		Attachments: []ecs.Attachment{}, Attributes: []ecs.Attribute{}, InferenceAccelerators: []ecs.InferenceAccelerator{},
	}}
	if in.LaunchType != "" {
		t.LaunchType = in.LaunchType
	}
	if cpu := normalCPU(overrides.CPU); cpu != "" {
		t.CPU = cpu
	}
	if memory := normalMemory(overrides.Memory); memory != "" {
		t.Memory = memory
	}
	setDefault(&t.Group, "family:"+d.Family)
	if in.PropagateTags == "TASK_DEFINITION" {
		t.Task.Tags = setTags(nil, l.definition.Tags)
	}
	t.Task.Tags = setTags(t.Task.Tags, in.Tags)
	t.RoleARN, t.ExecutionRoleARN = overrides.TaskRoleARN, overrides.ExecutionRoleARN
	setDefault(&t.RoleARN, d.TaskRoleARN)
	setDefault(&t.ExecutionRoleARN, d.ExecutionRoleARN)
	if t.RoleARN != "" {
		t.RoleCredentials = uuid.NewString()
	}
	if t.ExecutionRoleARN != "" {
		t.ExecutionCredentials = uuid.NewString()
	}
	for i := range d.ContainerDefinitions {
		t.Containers = append(t.Containers, s.container(t, overridden(&d.ContainerDefinitions[i], overrides)))
	}
	return t
}

// container is how a container of a new task is shown.
func (s *state) container(t *task, c *ecs.ContainerDefinition) ecs.Container {
	out := ecs.Container{
		ContainerARN: s.arn("container/" + t.Cluster + "/" + lastPart(t.TaskARN) + "/" + uuid.NewString()),
		TaskARN:      t.TaskARN, Name: c.Name, Image: c.Image, LastStatus: ecs.StatusPending,
		NetworkBindings: []ecs.NetworkBinding{}, NetworkInterfaces: []ecs.NetworkInterface{},
		HealthStatus: ecs.HealthUnknown, CPU: strconv.Itoa(c.CPU),
	}
	if c.Memory > 0 {
		out.Memory = strconv.Itoa(c.Memory)
	}
	if c.MemoryReservation > 0 {
		out.MemoryReservation = strconv.Itoa(c.MemoryReservation)
	}
	return out
}

// start puts a prepared task on an instance that takes it.
func (s *state) start(t *task, host *instance) *ecs.Failure {
	d := s.Definitions[t.TaskDefinitionARN]
	if d.NetworkMode == ecs.NetworkAWSVPC {
		if failure := s.attachInterface(t); failure != nil {
			return failure
		}
	}
	t.ContainerInstanceARN = host.ContainerInstanceARN
	s.assignGPUs(t, host)
	if arch, ok := host.attribute("ecs.cpu-architecture"); ok {
		t.Attributes = append(t.Attributes, ecs.Attribute{Name: "ecs.cpu-architecture", Value: arch})
	}
	s.Tasks[t.TaskARN] = t
	return nil
}

func (s *state) attachInterface(t *task) *ecs.Failure {
	failure := &ecs.Failure{ARN: t.TaskARN, Reason: ecs.FailureResourceENI}
	if s.env.interfaces == nil {
		return failure
	}
	eni, err := s.env.interfaces(t.TaskARN)
	if err != nil {
		failure.Detail = err.Error()
		return failure
	}
	setDefault(&eni.AttachmentARN, s.arn("attachment/"+uuid.NewString()))
	t.Interface = eni
	t.LastStatus = ecs.StatusProvisioning
	details := []ecs.KeyValuePair{{Name: "networkInterfaceId", Value: eni.EC2ID}, {Name: "macAddress", Value: eni.MACAddress}}
	shown := ecs.NetworkInterface{AttachmentID: lastPart(eni.AttachmentARN)}
	for _, a := range eni.IPv4Addresses {
		if a.Primary || len(eni.IPv4Addresses) == 1 {
			shown.PrivateIPv4Address = a.PrivateAddress
			details = append(details, ecs.KeyValuePair{Name: "privateIPv4Address", Value: a.PrivateAddress})
		}
	}
	for _, a := range eni.IPv6Addresses {
		shown.IPv6Address = a.Address
	}
	t.Attachments = append(t.Attachments, ecs.Attachment{ID: shown.AttachmentID, Type: "ElasticNetworkInterface", Status: "ATTACHING", Details: details})
	for i := range t.Containers {
		t.Containers[i].NetworkInterfaces = []ecs.NetworkInterface{shown}
	}
	return nil
}

// assignGPUs gives each container that asks for GPUs free ones of the host.
func (s *state) assignGPUs(t *task, host *instance) {
	left := s.remaining(host)
	for _, r := range left.resources(host.RegisteredResources) {
		if r.Name != ecs.ResourceGPU {
			continue
		}
		free := r.StringSetValue
		for i, c := range s.Definitions[t.TaskDefinitionARN].ContainerDefinitions {
			wanted := min(gpus(overridden(&c, t.Overrides)), len(free))
			t.Containers[i].GPUIDs, free = free[:wanted:wanted], free[wanted:]
		}
	}
}

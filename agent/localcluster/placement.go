package localcluster

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// placement chooses instances for the tasks of one launch.
type placement struct {
	state    *state
	hosts    []*instance
	matches  matcher
	distinct bool
	taken    map[string]bool // Instances that got a task of this launch.
	order    func(a, b *instance) int
}

func (s *state) placement(l *launch) (*placement, error) {
	p := &placement{state: s, taken: map[string]bool{}, order: s.bySpread}
	for _, i := range s.Instances {
		if i.Cluster == l.cluster.ClusterName && i.Status != ecs.StatusInactive {
			p.hosts = append(p.hosts, i)
		}
	}
	slices.SortFunc(p.hosts, func(a, b *instance) int { return strings.Compare(a.ContainerInstanceARN, b.ContainerInstanceARN) })
	var expressions []string
	for _, c := range l.definition.PlacementConstraints {
		expressions = append(expressions, c.Expression)
	}
	for _, c := range l.in.PlacementConstraints {
		switch c.Type {
		case "distinctInstance":
			p.distinct = true
		case "memberOf":
			expressions = append(expressions, c.Expression)
		default:
			return nil, invalid("placementConstraints: unknown type " + c.Type)
		}
	}
	var err error
	if p.matches, err = parseExpression(strings.Join(expressions, " && ")); err != nil {
		return nil, invalid(err.Error())
	}
	if len(l.in.PlacementStrategy) > 0 {
		switch strategy := l.in.PlacementStrategy[0]; strategy.Type {
		case "spread":
		case "random":
			rand.Shuffle(len(p.hosts), func(i, j int) { p.hosts[i], p.hosts[j] = p.hosts[j], p.hosts[i] })
			p.order = nil
		case "binpack":
			p.order = s.byFill(strategy.Field)
		default:
			return nil, invalid("placementStrategy: unknown type " + strategy.Type)
		}
	}
	return p, nil
}

func (p *placement) empty() bool { return len(p.hosts) == 0 }

// bySpread puts the instance with the fewest tasks first.
func (s *state) bySpread(a, b *instance) int {
	count := func(i *instance) (n int) {
		for _, t := range s.Tasks {
			if t.ContainerInstanceARN == i.ContainerInstanceARN && t.DesiredStatus != ecs.StatusStopped {
				n++
			}
		}
		return n
	}
	return cmp.Compare(count(a), count(b))
}

// byFill puts the instance with the least left of a resource first.
func (s *state) byFill(field string) func(a, b *instance) int {
	return func(a, b *instance) int {
		if strings.EqualFold(field, ecs.ResourceCPU) {
			return cmp.Compare(s.remaining(a).cpu, s.remaining(b).cpu)
		}
		return cmp.Compare(s.remaining(a).memory, s.remaining(b).memory)
	}
}

// choose gives the best instance for the task, or why each refuses it.
func (p *placement) choose(t *task) (*instance, []ecs.Failure) {
	if p.order != nil {
		slices.SortStableFunc(p.hosts, p.order)
	}
	var failures []ecs.Failure
	for _, host := range p.hosts {
		reason := p.state.refusal(t, host)
		switch {
		case reason != "":
		case p.distinct && p.taken[host.ContainerInstanceARN]:
			reason = "DistinctInstance placement constraint unsatisfied."
		case !p.matches(host):
			reason = ecs.FailureMemberOf
		default:
			p.taken[host.ContainerInstanceARN] = true
			return host, nil
		}
		failures = append(failures, ecs.Failure{ARN: host.ContainerInstanceARN, Reason: reason})
	}
	return nil, failures
}

// refusal says why an instance cannot take a task, in the words of ECS; "" means
// that it can.
func (s *state) refusal(t *task, host *instance) string {
	if host.Status != ecs.StatusActive {
		return ecs.FailureInactive
	}
	if !s.env.connected(host.ContainerInstanceARN) {
		return ecs.FailureAgent
	}
	needed := attributeSet{}
	for _, a := range s.Definitions[t.TaskDefinitionARN].RequiresAttributes {
		needed.add(a.Name)
	}
	// A role given as an override needs the capability as well.
	needed.when(t.RoleARN != "", oldCapability+"task-iam-role")
	for name := range needed {
		if _, ok := host.attribute(name); !ok {
			return ecs.FailureAttribute
		}
	}
	return s.shortage(t, host)
}

// shortage says which resource of an instance a task would exhaust.
func (s *state) shortage(t *task, host *instance) string {
	left, needs := s.remaining(host), s.needs(t)
	if needs.cpu > left.cpu {
		return ecs.FailureResourceCPU
	}
	if needs.memory > left.memory {
		return ecs.FailureResourceMemory
	}
	for resource, values := range needs.used {
		for value := range values {
			if resource != ecs.ResourceGPU && left.used[resource][value] {
				return ecs.FailureResourcePorts
			}
		}
	}
	wanted, free := 0, 0
	for _, c := range s.Definitions[t.TaskDefinitionARN].ContainerDefinitions {
		wanted += gpus(overridden(&c, t.Overrides))
	}
	for _, r := range left.resources(host.RegisteredResources) {
		if r.Name == ecs.ResourceGPU {
			free = len(r.StringSetValue)
		}
	}
	if wanted > free {
		return ecs.FailureResourceGPU
	}
	return ""
}

func gpus(c *ecs.ContainerDefinition) int {
	for _, r := range c.ResourceRequirements {
		if r.Type == ecs.ResourceGPU {
			n, _ := strconv.Atoi(r.Value) // What is no number asks for none.
			return n
		}
	}
	return 0
}

// needs is what a task takes of its instance: the task's own sizes, else the sum
// of its containers; fixed host ports, and ports and GPUs it was given.
func (s *state) needs(t *task) *holdings {
	out := &holdings{used: map[string]map[string]bool{}}
	d := s.Definitions[t.TaskDefinitionARN]
	for i := range d.ContainerDefinitions {
		c := overridden(&d.ContainerDefinitions[i], t.Overrides)
		out.cpu += c.CPU
		memory := c.MemoryReservation
		setDefault(&memory, c.Memory)
		out.memory += memory
		if d.NetworkMode != ecs.NetworkAWSVPC {
			out.ports(d.NetworkMode, c.PortMappings)
		}
	}
	// Sizes were checked when they were registered.
	if n, err := ecs.ParseCPU(t.CPU); err == nil && n != 0 {
		out.cpu = n
	}
	if n, err := ecs.ParseMemory(t.Memory); err == nil && n != 0 {
		out.memory = n
	}
	for _, c := range t.Containers {
		for _, b := range c.NetworkBindings {
			out.binding(b)
		}
		for _, id := range c.GPUIDs {
			out.use(ecs.ResourceGPU, id)
		}
	}
	return out
}

func (h *holdings) ports(networkMode string, mappings []ecs.PortMapping) {
	for _, p := range mappings {
		port := p.HostPort
		if networkMode == ecs.NetworkHost {
			port = p.ContainerPort
		}
		if port != 0 {
			h.use(portResource(p.Protocol), strconv.Itoa(port))
		}
	}
}

func (h *holdings) binding(b ecs.NetworkBinding) {
	if b.HostPort != 0 {
		h.use(portResource(b.Protocol), strconv.Itoa(b.HostPort))
	}
	if low, high, err := ecs.ParsePortRange(b.HostPortRange); err == nil {
		for port := low; port <= high; port++ {
			h.use(portResource(b.Protocol), strconv.Itoa(port))
		}
	}
}

func portResource(protocol string) string {
	if protocol == ecs.ProtocolUDP {
		return ecs.ResourcePortsUDP
	}
	return ecs.ResourcePorts
}

// overridden is a container definition with what a run changes of it.
func overridden(c *ecs.ContainerDefinition, o *ecs.TaskOverride) *ecs.ContainerDefinition {
	out := *c
	if o == nil {
		return &out
	}
	for _, change := range o.ContainerOverrides {
		if change.Name != c.Name {
			continue
		}
		if len(change.Command) > 0 {
			out.Command = change.Command
		}
		out.Environment = slices.Clone(out.Environment)
		for _, kv := range change.Environment {
			out.Environment = slices.DeleteFunc(out.Environment, func(have ecs.KeyValuePair) bool { return have.Name == kv.Name })
			out.Environment = append(out.Environment, kv)
		}
		out.EnvironmentFiles = append(slices.Clone(out.EnvironmentFiles), change.EnvironmentFiles...)
		if change.CPU != nil {
			out.CPU = *change.CPU
		}
		if change.Memory != nil {
			out.Memory = *change.Memory
		}
		if change.MemoryReservation != nil {
			out.MemoryReservation = *change.MemoryReservation
		}
		if change.ResourceRequirements != nil {
			out.ResourceRequirements = change.ResourceRequirements
		}
	}
	return &out
}

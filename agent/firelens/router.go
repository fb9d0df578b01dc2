package firelens

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// LogDriver is the log driver of containers whose lines go to the router.
const LogDriver = "awsfirelens"

// The types of router.
const (
	Fluentd   = "fluentd"
	FluentBit = "fluentbit"
)

// Port is where routers take events that containers send themselves.
const Port = 24224

// The options of firelensConfiguration.
const (
	OptMetadata  = "enable-ecs-log-metadata"
	optFileType  = "config-file-type"
	optFileValue = "config-file-value"
)

// Options are the options of firelensConfiguration, understood.
type Options struct {
	// Metadata adds the names of cluster, task and task definition to records.
	Metadata bool
	// S3 is the ARN of the user's own configuration, or File its path in the image;
	// at most one is set.
	S3, File string
}

// ParseOptions reads the options of a router. A value of enable-ecs-log-metadata
// that is neither true nor false leaves it on, for a typing error should not cost
// the records their origin; the ECS agent takes it for false.
func ParseOptions(f *task.Firelens) (Options, error) {
	on, err := strconv.ParseBool(f.Options[OptMetadata])
	o := Options{Metadata: on || err != nil}
	kind, value := f.Options[optFileType], f.Options[optFileValue]
	switch {
	case kind == "":
	case kind != "s3" && kind != "file":
		return o, fmt.Errorf("invalid value %s is specified for option %s", kind, optFileType)
	case value == "":
		return o, fmt.Errorf("option %s is specified but %s is not specified", optFileType, optFileValue)
	case kind == "s3":
		o.S3 = value
	default:
		o.File = value
	}
	return o, nil
}

// Paths are where a router looks for things in its container.
type Paths struct{ Config, External string }

// SocketDir is the directory in the router's container that holds its socket,
// and SocketName the socket in it.
const (
	SocketDir  = "/var/run/"
	SocketName = "fluent.sock"
)

// PathsOf are those of a type of router; ok is false for a type there is not.
func PathsOf(kind string) (p Paths, ok bool) {
	switch kind {
	case Fluentd:
		return Paths{Config: "/fluentd/etc/fluent.conf", External: "/fluentd/etc/external.conf"}, true
	case FluentBit:
		return Paths{Config: "/fluent-bit/etc/fluent-bit.conf", External: "/fluent-bit/etc/external.conf"}, true
	}
	return p, false
}

// Router is what a configuration says.
type Router struct {
	// Task has one container with a Firelens.
	Task *task.Definition
	// Cluster is the cluster's name; InstanceID the EC2 instance's, "" without.
	Cluster, InstanceID string
	// Secrets are the log options of containers, by container and option, whose
	// values are only in the router's environment.
	Secrets map[string][]string
}

// Of is a task's router, nil when it has none.
func Of(d *task.Definition) *task.Container {
	for i := range d.Containers {
		if d.Containers[i].Firelens != nil {
			return &d.Containers[i]
		}
	}
	return nil
}

// Tag is that of a container's lines.
func Tag(d *task.Definition, container string) string { return container + "-firelens-" + d.ID }

// Variable is the router's variable with the value of a secret log option. index
// is the container's place in the task.
func Variable(option string, index int) string { return option + "_" + strconv.Itoa(index) }

// Delivery are the options of awsfirelens that say how lines reach the router,
// and are none of its output, with the names that the driver fluentd has for
// them. The map is the caller's.
func Delivery() map[string]string {
	return map[string]string{
		"log-driver-buffer-limit": "fluentd-buffer-limit", "mode": "mode", "max-buffer-size": "max-buffer-size",
	}
}

// Config is the text of the router's configuration.
func (r Router) Config() (string, error) {
	router := Of(r.Task)
	options, err := ParseOptions(router.Firelens)
	if err != nil {
		return "", err
	}
	paths, ok := PathsOf(router.Firelens.Type)
	if !ok {
		return "", fmt.Errorf("invalid firelens configuration type: %s", router.Firelens.Type)
	}
	external := options.File
	if options.S3 != "" {
		external = paths.External
	}
	if strings.ContainsAny(external, "\r\n") {
		return "", fmt.Errorf("option %s holds a line break", optFileValue)
	}
	sources, err := r.sources(router.Firelens.Type)
	if err != nil {
		return "", err
	}
	var records []field
	if options.Metadata {
		records = r.records(router)
	}
	out := dialect(fluentd{})
	if router.Firelens.Type == FluentBit {
		out = fluentBit{memory: memory(router)}
	}
	parts := []string{out.inputs(r.Task.Network)}
	for _, s := range sources {
		parts = append(parts, out.include(s))
	}
	for _, s := range sources {
		parts = append(parts, out.exclude(s))
	}
	parts = append(parts, out.records(records), out.external(external), out.sink(r.Task.Network))
	for _, s := range sources {
		parts = append(parts, out.output(s))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "\n"), nil
}

// dialect is a router's language. Each method answers whole sections, or "".
type dialect interface {
	inputs(task.NetworkMode) string
	include(source) string
	exclude(source) string
	records([]field) string
	external(path string) string
	sink(task.NetworkMode) string
	output(source) string
}

// field is a name and a value, as they are written.
type field struct{ name, value string }

// source is a container whose lines the router gets.
type source struct {
	container, include, exclude string
	plugin                      string // the output's; "" for none
	options                     []field
}

// sources are the containers with the log driver awsfirelens, and what their
// options make of them.
func (r Router) sources(kind string) ([]source, error) {
	pluginKey := "@type"
	if kind == FluentBit {
		pluginKey = "Name"
	}
	delivery := Delivery()
	var all []source
	for i, c := range r.Task.Containers {
		if c.Log.Driver != LogDriver {
			continue
		}
		s := source{container: c.Name}
		for _, name := range slices.Sorted(maps.Keys(c.Log.Options)) {
			value := c.Log.Options[name]
			if strings.ContainsAny(name+value, "\r\n") {
				return nil, fmt.Errorf("unable to apply log options of container %s to firelens config: option %q holds a line break", c.Name, name)
			}
			switch {
			case name == pluginKey:
				s.plugin = value
			case name == "include-pattern":
				s.include = value
			case name == "exclude-pattern":
				s.exclude = value
			case delivery[name] == "" && !slices.Contains(r.Secrets[c.Name], name):
				s.options = append(s.options, field{name, value})
			}
		}
		for _, name := range slices.Sorted(slices.Values(r.Secrets[c.Name])) {
			s.options = append(s.options, field{name, placeholder(kind, Variable(name, i))})
		}
		if s.plugin == "" && len(s.options) > 0 {
			return nil, fmt.Errorf("unable to apply log options of container %s to firelens config: %w", c.Name,
				errors.New("missing output key "+pluginKey+" which is required for firelens configuration of type "+pluginKey))
		}
		all = append(all, s)
	}
	return all, nil
}

// placeholder reads a variable of the router's environment.
func placeholder(kind, name string) string {
	if kind == FluentBit {
		return "${" + name + "}"
	}
	return `"#{ENV['` + name + `']}"`
}

// records are what is added to each record.
func (r Router) records(router *task.Container) []field {
	fields := []field{
		{"ecs_cluster", r.Cluster}, {"ecs_task_arn", r.Task.ARN}, {"ecs_task_definition", r.Task.Family + ":" + r.Task.Version},
	}
	if r.InstanceID != "" && slices.Contains(router.Spec.Process.Env, "AWS_EXECUTION_ENV=AWS_ECS_EC2") {
		fields = append(fields, field{"ec2_instance_id", r.InstanceID})
	}
	return fields
}

// memory is how much Fluent Bit may hold of what it has not sent, in MB: half of
// the container's.
func memory(router *task.Container) int64 {
	const fallback = 25
	limit := router.MemoryReservation
	if limit <= 0 {
		limit = router.Memory
	}
	if limit <= 0 {
		return fallback
	}
	return max(limit/2, 1)
}

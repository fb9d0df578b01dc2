package firelens

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// The health check of Fluent Bit's images opens a connection to this port.
const (
	healthTag  = "firelens-healthcheck"
	healthPort = 8877
)

// fluentBit writes Fluent Bit's classic configuration.
type fluentBit struct{ memory int64 }

var _ dialect = fluentBit{}

// section is [HEAD] and its lines.
func (fluentBit) section(head string, fields ...field) string {
	var b strings.Builder
	b.WriteString("[" + head + "]\n")
	for _, f := range fields {
		b.WriteString("    " + f.name + " " + f.value + "\n")
	}
	return b.String()
}

func (d fluentBit) inputs(network task.NetworkMode) string {
	parts := []string{d.section("INPUT", field{"Name", "forward"}, field{"unix_path", SocketDir + SocketName},
		field{"Mem_Buf_Limit", fmt.Sprintf("%dMB", d.memory)})}
	if address := listen(network); address != "" {
		parts = append(parts,
			d.section("INPUT", field{"Name", "forward"}, field{"Listen", address}, field{"Port", strconv.Itoa(Port)}),
			d.section("INPUT", field{"Name", "tcp"}, field{"Tag", healthTag}, field{"Listen", "127.0.0.1"}, field{"Port", strconv.Itoa(healthPort)}))
	}
	return strings.Join(parts, "\n")
}

// match is the tag of a container's lines, whatever the task.
func (fluentBit) match(s source) field { return field{"Match", s.container + "-firelens*"} }

func (d fluentBit) include(s source) string {
	if s.include == "" {
		return ""
	}
	return d.section("FILTER", field{"Name", "grep"}, d.match(s), field{"Regex", "log " + s.include})
}

func (d fluentBit) exclude(s source) string {
	if s.exclude == "" {
		return ""
	}
	return d.section("FILTER", field{"Name", "grep"}, d.match(s), field{"Exclude", "log " + s.exclude})
}

func (d fluentBit) records(fields []field) string {
	if len(fields) == 0 {
		return ""
	}
	all := []field{{"Name", "record_modifier"}, {"Match", "*"}}
	for _, f := range fields {
		all = append(all, field{"Record", f.name + " " + f.value})
	}
	return d.section("FILTER", all...)
}

func (fluentBit) external(path string) string {
	if path == "" {
		return ""
	}
	return "@INCLUDE " + path + "\n"
}

// sink is where the health check's connections end.
func (d fluentBit) sink(network task.NetworkMode) string {
	if listen(network) == "" {
		return ""
	}
	return d.section("OUTPUT", field{"Name", "null"}, field{"Match", healthTag})
}

func (d fluentBit) output(s source) string {
	if s.plugin == "" {
		return ""
	}
	return d.section("OUTPUT", append([]field{{"Name", s.plugin}, d.match(s)}, s.options...)...)
}

// listen is the address on which containers reach a router, "" where there is no
// network of the task's own.
func listen(network task.NetworkMode) string {
	switch network {
	case task.NetworkBridge:
		return "0.0.0.0"
	case task.NetworkAWSVPC:
		return "127.0.0.1"
	case task.NetworkHost, task.NetworkNone:
	}
	return ""
}

package firelens

import (
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// fluentd writes Fluentd's configuration.
type fluentd struct{}

var _ dialect = fluentd{}

// section is <head>, its lines, and the end.
func (fluentd) section(head string, lines ...string) string {
	name, _, _ := strings.Cut(head, " ")
	var b strings.Builder
	b.WriteString("<" + head + ">\n")
	for _, line := range lines {
		b.WriteString("    " + line + "\n")
	}
	b.WriteString("</" + name + ">\n")
	return b.String()
}

func (d fluentd) inputs(network task.NetworkMode) string {
	text := d.section("source", "@type unix", "path "+SocketDir+SocketName)
	if address := listen(network); address != "" {
		text += "\n" + d.section("source", "@type forward", "bind "+address, "port "+strconv.Itoa(Port))
	}
	return text
}

// match is the tag of a container's lines, whatever the task.
func (fluentd) match(s source) string { return s.container + "-firelens**" }

// grep keeps or drops lines by a pattern.
func (d fluentd) grep(s source, kind, pattern string) string {
	if pattern == "" {
		return ""
	}
	return d.section("filter "+d.match(s), "@type grep", "<"+kind+">", "    key log", "    pattern "+pattern, "</"+kind+">")
}

func (d fluentd) include(s source) string { return d.grep(s, "regexp", s.include) }

func (d fluentd) exclude(s source) string { return d.grep(s, "exclude", s.exclude) }

func (d fluentd) records(fields []field) string {
	if len(fields) == 0 {
		return ""
	}
	lines := []string{"@type record_transformer", "<record>"}
	for _, f := range fields {
		lines = append(lines, "    "+f.name+" "+f.value)
	}
	return d.section("filter **", append(lines, "</record>")...)
}

func (fluentd) external(path string) string {
	if path == "" {
		return ""
	}
	return "@include " + path + "\n"
}

// sink is not needed: nothing checks Fluentd's health by a connection.
func (fluentd) sink(task.NetworkMode) string { return "" }

func (d fluentd) output(s source) string {
	if s.plugin == "" {
		return ""
	}
	lines := []string{"@type " + s.plugin}
	for _, f := range s.options {
		lines = append(lines, f.name+" "+f.value)
	}
	return d.section("match "+d.match(s), lines...)
}

package config

import (
	"fmt"
	"strconv"
	"strings"
)

// entry is one assignment of the settings file.
type entry struct {
	name, value string
	line        int
}

// parseFile reads KEY=VALUE lines. It understands what people write into such a file, because systemd and shells do: blank lines,
// # and ; comments, a leading "export", white space around the name, and a value wholly in single or double quotes. Everything else
// of a value is taken as it stands, as ecs-init does: JSON, = and # inside it need no quoting. A later line replaces an earlier one.
func parseFile(text string) (entries []entry, problems []Warning) {
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(trimmed, "=")
		name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			problems = append(problems, Warning{Message: fmt.Sprintf("line %d is not KEY=VALUE and is passed over", i+1)})
			continue
		}
		entries = append(entries, entry{name: name, value: unquote(strings.TrimSpace(value)), line: i + 1})
	}
	return entries, problems
}

// unquote removes one pair of quotes around the whole value. Inside double quotes \" and \\ stand for " and \, as in systemd.
func unquote(v string) string {
	if len(v) < 2 || v[0] != v[len(v)-1] {
		return v
	}
	inner := v[1 : len(v)-1]
	switch v[0] {
	case '\'':
		if strings.Contains(inner, "'") {
			return v
		}
		return inner
	case '"':
		if s, err := strconv.Unquote(v); err == nil {
			return s
		}
		return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(inner)
	default:
		return v
	}
}

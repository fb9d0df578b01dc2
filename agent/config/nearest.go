package config

import (
	"fmt"
	"slices"
	"strings"
)

// warnUnknown names every ECS_ or BERTH_ variable and every JSON key that no row knows, with the nearest known name. Variables with
// other prefixes belong to others.
func (l *loader) warnUnknown() {
	variables := []string{"ECS_AGENT_CONFIG_FILE_PATH", "AWS_REGION"}
	var keys []string
	for _, r := range l.rows {
		if r.env {
			variables = append(variables, r.name)
		}
		keys = append(keys, r.keys...)
	}
	ours := func(name string) bool { return strings.HasPrefix(name, "ECS_") || strings.HasPrefix(name, "BERTH_") }
	for _, name := range sortedKeys(l.env) {
		// Inside a task of ECS the environment holds ECS_CONTAINER_METADATA_URI and kin; they are not meant for us.
		if ours(name) && !slices.Contains(variables, name) && !strings.HasPrefix(name, "ECS_CONTAINER_METADATA_URI") && name != "ECS_AGENT_URI" {
			l.warnings = append(l.warnings, unknown(name, SourceEnvironment, variables))
		}
	}
	for _, name := range sortedKeys(l.file) {
		if ours(name) && !slices.Contains(variables, name) {
			l.warnings = append(l.warnings, unknown(name, fmt.Sprintf("%s:%d", l.fileName, l.file[name].line), variables))
		}
	}
	for _, src := range l.json {
		for _, name := range sortedKeys(src.values) {
			if !slices.Contains(keys, name) {
				l.warnings = append(l.warnings, unknown(name, src.name, keys))
			}
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func unknown(name, source string, known []string) Warning {
	w := Warning{Name: name, Source: source, Message: "is not a setting"}
	if n := nearest(name, known); n != "" {
		w.Message += "; did you mean " + n + "?"
	}
	return w
}

// nearest answers the known name with the fewest edits, or nothing if even that one is too different to be a slip.
func nearest(name string, known []string) string {
	best, at := len(name)/4+1, ""
	for _, k := range known {
		if d := distance(name, k); d < best || d == best && at == "" {
			best, at = d, k
		}
	}
	return at
}

// distance is the number of insertions, deletions and replacements between a and b (Levenshtein).
func distance(a, b string) int {
	line := make([]int, len(b)+1)
	for j := range line {
		line[j] = j
	}
	for i := range len(a) {
		diagonal := line[0]
		line[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(line[j+1]+1, line[j]+1, diagonal+cost)
			diagonal, line[j+1] = line[j+1], next
		}
	}
	return line[len(b)]
}

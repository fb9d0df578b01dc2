package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// section is one of either language.
type section struct {
	kind, plugin, match string
	values              map[string]string
	records             map[string]string
	fluentd             bool
}

// take removes the first of the values that is there, by name, and answers it.
func (s section) take(names ...string) string {
	for _, name := range names {
		if value, there := s.values[name]; there {
			delete(s.values, name)
			return value
		}
	}
	return ""
}

// rest complains about values that nobody took.
func (s section) rest() error {
	if len(s.values) > 0 {
		return fmt.Errorf("it has %v besides", s.values)
	}
	return nil
}

// matcher is the section's pattern of tags.
func (s section) matcher() *regexp.Regexp {
	text := strings.ReplaceAll(regexp.QuoteMeta(s.match), `\*\*`, ".*")
	return regexp.MustCompile("^" + strings.ReplaceAll(text, `\*`, ".*") + "$")
}

// parseFluentBit reads the classic language.
func parseFluentBit(text string) ([]section, error) {
	var all []section
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, " ")
		value = fromEnvironment(strings.TrimSpace(value), `\$\{([^}]*)\}`)
		switch {
		case line == "" || line[0] == '#':
		case key == "@INCLUDE":
			data, err := os.ReadFile(value)
			if err != nil {
				return nil, err
			}
			more, err := parseFluentBit(string(data))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", value, err)
			}
			all = append(all, more...)
		case line[0] == '[' && line[len(line)-1] == ']':
			all = append(all, section{kind: strings.ToLower(line[1 : len(line)-1]), values: map[string]string{}, records: map[string]string{}})
		case len(all) == 0 || value == "":
			return nil, fmt.Errorf("the line %q is out of place", line)
		default:
			all[len(all)-1].set(key, value)
		}
	}
	return all, nil
}

// set takes a line of Fluent Bit's.
func (s *section) set(key, value string) {
	switch key {
	case "Name":
		s.plugin = value
	case "Match":
		s.match = value
	case "Record":
		name, text, _ := strings.Cut(value, " ")
		s.records[name] = text
	default:
		s.values[key] = value
	}
}

// parseFluentd reads Fluentd's language.
func parseFluentd(text string) ([]section, error) {
	var (
		all  []section
		open []string
	)
	kinds := map[string]string{"source": "input", "filter": "filter", "match": "output"}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, " ")
		value = fromEnvironment(strings.TrimSpace(value), `^"#\{ENV\['([^']*)'\]\}"$`)
		switch {
		case line == "" || line[0] == '#':
		case key == "@include":
			data, err := os.ReadFile(value)
			if err != nil {
				return nil, err
			}
			more, err := parseFluentd(string(data))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", value, err)
			}
			all = append(all, more...)
		case strings.HasPrefix(line, "</"):
			if len(open) == 0 || line != "</"+open[len(open)-1]+">" {
				return nil, fmt.Errorf("%s ends what has not begun", line)
			}
			open = open[:len(open)-1]
		case line[0] == '<':
			name, match, _ := strings.Cut(strings.Trim(line, "<>"), " ")
			if len(open) == 0 {
				all = append(all, section{
					kind: kinds[name], match: match, values: map[string]string{}, records: map[string]string{}, fluentd: true,
				})
			}
			open = append(open, name)
		case len(open) == 0 || value == "":
			return nil, fmt.Errorf("the line %q is out of place", line)
		default:
			all[len(all)-1].put(open[len(open)-1], key, value)
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("<%s> does not end", open[len(open)-1])
	}
	return all, nil
}

// put takes a line of Fluentd's inside of a block.
func (s *section) put(block, key, value string) {
	switch {
	case block == "record":
		s.records[key] = value
	case slices.Contains([]string{"regexp", "exclude"}, block):
		name := map[string]string{"regexp": "Regex", "exclude": "Exclude"}[block]
		s.values[name] = strings.TrimSpace(s.values[name] + " " + value) // key, then pattern
	case key == "@type":
		s.plugin = value
	default:
		s.values[key] = value
	}
}

// fromEnvironment puts stars for variables that are there, for they are secret;
// one that is not there stays as it is.
func fromEnvironment(value, pattern string) string {
	re := regexp.MustCompile(pattern)
	return re.ReplaceAllStringFunc(value, func(found string) string {
		if _, there := os.LookupEnv(re.FindStringSubmatch(found)[1]); there {
			return "***"
		}
		return found
	})
}

package logs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// attributes are the extra words that go with every line: chosen labels and
// variables, and the tag.
func attributes(c Container) (map[string]string, error) {
	attrs := make(map[string]string)
	labels, err := chooser(c.Options, optLabels, optLabelsRegex)
	if err != nil {
		return nil, err
	}
	for name, value := range c.Labels {
		if labels(name) {
			attrs[name] = value
		}
	}
	env, err := chooser(c.Options, optEnv, optEnvRegex)
	if err != nil {
		return nil, err
	}
	for _, entry := range c.Env {
		if name, value, ok := strings.Cut(entry, "="); ok && env(name) {
			attrs[name] = value
		}
	}
	if text := c.Options[optTag]; text != "" {
		tag, err := expandTag(text, c)
		if err != nil {
			return nil, err
		}
		attrs[optTag] = tag
	}
	return attrs, nil
}

// chosenEnv is the part of c.Env that its options ask for: the rest may be
// secret and is no business of the log process.
func chosenEnv(c Container) ([]string, error) {
	chosen, err := chooser(c.Options, optEnv, optEnvRegex)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, entry := range c.Env {
		if name, _, _ := strings.Cut(entry, "="); chosen(name) {
			env = append(env, entry)
		}
	}
	return env, nil
}

// chooser says which names a list option and its regular expression name.
func chooser(options map[string]string, list, regex string) (func(string) bool, error) {
	names := make(map[string]bool)
	if text := options[list]; text != "" {
		for name := range strings.SplitSeq(text, ",") {
			names[name] = true
		}
	}
	text := options[regex]
	if text == "" {
		return func(name string) bool { return names[name] }, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s=%q: %w", ErrOptions, regex, text, err)
	}
	return func(name string) bool { return names[name] || re.MatchString(name) }, nil
}

// ExpandTag fills in a tag such as "{{.Name}}/{{.ID}}" for drivers in packages of
// their own. Its errors match ErrOptions.
func ExpandTag(tag string, c Container) (string, error) { return expandTag(tag, c) }

// expandTag fills in a tag such as "{{.Name}}/{{.ID}}". Docker's field names
// are known; the rest of its template language is not.
func expandTag(tag string, c Container) (string, error) {
	var out strings.Builder
	for rest := tag; ; {
		before, after, found := strings.Cut(rest, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		inside, behind, closed := strings.Cut(after, "}}")
		value, known := tagField(strings.TrimSpace(inside), c)
		if !closed || !known {
			return "", fmt.Errorf("%w: %s=%q: cannot expand {{%s}}", ErrOptions, optTag, tag, inside)
		}
		out.WriteString(value)
		rest = behind
	}
}

// tagField is the value of a field in a tag.
func tagField(field string, c Container) (string, bool) {
	switch field {
	case ".ID":
		return short(c.ID), true
	case ".FullID":
		return c.ID, true
	case ".Name", ".FullName":
		return c.name(), true
	case ".ImageID":
		return short(strings.TrimPrefix(c.ImageID, "sha256:")), true
	case ".ImageFullID":
		return c.ImageID, true
	case ".ImageName":
		return c.Image, true
	case ".DaemonName":
		return "berth", true
	case ".Hostname":
		name, err := os.Hostname()
		return name, err == nil
	}
	return "", false
}

// short is the first twelve characters of an id.
func short(id string) string { return id[:min(len(id), 12)] }

package localcluster

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// matcher says whether an instance satisfies a cluster query expression.
type matcher func(*instance) bool

// term is one comparison of the cluster query language, such as
// `attribute:ecs.instance-type =~ t2.*` or `attribute:stack in [prod, test]`.
var term = regexp.MustCompile(`^(attribute:[\w.-]+|agentConnected|ec2InstanceId)\s*(?:(==|equals|!=|not_equals|=~|matches|!~|not_matches|in|!in|not_in|exists|!exists|not_exists)\s*(.*))$`)

// parseExpression reads the part of the cluster query language that single
// hosts need: comparisons joined by && or "and". An empty one matches all.
func parseExpression(text string) (matcher, error) {
	var all []matcher
	for part := range strings.SplitSeq(strings.ReplaceAll(text, " and ", " && "), "&&") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		m, err := parseTerm(part)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return func(i *instance) bool {
		return !slices.ContainsFunc(all, func(m matcher) bool { return !m(i) })
	}, nil
}

func parseTerm(text string) (matcher, error) {
	parts := term.FindStringSubmatch(text)
	if parts == nil {
		return nil, fmt.Errorf("invalid expression: cannot read %q", text)
	}
	subject, operator, argument := parts[1], parts[2], strings.Trim(strings.TrimSpace(parts[3]), `"'`)
	value := func(i *instance) (string, bool) {
		if name, ok := strings.CutPrefix(subject, "attribute:"); ok {
			return i.attribute(name)
		}
		if subject == "ec2InstanceId" {
			return i.EC2InstanceID, true
		}
		return "true", true
	}
	var compare func(string) bool
	operator, negated := positive(operator)
	switch operator {
	case "exists":
		return func(i *instance) bool { _, ok := value(i); return ok != negated }, nil
	case "==":
		compare = func(v string) bool { return v == argument }
	case "in":
		list := strings.FieldsFunc(strings.Trim(argument, "[]"), func(r rune) bool { return r == ',' || r == ' ' })
		compare = func(v string) bool { return slices.Contains(list, v) }
	case "=~":
		pattern, err := regexp.Compile("^(?:" + argument + ")$")
		if err != nil {
			return nil, fmt.Errorf("invalid expression: %w", err)
		}
		compare = pattern.MatchString
	}
	return func(i *instance) bool {
		v, ok := value(i)
		return (ok && compare(v)) != negated
	}, nil
}

// positive gives the short, unnegated form of an operator.
func positive(operator string) (string, bool) {
	short := map[string]string{
		"equals": "==", "not_equals": "!=", "matches": "=~", "not_matches": "!~",
		"not_in": "!in", "not_exists": "!exists",
	}
	if s, ok := short[operator]; ok {
		operator = s
	}
	switch operator {
	case "!=":
		return "==", true
	case "!~":
		return "=~", true
	}
	rest, negated := strings.CutPrefix(operator, "!")
	return rest, negated
}

package awslogs

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/runtime/logs"
)

// The options, as Docker names them. The prefix is ECS's: the name of the stream
// is then <prefix>/<container>/<task>.
const (
	optGroup         = "awslogs-group"
	optStream        = "awslogs-stream"
	optStreamPrefix  = "awslogs-stream-prefix"
	optRegion        = "awslogs-region"
	optCreateGroup   = "awslogs-create-group"
	optCreateStream  = "awslogs-create-stream"
	optDatetime      = "awslogs-datetime-format"
	optMultiline     = "awslogs-multiline-pattern"
	optEndpoint      = "awslogs-endpoint"
	optCredentials   = "awslogs-credentials-endpoint"
	optFormat        = "awslogs-format"
	optFlushInterval = "awslogs-force-flush-interval-seconds"
	optMaxBuffered   = "awslogs-max-buffered-events"
	optTag           = "tag"
)

// formatEMF is the only value of awslogs-format: the embedded metric format.
const formatEMF = "json/emf"

func options() []string {
	return []string{
		optGroup, optStream, optStreamPrefix, optRegion, optCreateGroup, optCreateStream, optDatetime, optMultiline,
		optEndpoint, optCredentials, optFormat, optFlushInterval, optMaxBuffered, optTag,
	}
}

// Names that the service takes.
const maxName = 512

// settings are a container's options, understood.
type settings struct {
	group, stream             string
	region, endpoint          string
	credentials               string
	createGroup, createStream bool
	emf                       bool
	flush                     time.Duration
	lines                     int
	begins                    *regexp.Regexp // nil: every line is an event
}

// parse reads a container's options. region is the host's, for containers that
// name none.
func parse(c logs.Container, region string) (s settings, err error) {
	o := c.Options
	s = settings{
		group: o[optGroup], region: cmp.Or(o[optRegion], region), endpoint: o[optEndpoint], credentials: o[optCredentials],
		createStream: true, flush: flushEvery, lines: maxBuffered,
	}
	if s.group == "" {
		return s, invalid("must specify a value for log opt '%s'", optGroup)
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9_./#-]{1,512}$`).MatchString(s.group) {
		return s, invalid("%s=%q is no name of a log group: 1 to 512 of a-z A-Z 0-9 . - _ / #", optGroup, s.group)
	}
	if s.region == "" {
		return s, invalid("must specify a value for log opt '%s': this host does not know its region", optRegion)
	}
	if s.stream, err = streamOf(c); err != nil {
		return s, err
	}
	for name, to := range map[string]*bool{optCreateGroup: &s.createGroup, optCreateStream: &s.createStream} {
		if text, ok := o[name]; ok {
			if *to, err = strconv.ParseBool(text); err != nil {
				return s, invalid("%s=%q is not true or false", name, text)
			}
		}
	}
	if text, ok := o[optFlushInterval]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return s, invalid("must specify a positive integer for log opt '%s': %s", optFlushInterval, text)
		}
		s.flush = time.Duration(n) * time.Second
	}
	if text, ok := o[optMaxBuffered]; ok {
		if s.lines, err = strconv.Atoi(text); err != nil || s.lines < 1 {
			return s, invalid("must specify a positive integer for log opt '%s': %s", optMaxBuffered, text)
		}
	}
	s.lines = min(s.lines, maxEvents)
	if text, ok := o[optFormat]; ok {
		if text != formatEMF {
			return s, invalid("unsupported log format '%s'; %s is %s", text, optFormat, formatEMF)
		}
		s.emf = true
	}
	s.begins, err = begins(o)
	return s, err
}

// streamOf is the name of the stream: as given, or of the prefix, or the tag.
func streamOf(c logs.Container) (string, error) {
	name := c.Options[optStream]
	if prefix := c.Options[optStreamPrefix]; name == "" && prefix != "" {
		name = strings.Join([]string{prefix, c.Name, c.Task}, "/")
	}
	if name == "" {
		var err error
		if name, err = logs.ExpandTag(cmp.Or(c.Options[optTag], "{{.FullID}}"), c); err != nil {
			return "", err
		}
	}
	if len(name) > maxName || strings.ContainsAny(name, ":*") {
		return "", invalid("%q is no name of a log stream: at most %d characters, without : and *", name, maxName)
	}
	return name, nil
}

// begins is the pattern that a line begins an event with.
func begins(o map[string]string) (*regexp.Regexp, error) {
	format, dated := o[optDatetime]
	pattern, multiline := o[optMultiline]
	switch {
	case dated && multiline:
		return nil, invalid("you cannot configure log opt '%s' and '%s' at the same time", optDatetime, optMultiline)
	case (dated || multiline) && o[optFormat] != "":
		return nil, invalid("you cannot configure log opt '%s' or '%s' when log opt '%s' is set to '%s'",
			optDatetime, optMultiline, optFormat, o[optFormat])
	case dated:
		var err error
		if pattern, err = datePattern(format); err != nil {
			return nil, err
		}
	case !multiline:
		return nil, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, invalid("awslogs could not parse multiline pattern %q: %v", pattern, err)
	}
	return re, nil
}

// datePattern makes a regular expression of a strftime format. As with Docker,
// what is no conversion is a regular expression already.
func datePattern(format string) (string, error) {
	const two = `\d{2}`
	known := map[byte]string{
		'a': `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`,
		'A': `(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)`,
		'w': `[0-6]`,
		'd': `(?:0[1-9]|[12][0-9]|3[01])`,
		'b': `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`,
		'B': `(?:January|February|March|April|May|June|July|August|September|October|November|December)`,
		'm': `(?:0[1-9]|1[0-2])`,
		'Y': `\d{4}`,
		'y': two,
		'H': `(?:[01][0-9]|2[0-3])`,
		'I': `(?:0[1-9]|1[0-2])`,
		'p': `[AP]M`,
		'M': `[0-5][0-9]`,
		'S': `[0-5][0-9]`,
		'L': `\.\d{3}`,
		'f': `\d{6}`,
		'z': `[+-]\d{4}`,
		'Z': `[A-Z]{1,4}T`,
		'j': `(?:0[0-9][1-9]|0[1-9]0|[12][0-9]{2}|3[0-5][0-9]|36[0-6])`,
		'%': `%`,
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) {
			return "", invalid("%s=%q ends in a single %%", optDatetime, format)
		}
		re, ok := known[format[i]]
		if !ok {
			return "", invalid("%s=%q has the unknown conversion %%%c", optDatetime, format, format[i])
		}
		out.WriteString(re)
	}
	return out.String(), nil
}

// invalid is an error about options.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{logs.ErrOptions}, args...)...)
}

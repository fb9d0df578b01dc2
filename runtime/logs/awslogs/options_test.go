package awslogs

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/berthd/berth/runtime/logs"
)

func TestOptionsAreChecked(t *testing.T) {
	factory := New(Config{Host: keys("HOST")})
	for _, tc := range []struct{ name, value, want string }{
		{optGroup, "", "must specify a value for log opt 'awslogs-group'"},
		{optGroup, "a b", "is no name of a log group"},
		{optRegion, "", "must specify a value for log opt 'awslogs-region'"},
		{optStream, "a:b", `"a:b" is no name of a log stream`},
		{optCreateGroup, "maybe", `awslogs-create-group="maybe" is not true or false`},
		{optCreateStream, "2", `awslogs-create-stream="2" is not true or false`},
		{optFlushInterval, "0", "must specify a positive integer for log opt 'awslogs-force-flush-interval-seconds': 0"},
		{optMaxBuffered, "x", "must specify a positive integer for log opt 'awslogs-max-buffered-events': x"},
		{optFormat, "text", "unsupported log format 'text'"},
		{optDatetime, "%Q", "has the unknown conversion %Q"},
		{optDatetime, "%", "ends in a single %"},
		{optMultiline, "(", "could not parse multiline pattern"},
	} {
		err := factory.Check(containerWith(map[string]string{tc.name: tc.value}))
		if !errors.Is(err, logs.ErrOptions) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v", tc.name, tc.value, err)
		}
	}
	for want, options := range map[string]map[string]string{
		"you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time": {optDatetime: "%Y", optMultiline: "x"},
		"when log opt 'awslogs-format' is set to 'json/emf'":                                                      {optMultiline: "x", optFormat: formatEMF},
	} {
		if err := factory.Check(containerWith(options)); !errors.Is(err, logs.ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", options, err)
		}
	}
}

func TestStreamNames(t *testing.T) {
	for want, options := range map[string]map[string]string{
		"web/web/9ab0":     nil,
		"shop/web/9ab0":    {optStream: "", optStreamPrefix: "shop"},
		"0123456789abcdef": {optStream: ""},
		"web-0123456789ab": {optStream: "", optTag: "{{.Name}}-{{.ID}}"},
	} {
		if got, err := streamOf(containerWith(options)); got != want || err != nil {
			t.Errorf("%v: %q %v", options, got, err)
		}
	}
}

func TestDatePatterns(t *testing.T) {
	for _, tc := range []struct{ format, line, not string }{
		{`\[%b %d, %Y %H:%M:%S\]`, "[Mar 04, 2026 05:06:07] x", "Mar 04, 2026 05:06:07 x"},
		{"%Y-%m-%d %H:%M:%S%L%z", "2026-03-04 05:06:07.123+0100", "2026-13-04 05:06:07.123+0100"},
		{"%A %B %d %I:%M %p %Z", "Wednesday March 04 05:06 AM CET", "Wed March 04 05:06 AM CET"},
		{"%a %w %y %j %f 100%%", "Wed 3 26 063 123456 100%", "Wed 7 26 063 123456 100%"},
		{"%j", "366", "367"},
		{"%H", "23", "24"},
	} {
		pattern, err := datePattern(tc.format)
		if err != nil {
			t.Fatal(err)
		}
		re, err := regexp.Compile("^" + pattern)
		if err != nil || !re.MatchString(tc.line) || re.MatchString(tc.not) {
			t.Errorf("%s is %s: %v", tc.format, pattern, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, tc := range []struct {
		cfg            Config
		region, option string
		want           string
	}{
		{Config{}, "eu-west-1", "", "https://logs.eu-west-1.amazonaws.com/"},
		{Config{DualStack: true}, "eu-west-1", "", "https://logs.eu-west-1.api.aws/"},
		{Config{FIPS: true}, "us-gov-west-1", "", "https://logs-fips.us-gov-west-1.amazonaws.com/"},
		{Config{}, "cn-north-1", "", "https://logs.cn-north-1.amazonaws.com.cn/"},
		{Config{DualStack: true}, "cn-north-1", "", "https://logs.cn-north-1.api.amazonwebservices.com.cn/"},
		{Config{}, "us-iso-east-1", "", "https://logs.us-iso-east-1.c2s.ic.gov/"},
		{Config{}, "us-isob-east-1", "", "https://logs.us-isob-east-1.sc2s.sgov.gov/"},
		{Config{}, "eu-isoe-west-1", "", "https://logs.eu-isoe-west-1.cloud.adc-e.uk/"},
		{Config{}, "us-isof-south-1", "", "https://logs.us-isof-south-1.csp.hci.ic.gov/"},
		{Config{}, "eusc-de-east-1", "", "https://logs.eusc-de-east-1.amazonaws.eu/"},
		{Config{Endpoint: "http://127.0.0.1:9"}, "eu-west-1", "", "http://127.0.0.1:9/"},
		{Config{Endpoint: "http://127.0.0.1:9"}, "eu-west-1", "vpce-1.logs.eu-west-1.vpce.amazonaws.com", "https://vpce-1.logs.eu-west-1.vpce.amazonaws.com/"},
		{Config{}, "eu-west-1", "https://logs.example.com/path", "https://logs.example.com/path"},
	} {
		got, err := tc.cfg.endpoint(settings{region: tc.region, endpoint: tc.option})
		if got != tc.want || err != nil {
			t.Errorf("%s %s: %s %v, want %s", tc.region, tc.option, got, err, tc.want)
		}
	}
	if _, err := (Config{}).endpoint(settings{endpoint: "ftp://x"}); !errors.Is(err, logs.ErrOptions) {
		t.Error(err)
	}
}

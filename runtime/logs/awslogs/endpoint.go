package awslogs

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config is what the driver knows of its host. The zero value asks each container
// for its region, and finds keys as the SDK does.
type Config struct {
	// Region is the host's; containers may name another.
	Region string
	// Endpoint replaces the service's address in every region, unless a container
	// names its own.
	Endpoint string
	// DualStack and FIPS choose among the service's addresses.
	DualStack, FIPS bool
	// AgentSocket is the unix socket of the agent's host API, which gives the keys
	// of execution roles.
	AgentSocket string
	// Host gives the keys of the host; nil is the SDK's chain.
	Host aws.CredentialsProvider
	// Proxy and TLS are as in http.Transport.
	Proxy func(*http.Request) (*url.URL, error)
	TLS   *tls.Config
}

// isolated are the regions in which a host's containers use the service of their
// host's region, whatever they name (spec/task-engine.md §5.10).
func isolated() []string {
	return []string{
		"us-isob-east-1", "us-iso-east-1", "us-iso-west-1", "eu-isoe-west-1",
		"us-isof-south-1", "us-isof-east-1", "us-isob-west-1", "eusc-de-east-1",
	}
}

// endpoint is the URL of the service for a container.
func (c Config) endpoint(s settings) (string, error) {
	text := s.endpoint
	switch {
	case c.Endpoint != "" && text == "":
		text = c.Endpoint
	case slices.Contains(isolated(), c.Region) && !c.DualStack:
		text = address(c.Region, false, c.FIPS)
	case text == "":
		text = address(s.region, c.DualStack, c.FIPS)
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", invalid("%s=%q is no address such as https://logs.eu-west-1.amazonaws.com", optEndpoint, s.endpoint)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}

// address is the host name of the service in a region.
func address(region string, dual, fips bool) string {
	service := "logs"
	if fips {
		service = "logs-fips"
	}
	domain, dualDomain := "amazonaws.com", "api.aws"
	switch prefix := region[:strings.LastIndexByte(region, '-')+1]; {
	case strings.HasPrefix(prefix, "cn-"):
		domain, dualDomain = "amazonaws.com.cn", "api.amazonwebservices.com.cn"
	case strings.HasPrefix(prefix, "us-iso-"):
		domain, dualDomain = "c2s.ic.gov", "api.aws.ic.gov"
	case strings.HasPrefix(prefix, "us-isob-"):
		domain, dualDomain = "sc2s.sgov.gov", "api.aws.scloud"
	case strings.HasPrefix(prefix, "eu-isoe-"):
		domain, dualDomain = "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"
	case strings.HasPrefix(prefix, "us-isof-"):
		domain, dualDomain = "csp.hci.ic.gov", "api.aws.hci.ic.gov"
	case strings.HasPrefix(prefix, "eusc-"):
		domain, dualDomain = "amazonaws.eu", "api.amazonwebservices.eu"
	}
	if dual {
		domain = dualDomain
	}
	return service + "." + region + "." + domain
}

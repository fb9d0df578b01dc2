package awslogs

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config is what the driver knows of its host. Host must be set.
type Config struct {
	// Region is the host's; containers may name another.
	Region string
	// Endpoint replaces the service's address in every region, unless a container
	// names its own; "" does not.
	Endpoint string
	// DualStack and FIPS choose among the service's addresses.
	DualStack, FIPS bool
	// AgentSocket is the unix socket of the agent's host API, which gives the keys
	// of execution roles.
	AgentSocket string
	// Host gives the keys of the host.
	Host aws.CredentialsProvider
	// Proxy is as in http.Transport; Roots are trusted instead of the host's.
	Proxy func(*http.Request) (*url.URL, error)
	Roots *x509.CertPool
}

// endpoint is the URL of the service for a container.
func (c Config) endpoint(s settings) (string, error) {
	text := s.endpoint
	if text == "" {
		text = c.Endpoint
	}
	if text == "" {
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

package awsapi

import "strings"

// The services that tasks need things from, as signatures and endpoint settings
// name them.
const (
	serviceECR            = "ecr"
	serviceS3             = "s3"
	serviceSecretsManager = "secretsmanager"
	serviceSSM            = "ssm"
)

// partition is a part of AWS that has domains of its own: by the prefix of its
// regions.
type partition struct{ prefix, domain, dual string }

// partitionOf finds a region's. The last one has every other region.
func partitionOf(region string) partition {
	for _, p := range []partition{
		{"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
		{"us-gov-", "amazonaws.com", "api.aws"},
		{"us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
		{"us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
		{"us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
		{"eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
		{"eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p
		}
	}
	return partition{"", "amazonaws.com", "api.aws"}
}

// address is the host name of a service in a region. Each service has its own
// ways of naming its FIPS and dual-stack endpoints.
func address(service, region string, dual, fips bool) string {
	p := partitionOf(region)
	suffix := ""
	if fips {
		suffix = "-fips"
	}
	switch {
	case service == serviceS3 && dual:
		return "s3" + suffix + ".dualstack." + region + "." + p.domain
	case service == serviceECR && !dual:
		return "api.ecr" + suffix + "." + region + "." + p.domain
	case service == serviceSSM && fips && !dual && p.prefix == "us-gov-":
		return "ssm." + region + "." + p.domain // All of it is FIPS there.
	case service == serviceSecretsManager && dual && (p.domain == "amazonaws.com" || p.prefix == "cn-" && !fips):
		return "secretsmanager" + suffix + "." + region + "." + p.domain // The one name has both kinds of address.
	case dual:
		return service + suffix + "." + region + "." + p.dual
	}
	return service + suffix + "." + region + "." + p.domain
}

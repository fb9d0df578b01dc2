package ecsapi

import "strings"

// Endpoint is the address of the API. A backend host is taken as it is, with
// https:// added when it has no scheme. Otherwise it is the region's; dualStack
// picks the one that has IPv6, for hosts that have nothing else.
func Endpoint(backendHost, region string, dualStack bool) string {
	if backendHost != "" {
		if !strings.Contains(backendHost, "://") {
			backendHost = "https://" + backendHost
		}
		return strings.TrimSuffix(backendHost, "/")
	}
	single, dual := suffixes(region)
	if dualStack && dual != "" {
		return "https://ecs." + region + "." + dual
	}
	return "https://ecs." + region + "." + single
}

// suffixes are the domains of a region's partition.
func suffixes(region string) (single, dual string) {
	for _, p := range []struct{ prefix, single, dual string }{
		{"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
		{"us-isob-", "sc2s.sgov.gov", ""},
		{"us-isof-", "csp.hci.ic.gov", ""},
		{"us-iso-", "c2s.ic.gov", ""},
		{"eu-isoe-", "cloud.adc-e.uk", ""},
		{"eusc-", "amazonaws.eu", ""},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.single, p.dual
		}
	}
	return "amazonaws.com", "api.aws"
}

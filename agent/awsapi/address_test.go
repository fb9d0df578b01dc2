package awsapi

import "testing"

// TestAddress compares with what the SDK's resolvers answer.
func TestAddress(t *testing.T) {
	for _, tc := range []struct {
		service, region string
		dual, fips      bool
		want            string
	}{
		{"ssm", "eu-west-1", false, false, "ssm.eu-west-1.amazonaws.com"},
		{"ssm", "eu-west-1", true, false, "ssm.eu-west-1.api.aws"},
		{"ssm", "us-east-1", false, true, "ssm-fips.us-east-1.amazonaws.com"},
		{"ssm", "us-gov-west-1", false, true, "ssm.us-gov-west-1.amazonaws.com"},
		{"ssm", "us-gov-west-1", true, true, "ssm-fips.us-gov-west-1.api.aws"},
		{"ssm", "cn-north-1", true, false, "ssm.cn-north-1.api.amazonwebservices.com.cn"},
		{"secretsmanager", "eu-west-1", false, false, "secretsmanager.eu-west-1.amazonaws.com"},
		{"secretsmanager", "eu-west-1", true, false, "secretsmanager.eu-west-1.amazonaws.com"},
		{"secretsmanager", "us-gov-west-1", true, true, "secretsmanager-fips.us-gov-west-1.amazonaws.com"},
		{"secretsmanager", "cn-north-1", true, false, "secretsmanager.cn-north-1.amazonaws.com.cn"},
		{"secretsmanager", "eusc-de-east-1", true, false, "secretsmanager.eusc-de-east-1.api.amazonwebservices.eu"},
		{"ecr", "eu-west-1", false, false, "api.ecr.eu-west-1.amazonaws.com"},
		{"ecr", "eu-west-1", true, false, "ecr.eu-west-1.api.aws"},
		{"ecr", "us-east-1", false, true, "api.ecr-fips.us-east-1.amazonaws.com"},
		{"ecr", "us-east-1", true, true, "ecr-fips.us-east-1.api.aws"},
		{"ecr", "us-iso-east-1", false, false, "api.ecr.us-iso-east-1.c2s.ic.gov"},
		{"s3", "eu-west-1", false, false, "s3.eu-west-1.amazonaws.com"},
		{"s3", "eu-west-1", true, false, "s3.dualstack.eu-west-1.amazonaws.com"},
		{"s3", "us-east-1", true, true, "s3-fips.dualstack.us-east-1.amazonaws.com"},
		{"s3", "cn-north-1", false, false, "s3.cn-north-1.amazonaws.com.cn"},
		{"s3", "us-isob-east-1", false, false, "s3.us-isob-east-1.sc2s.sgov.gov"},
		{"s3", "us-isof-south-1", false, false, "s3.us-isof-south-1.csp.hci.ic.gov"},
		{"s3", "eu-isoe-west-1", false, false, "s3.eu-isoe-west-1.cloud.adc-e.uk"},
	} {
		if got := address(tc.service, tc.region, tc.dual, tc.fips); got != tc.want {
			t.Errorf("%s in %s, dual stack %v, FIPS %v: %s, want %s", tc.service, tc.region, tc.dual, tc.fips, got, tc.want)
		}
	}
}

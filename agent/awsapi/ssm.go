package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/berthd/berth/agent/credentials"
)

// Parameters asks Systems Manager's Parameter Store for up to ten parameters,
// decrypted, each by its name or ARN, with or without a ":selector". The values
// are found under what was asked; what is not in the map does not exist.
func (s *Services) Parameters(ctx context.Context, keys credentials.Set, region string, names []string) (map[string]string, error) {
	client := ssm.New(ssm.Options{
		Region: s.region(region), Credentials: keysOf(keys), HTTPClient: s.calls, BaseEndpoint: s.base("ssm"),
		EndpointOptions: ssm.EndpointResolverOptions{UseDualStackEndpoint: s.dualStack(), UseFIPSEndpoint: s.fips()},
	})
	out, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: names, WithDecryption: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	found := make(map[string]string, len(out.Parameters))
	for _, p := range out.Parameters {
		if p.Value == nil {
			continue
		}
		// The service answers with the bare name and says by what it was selected; an
		// ARN is answered as such.
		for _, id := range []string{aws.ToString(p.Name), aws.ToString(p.ARN)} {
			if id != "" {
				found[id] = *p.Value
				found[id+aws.ToString(p.Selector)] = *p.Value
			}
		}
	}
	values := make(map[string]string, len(names))
	for _, name := range names {
		if value, ok := found[name]; ok {
			values[name] = value
		}
	}
	return values, nil
}

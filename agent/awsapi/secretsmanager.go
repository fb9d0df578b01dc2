package awsapi

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/berthd/berth/agent/credentials"
)

// SecretVersion names a version of a secret by its ARN or name; an empty Stage
// and Version are the current one.
type SecretVersion struct{ ID, Stage, Version string }

// errNoString: the secret is there, and is not text.
var errNoString = errors.New("the secret has no string value")

// SecretValue asks Secrets Manager for a secret's text. The error matches
// fs.ErrNotExist when there is no such secret or version.
func (s *Services) SecretValue(ctx context.Context, keys credentials.Set, region string, v SecretVersion) (string, error) {
	client := secretsmanager.New(secretsmanager.Options{
		Region: s.region(region), Credentials: keysOf(keys), HTTPClient: s.calls, BaseEndpoint: s.base("secretsmanager"),
		EndpointOptions: secretsmanager.EndpointResolverOptions{UseDualStackEndpoint: s.dualStack(), UseFIPSEndpoint: s.fips()},
	})
	in := &secretsmanager.GetSecretValueInput{SecretId: &v.ID}
	if v.Stage != "" {
		in.VersionStage = &v.Stage
	}
	if v.Version != "" {
		in.VersionId = &v.Version
	}
	out, err := client.GetSecretValue(ctx, in)
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		return "", absentError{err}
	}
	if err != nil {
		return "", err
	}
	if out.SecretString == nil {
		return "", errNoString
	}
	return *out.SecretString, nil
}

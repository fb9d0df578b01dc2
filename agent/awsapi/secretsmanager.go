package awsapi

import (
	"context"
	"errors"

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
	in := struct {
		ID      string `json:"SecretId"`
		Stage   string `json:"VersionStage,omitempty"`
		Version string `json:"VersionId,omitempty"`
	}{v.ID, v.Stage, v.Version}
	var out struct{ SecretString *string }
	err := s.ask(ctx, query{
		id: "Secrets Manager", service: serviceSecretsManager, target: "secretsmanager", operation: "GetSecretValue",
		region: region, keys: keysOf(keys),
	}, in, &out)
	if refused, ok := errors.AsType[*refusedError](err); ok && refused.code == "ResourceNotFoundException" {
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

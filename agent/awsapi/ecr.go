package awsapi

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/runtime/container"
)

// The answers of ECR that no credentials can be made of, in the words of
// spec/task-engine.md §7.4 up to the image.
var (
	errNoAuthorization  = errors.New("ecr auth: missing AuthorizationData in ECR response")
	errNilAuthorization = errors.New("ecr auth: AuthorizationData is nil")
)

// RegistryToken asks Amazon ECR for credentials for the registry of an account,
// and says when they end. Without keys it asks in the host's name. endpoint, if
// not empty, is where to ask: a URL or a host name.
func (s *Services) RegistryToken(ctx context.Context, keys *credentials.Set, region, registry, endpoint string) (*container.Auth, time.Time, error) {
	options := ecr.Options{
		Region: s.region(region), Credentials: s.cfg.Credentials, HTTPClient: s.calls, BaseEndpoint: s.base("ecr"),
		EndpointOptions: ecr.EndpointResolverOptions{UseDualStackEndpoint: s.dualStack(), UseFIPSEndpoint: s.fips()},
	}
	if keys != nil {
		options.Credentials = keysOf(*keys)
	}
	if endpoint != "" {
		if !strings.Contains(endpoint, "://") {
			endpoint = "https://" + endpoint
		}
		options.BaseEndpoint = &endpoint
	}
	in := &ecr.GetAuthorizationTokenInput{}
	if registry != "" {
		in.RegistryIds = []string{registry} //nolint:staticcheck // Deprecated, and what ECS tells the agent to ask (spec/control-plane.md §7).
	}
	out, err := ecr.New(options).GetAuthorizationToken(ctx, in)
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(out.AuthorizationData) == 0 {
		return nil, time.Time{}, errNoAuthorization
	}
	data := out.AuthorizationData[0]
	if data.AuthorizationToken == nil {
		return nil, time.Time{}, errNilAuthorization
	}
	text, err := base64.StdEncoding.DecodeString(*data.AuthorizationToken)
	if err != nil {
		return nil, time.Time{}, errors.New("ecr auth: the token is not base64") // The text of err could hold a part of it.
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return nil, time.Time{}, errors.New("ecr auth: the token is not user:password")
	}
	return &container.Auth{Username: user, Password: password}, aws.ToTime(data.ExpiresAt), nil
}

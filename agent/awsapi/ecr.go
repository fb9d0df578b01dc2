package awsapi

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

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
// not empty, is where to ask: a URL or a host name. The error matches
// fs.ErrNotExist when the answer holds no credentials.
func (s *Services) RegistryToken(ctx context.Context, keys *credentials.Set, region, registry, endpoint string) (*container.Auth, time.Time, error) {
	if endpoint != "" && !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	var who aws.CredentialsProvider = s.cfg.Credentials
	if keys != nil {
		who = keysOf(*keys)
	}
	var in struct {
		RegistryIDs []string `json:"registryIds,omitempty"`
	}
	if registry != "" {
		in.RegistryIDs = []string{registry}
	}
	var out struct {
		Data []struct {
			Token     *string `json:"authorizationToken"`
			ExpiresAt float64 `json:"expiresAt"`
		} `json:"authorizationData"`
	}
	err := s.ask(ctx, query{
		id: "ECR", service: serviceECR, target: "AmazonEC2ContainerRegistry_V20150921", operation: "GetAuthorizationToken",
		region: region, endpoint: endpoint, keys: who,
	}, in, &out)
	switch {
	case err != nil:
		return nil, time.Time{}, err
	case len(out.Data) == 0:
		return nil, time.Time{}, absentError{errNoAuthorization}
	case out.Data[0].Token == nil:
		return nil, time.Time{}, absentError{errNilAuthorization}
	}
	text, err := base64.StdEncoding.DecodeString(*out.Data[0].Token)
	if err != nil {
		return nil, time.Time{}, errors.New("ecr auth: the token is not base64") // The text of err could hold a part of it.
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return nil, time.Time{}, errors.New("ecr auth: the token is not user:password")
	}
	var ends time.Time
	if at := out.Data[0].ExpiresAt; at > 0 {
		ends = time.Unix(int64(at), 0)
	}
	return &container.Auth{Username: user, Password: password}, ends, nil
}

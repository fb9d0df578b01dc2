package awsapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Signer signs with the host's keys, by Signature Version 4. It takes the keys
// of the moment for each signature, so that they may change under a connection.
// It may be used by many goroutines at once.
type Signer struct {
	credentials *Credentials
	region      string
	service     string
	v4          *v4.Signer
	now         func() time.Time
}

// NewSigner makes a signer for one region and service ("ecs").
func NewSigner(credentials *Credentials, region, service string) *Signer {
	return &Signer{credentials: credentials, region: region, service: service, v4: v4.NewSigner(), now: time.Now}
}

// Credentials are the keys it signs with.
func (s *Signer) Credentials() *Credentials { return s.credentials }

// SignRequest adds Authorization, X-Amz-Date and, with session keys,
// X-Amz-Security-Token to a request whose body is body.
func (s *Signer) SignRequest(ctx context.Context, r *http.Request, body []byte) error {
	keys, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	if err := s.v4.SignHTTP(ctx, keys, r, hash(body), s.service, s.region, s.now()); err != nil {
		return fmt.Errorf("cannot sign request: %w", err)
	}
	return nil
}

// SignUpgrade answers the headers to add to a websocket upgrade of a ws, wss,
// http or https URL (spec/control-plane.md §4.2).
func (s *Signer) SignUpgrade(ctx context.Context, target string) (http.Header, error) {
	r, err := s.get(ctx, target, nil)
	if err != nil {
		return nil, err
	}
	return r.Header, nil
}

// SignFrame answers the header lines of a telemetry frame that carries body over
// the connection to target (spec/control-plane.md §5.2). The content length is
// not signed.
func (s *Signer) SignFrame(ctx context.Context, target string, body []byte) (http.Header, error) {
	r, err := s.get(ctx, target, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Host", r.URL.Host)
	return r.Header, nil
}

// get is a signed GET of the http form of target with no header of its own.
func (s *Signer) get(ctx context.Context, target string, payload []byte) (*http.Request, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	switch u.Scheme {
	case "wss":
		u.Scheme = "https"
	case "ws":
		u.Scheme = "http"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	if err := s.SignRequest(ctx, r, payload); err != nil {
		return nil, err
	}
	return r, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

package awsapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthd/berth/agent/credentials"
)

// How long calls may take, spec/control-plane.md §7: each attempt at a secret or
// a token, and a whole object.
const (
	callTimeout   = 5 * time.Second
	objectTimeout = 30 * time.Second
)

// ServicesConfig says how the services are reached. Only Credentials must be set.
type ServicesConfig struct {
	// Credentials are the host's own, for calls that are made in nobody's name.
	Credentials *Credentials
	// Region is used where a call names none.
	Region string
	// Endpoint replaces the endpoint of a service: "ecr", "s3", "secretsmanager",
	// "ssm". It answers "" for that of AWS; nil always does.
	Endpoint func(service string) string
	// FIPS and DualStack choose among the endpoints of AWS.
	FIPS, DualStack bool
	// Roots are trusted beside TLS's usual ones; nil is those alone.
	Roots *x509.CertPool
	// Proxy is as in http.Transport.
	Proxy func(*http.Request) (*url.URL, error)
}

// Services calls those services that tasks need things from: Parameter Store,
// Secrets Manager, S3 and ECR. Its methods may be called at once. Connections are
// shared, clients are not: each call has its keys, and they may change.
type Services struct {
	cfg     ServicesConfig
	calls   *http.Client
	objects *http.Client
	// transport is that of both.
	transport *http.Transport
}

// NewServices makes the clients; it calls nothing yet.
func NewServices(cfg ServicesConfig) *Services {
	if cfg.Endpoint == nil {
		cfg.Endpoint = func(string) string { return "" }
	}
	transport := &http.Transport{
		Proxy:                 cfg.Proxy,
		DialContext:           (&net.Dialer{Timeout: callTimeout}).DialContext,
		TLSHandshakeTimeout:   callTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		MaxIdleConnsPerHost:   10,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: objectTimeout,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // An object is what it is.
	}
	// Redirects of S3 are not followed: the bucket's region is asked for instead.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Services{
		cfg: cfg, transport: transport,
		calls:   &http.Client{Transport: transport, Timeout: callTimeout, CheckRedirect: stay},
		objects: &http.Client{Transport: transport, Timeout: objectTimeout, CheckRedirect: stay},
	}
}

// Close ends idle connections.
func (s *Services) Close() { s.transport.CloseIdleConnections() }

// Roots are the host's roots and those in a PEM file; "" is nil, the host's alone.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read AWS_CA_BUNDLE: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot use AWS_CA_BUNDLE=%s: it holds no PEM certificate", file)
	}
	return pool, nil
}

// region is the one asked for, or the host's.
func (s *Services) region(asked string) string {
	if asked == "" {
		return s.cfg.Region
	}
	return asked
}

// base is the URL of a service in a region.
func (s *Services) base(service, region string) string {
	if endpoint := s.cfg.Endpoint(service); endpoint != "" {
		return endpoint
	}
	return "https://" + address(service, region, s.cfg.DualStack, s.cfg.FIPS)
}

// keysOf are the keys of a role's set.
func keysOf(set credentials.Set) aws.CredentialsProvider {
	return provider(func(context.Context) (aws.Credentials, error) {
		if set.AccessKeyID == "" {
			return aws.Credentials{}, errors.New("the role has no keys")
		}
		return aws.Credentials{
			AccessKeyID: set.AccessKeyID, SecretAccessKey: set.SecretAccessKey, SessionToken: set.SessionToken, Source: "ECS",
		}, nil
	})
}

// absentError is an answer that says that something does not exist. It reads
// like the error it holds and matches fs.ErrNotExist.
type absentError struct{ error }

// Is matches fs.ErrNotExist.
func (absentError) Is(target error) bool { return target == fs.ErrNotExist }

// Unwrap gives the service's error.
func (e absentError) Unwrap() error { return e.error }

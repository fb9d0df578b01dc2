package awslogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// When keys are renewed before they end, and how often that is tried.
const (
	renewBefore = 5 * time.Minute
	renewEvery  = 10 * time.Second
	fetchLimit  = 64 << 10
)

// keyring gives keys to sign with.
type keyring interface {
	aws.CredentialsProvider
	// Forget says that the keys were not taken.
	Forget()
}

// rings are the keyrings of a host: one for itself, and one for each execution
// role that a container names. It may be used by many goroutines.
type rings struct {
	host  keyring
	fetch func(ctx context.Context, endpoint string) (aws.Credentials, error)

	mu    sync.Mutex // guards roles
	roles map[string]*role
}

// role is the keyring of an execution role, and how many containers use it.
type role struct {
	keyring

	users int
}

// newRings makes the host's keyrings; none asks for anything yet.
func newRings(cfg Config) *rings {
	client := &http.Client{Timeout: dialTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	agent := &http.Client{Timeout: dialTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", cfg.AgentSocket)
		},
	}}
	return &rings{
		host: &cached{ask: cfg.Host.Retrieve}, roles: make(map[string]*role),
		fetch: func(ctx context.Context, endpoint string) (aws.Credentials, error) {
			u, err := url.Parse(endpoint)
			if err == nil && u.Host != "" {
				return fetchKeys(ctx, client, endpoint)
			}
			// A path of the task metadata server, whose last element is the id.
			return fetchKeys(ctx, agent, "http://agent/v1/credentials/"+path.Base(endpoint))
		},
	}
}

// of is the keyring for a value of awslogs-credentials-endpoint, "" for the
// host's, until release is called.
func (r *rings) of(endpoint string) (_ keyring, release func()) {
	if endpoint == "" {
		return r.host, func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is := r.roles[endpoint]
	if is == nil {
		is = &role{keyring: &cached{ask: func(ctx context.Context) (aws.Credentials, error) { return r.fetch(ctx, endpoint) }}}
		r.roles[endpoint] = is
	}
	is.users++
	return is, sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if is.users--; is.users == 0 {
			delete(r.roles, endpoint)
		}
	})
}

// cached keeps keys for as long as they are good. When they cannot be renewed, be
// it that the agent is away, it goes on with those it has.
type cached struct {
	ask func(context.Context) (aws.Credentials, error)

	mu    sync.Mutex // guards what follows; held while asking, so that one caller asks
	keys  aws.Credentials
	asked time.Time
}

var _ keyring = (*cached)(nil)

// Retrieve answers keys that are good now.
func (c *cached) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	good := c.keys.HasKeys() && (!c.keys.CanExpire || now.Before(c.keys.Expires))
	fresh := good && (!c.keys.CanExpire || now.Before(c.keys.Expires.Add(-renewBefore)))
	if fresh || good && now.Before(c.asked.Add(renewEvery)) {
		return c.keys, nil
	}
	keys, err := c.ask(ctx)
	c.asked = now
	if err == nil {
		c.keys = keys
		return keys, nil
	}
	if good {
		return c.keys, nil
	}
	return aws.Credentials{}, err
}

// Forget drops the keys.
func (c *cached) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = aws.Credentials{}
}

// fetchKeys asks for keys as spec/host.md §1.14 has them.
func fetchKeys(ctx context.Context, client *http.Client, from string) (_ aws.Credentials, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot ask for credentials: %w", err)
	}
	response, err := client.Do(r)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot get credentials of the execution role from the agent: %w", errors.Unwrap(err))
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	var body struct {
		AccessKeyID     string    `json:"AccessKeyId"`
		SecretAccessKey string    `json:"SecretAccessKey"`
		Token           string    `json:"Token"`
		Expiration      time.Time `json:"Expiration"`
		Code            string    `json:"code"`
		Message         string    `json:"message"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, fetchLimit)).Decode(&body); err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot read credentials of the execution role: status %d", response.StatusCode)
	}
	if response.StatusCode != http.StatusOK || body.AccessKeyID == "" {
		return aws.Credentials{}, fmt.Errorf("cannot get credentials of the execution role: status %d: %s %s", response.StatusCode, body.Code, body.Message)
	}
	return aws.Credentials{
		AccessKeyID: body.AccessKeyID, SecretAccessKey: body.SecretAccessKey, SessionToken: body.Token,
		CanExpire: !body.Expiration.IsZero(), Expires: body.Expiration, Source: "execution role",
	}, nil
}

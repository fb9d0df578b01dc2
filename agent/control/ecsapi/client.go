package ecsapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/runtime/backoff"
)

// ErrTransient says that doing the same later can help: throttling, trouble of
// the service, or the budget of retries used up. A network that fails is not
// transient in this sense (spec/control-plane.md §1.8).
var ErrTransient = errors.New("transient error of the ECS API")

// Times and numbers of spec/control-plane.md §1.1.
const (
	roundTrip    = 42 * time.Second
	dialTimeout  = 30 * time.Second
	keepAlive    = 30 * time.Second
	tlsHandshake = 10 * time.Second
	attempts     = 3
	longestPause = 20 * time.Second
	firstPause   = time.Second
	bodyLimit    = 8 << 20
)

// Config says how to reach the API.
type Config struct {
	// Endpoint is the address: see the function of that name.
	Endpoint string
	// Sign signs a request with this body; nil signs nothing.
	Sign func(ctx context.Context, r *http.Request, body []byte) error
	// Version and Hash are the agent's, OSFamily is "amzn_2023" or "".
	Version, Hash, OSFamily string
	// Proxy is as in http.Transport (optional).
	Proxy func(*http.Request) (*url.URL, error)
	// Roots are the certificates that servers are trusted by; nil is the host's.
	Roots *x509.CertPool
}

// Client makes calls. It may be used by many goroutines at once.
type Client struct {
	cfg       Config
	userAgent string
	http      *http.Client
	budget    *budget
	// pause is the first pause between two attempts.
	pause time.Duration
}

// New makes a client.
func New(cfg Config) *Client {
	return &Client{
		cfg:       cfg,
		userAgent: userAgent(cfg),
		budget:    &budget{tokens: budgetSize},
		pause:     firstPause,
		http: &http.Client{
			Timeout: roundTrip,
			Transport: &http.Transport{
				Proxy:               cfg.Proxy,
				DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
				TLSHandshakeTimeout: tlsHandshake,
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: 10, // as many as the outbox sends at once
				IdleConnTimeout:     90 * time.Second,
			},
			// The API does not redirect; a signed body must not follow one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// userAgent is of the form that the service's own agent uses, which it may look
// at, with our name behind it.
func userAgent(cfg Config) string {
	os := "linux"
	if cfg.OSFamily != "" {
		os += "; " + cfg.OSFamily
	}
	return fmt.Sprintf("Amazon ECS Agent - v%s (%s) (%s) (+http://aws.amazon.com/ecs/) berth", cfg.Version, cfg.Hash, os)
}

// As is the client that signs so instead, with the same connections and the same
// budget of retries.
func (c *Client) As(sign func(ctx context.Context, r *http.Request, body []byte) error) *Client {
	other := *c
	other.cfg.Sign = sign
	return &other
}

// For is the client that names who it asks for, "container/web", in its user
// agent (spec/control-plane.md §1.1).
func (c *Client) For(who string) *Client {
	other := *c
	other.userAgent += " " + who
	return &other
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call makes one call, with retries.
func call[Response any](ctx context.Context, c *Client, operation string, request any) (*Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", operation, err)
	}
	ladder := backoff.Ladder{First: c.pause, Last: longestPause, Factor: 2, Jitter: 0.2}
	for n := 1; ; n++ {
		answer, err := c.once(ctx, operation, body)
		if err == nil {
			c.budget.success()
			out := new(Response)
			if err := ecs.Decode(answer, out); err != nil {
				return nil, fmt.Errorf("cannot read the answer to %s: %w", operation, err)
			}
			return out, nil
		}
		retry := retryable(err)
		if n == attempts || !retry || ctx.Err() != nil {
			return nil, fmt.Errorf("cannot call %s: %w", operation, err)
		}
		if !c.budget.take(err) {
			return nil, fmt.Errorf("cannot call %s: %w", operation, &exhausted{err})
		}
		if !backoff.Wait(ctx, ladder.Next()) {
			return nil, fmt.Errorf("cannot call %s: %w", operation, errors.Join(context.Cause(ctx), err))
		}
	}
}

// once makes one round trip.
func (c *Client) once(ctx context.Context, operation string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.Endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	r.Header.Set("User-Agent", c.userAgent)
	if c.cfg.Sign != nil {
		if err := c.cfg.Sign(ctx, r, body); err != nil {
			return nil, err
		}
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, &networkError{err}
	}
	defer response.Body.Close() //nolint:errcheck // It was read to its end, or is of no use.
	answer, err := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	if err != nil {
		return nil, &networkError{err}
	}
	if response.StatusCode == http.StatusOK {
		return answer, nil
	}
	return nil, &statusError{
		status: response.StatusCode, request: response.Header.Get(ecs.RequestIDHeader),
		err: ecs.ParseError(response.Header.Get(ecs.ErrorTypeHeader), answer),
	}
}

// networkError is a round trip that did not come about.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// statusError is an answer that is an error.
type statusError struct {
	status  int
	request string
	err     *ecs.Error
}

// Error has the status when the service gave no name to its error.
func (e *statusError) Error() string {
	if e.err.Type == "" {
		return fmt.Sprintf("status %d: %s", e.status, e.err.Message)
	}
	return e.err.Error()
}

// StatusCode is the HTTP status of the answer, and RequestID what the service
// calls the request, for those who do not import this package.
func (e *statusError) StatusCode() int   { return e.status }
func (e *statusError) RequestID() string { return e.request }

// Unwrap gives the service's error.
func (e *statusError) Unwrap() error { return e.err }

// Is makes a statusError match ErrTransient.
func (e *statusError) Is(target error) bool {
	return target == ErrTransient && (throttled(e.err.Type) || e.status >= http.StatusInternalServerError ||
		e.err.Type == ecs.ErrTypeServer || e.err.Type == ecs.ErrTypeLimitExceeded)
}

// Transient is the same as matching ErrTransient, for those who do not import
// this package.
func (e *statusError) Transient() bool { return errors.Is(e, ErrTransient) }

// exhausted is an error that would have been retried.
type exhausted struct{ err error }

func (e *exhausted) Error() string        { return "too many retries: " + e.err.Error() }
func (e *exhausted) Unwrap() error        { return e.err }
func (e *exhausted) Is(target error) bool { return target == ErrTransient }
func (e *exhausted) Transient() bool      { return true }

// retryable says whether the same call may be made again at once.
func retryable(err error) bool {
	if _, ok := errors.AsType[*networkError](err); ok {
		return true
	}
	answer, ok := errors.AsType[*statusError](err)
	if !ok {
		return false
	}
	switch answer.status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return true
	}
	return throttled(answer.err.Type) || strings.HasPrefix(answer.err.Type, "RequestTimeout")
}

func throttled(code string) bool {
	switch code {
	case ecs.ErrTypeThrottling, "Throttling", "ThrottledException", "RequestThrottledException", "RequestThrottled",
		"TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "SlowDown":
		return true
	}
	return false
}

// The budget of retries, spec/control-plane.md §1.1.
const (
	budgetSize    = 500
	costOfRetry   = 5
	costOfTimeout = 10
)

// budget keeps a client from retrying without end when everything fails.
type budget struct {
	mu     sync.Mutex // guards tokens
	tokens int
}

// take pays for a retry after err; false when there is not enough left.
func (b *budget) take(err error) bool {
	cost := costOfRetry
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		cost = costOfTimeout
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < cost {
		return false
	}
	b.tokens -= cost
	return true
}

// success gives some back.
func (b *budget) success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+costOfRetry, budgetSize)
}

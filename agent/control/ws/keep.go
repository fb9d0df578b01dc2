package ws

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

// Service is where a session is kept, and who is told of it.
type Service struct {
	// Endpoint answers the base URL to connect to; it is asked before each
	// connection.
	Endpoint func(ctx context.Context) (string, error)
	// Sign answers headers that sign an upgrade (optional).
	Sign func(ctx context.Context, url string) (http.Header, error)
	// Proxy is as in http.Transport (optional).
	Proxy func(*http.Request) (*url.URL, error)
	// Roots are the certificates that servers are trusted by; nil is the host's.
	Roots *x509.CertPool
	// Connected is told of each change of the connection; why is set when it
	// ended or did not come about (optional).
	Connected func(up bool, why error)
	// Log is told of sessions' beginnings and ends (optional).
	Log *zap.Logger
}

// Keeper keeps a session with a service: after each one that ends it makes
// another. What is not marked optional must be set. Run it once.
type Keeper struct {
	Service

	// Name is what logs and errors call the service.
	Name string
	// Policy says how long to wait between sessions.
	Policy Policy
	// Query answers what follows "/ws?" in the URL of the next connection.
	Query func() url.Values
	// Refusal and CloseWhenIdle are as in Config (optional).
	Refusal       func(body []byte) error
	CloseWhenIdle bool
	// Serve uses a session, which Run connected to url, until it ends, and answers
	// why it did. No session follows before it returns.
	Serve func(ctx context.Context, s *Session, url string) error
	// Rest answers how long to wait after an end that another try soon cannot
	// cure, and has logged it then; 0 leaves both to the keeper (optional).
	Rest func(end error) time.Duration
}

// Run keeps a session until ctx ends, and answers why it did.
func (k *Keeper) Run(ctx context.Context) error {
	if k.Log == nil {
		k.Log = zap.NewNop()
	}
	if k.Connected == nil {
		k.Connected = func(bool, error) {}
	}
	for {
		lived, end := k.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		k.Connected(false, end)
		delay := k.Policy.After(end, lived)
		var rest time.Duration
		if k.Rest != nil {
			rest = k.Rest(end)
		}
		if rest > 0 {
			delay = rest
		} else {
			k.Log.Info("session ended", zap.String("service", k.Name), zap.Duration("lived", lived), zap.Duration("wait", delay), zap.Error(end))
		}
		if !backoff.Wait(ctx, delay) {
			return context.Cause(ctx)
		}
	}
}

// session is one connection from dial to end: how long it was up, and why it
// ended.
func (k *Keeper) session(ctx context.Context) (lived time.Duration, end error) {
	base, err := k.Endpoint(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot discover the %s endpoint: %w", k.Name, err)
	}
	target := strings.TrimSuffix(base, "/") + "/ws?" + k.Query().Encode()
	s, err := Dial(ctx, Config{
		URL: target, Sign: k.Sign, Proxy: k.Proxy, Roots: k.Roots, Refusal: k.Refusal, CloseWhenIdle: k.CloseWhenIdle,
	})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	k.Log.Info("session is up", zap.String("service", k.Name))
	k.Connected(true, nil)
	end = k.Serve(ctx, s, target)
	return time.Since(start), end
}

package daemon

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/resources"
)

// aws is what the agent knows of AWS besides ECS.
type aws struct {
	// keys are the host's own, roles those of the tasks.
	keys  *awsapi.Credentials
	roles *credentials.Store
	proxy func(*http.Request) (*url.URL, error)
	// roots are AWS_CA_BUNDLE beside the host's; nil is the host's alone.
	roots *x509.CertPool
	// services are called for tasks.
	services *awsapi.Services
}

// newAWS reads AWS_CA_BUNDLE, and asks nobody anything yet.
func newAWS(c *config.Config, metadata *awsapi.Metadata) (*aws, error) {
	roots, err := awsapi.Roots(c.AWS.CABundle)
	if err != nil {
		return nil, &TerminalError{Err: err}
	}
	a := &aws{
		keys:  HostCredentials(c, metadata),
		roles: credentials.New(),
		proxy: Proxy(c),
		roots: roots,
	}
	a.services = awsapi.NewServices(awsapi.ServicesConfig{
		Credentials: a.keys, Region: c.Region, Endpoint: c.AWS.Endpoints.Of, FIPS: c.AWS.FIPS,
		DualStack: c.AWS.DualStack || c.IPCompatibility == "ipv6", Roots: roots, Proxy: a.proxy,
	})
	return a, nil
}

// HostCredentials are the host's own keys, as the settings have them.
func HostCredentials(c *config.Config, metadata *awsapi.Metadata) *awsapi.Credentials {
	return awsapi.NewCredentials(awsapi.CredentialsConfig{
		AccessKeyID: c.AWS.AccessKeyID.Reveal(), SecretAccessKey: c.AWS.SecretAccessKey.Reveal(), SessionToken: c.AWS.SessionToken.Reveal(),
		Profile: c.AWS.Profile, SharedFile: c.AWS.SharedCredentialsFile, External: c.External, Metadata: metadata,
		RotatingProfile: c.AWS.Profile,
	})
}

// expect tells the store of role credentials which ones the restored tasks had:
// ECS sends them again when it is connected.
func (a *aws) expect(tasks []engine.Task) {
	for _, t := range tasks {
		d := &t.State.Definition
		if d.RoleID != "" && t.State.StoppedAt.IsZero() {
			a.roles.Expect(d.ARN, credentials.Application, d.RoleID)
		}
		if d.ExecutionRoleID != "" {
			a.roles.Expect(d.ARN, credentials.Execution, d.ExecutionRoleID)
		}
	}
}

// Proxy is the proxy that the settings name; instance metadata never goes
// through it.
func Proxy(c *config.Config) func(*http.Request) (*url.URL, error) {
	p := c.Proxy
	no := p.No
	if no == "" {
		no = "169.254.169.254,169.254.170.2"
	}
	f := (&httpproxy.Config{HTTPProxy: p.HTTP, HTTPSProxy: p.HTTPS, NoProxy: no}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return f(r.URL) }
}

// secretsManager is awsapi's in the words of agent/resources.
type secretsManager struct{ *awsapi.Services }

var _ resources.SecretsManager = secretsManager{}

// SecretValue is the text of a secret.
func (s secretsManager) SecretValue(ctx context.Context, keys credentials.Set, v resources.SecretVersion) (string, error) {
	return s.Services.SecretValue(ctx, keys, v.Region, awsapi.SecretVersion{ID: v.ID, Stage: v.Stage, Version: v.Version})
}

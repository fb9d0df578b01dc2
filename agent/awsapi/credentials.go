package awsapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
)

// RotatingFile is where keys are found that something else renews: on an
// external host the SSM agent.
const RotatingFile = "/rotatingcreds/credentials"

// rotatingAge is how long keys from the rotating file are used before it is
// read again.
const rotatingAge = time.Minute

// expiryWindow is how long before their end cached keys are renewed.
const expiryWindow = time.Minute

// CredentialsConfig says where keys may come from. The zero value is the SDK's
// default chain without a metadata service.
type CredentialsConfig struct {
	// AccessKeyID, SecretAccessKey and SessionToken come first when set.
	AccessKeyID, SecretAccessKey, SessionToken string
	// Profile and SharedFile choose among shared credentials; empty is the SDK's
	// default.
	Profile, SharedFile string
	// RotatingFile ("" is the constant RotatingFile) and RotatingProfile ("" is
	// "default").
	RotatingFile, RotatingProfile string
	// External puts the rotating file before the shared one.
	External bool
	// Metadata gives the keys of the instance's role; nil when there is none.
	Metadata *Metadata
}

// Credentials are the host's own keys, by the order of spec/control-plane.md
// §1.3, cached until they expire. It may be used by many goroutines at once.
type Credentials struct{ cache *aws.CredentialsCache }

// NewCredentials makes the chain; it does not look for keys yet.
func NewCredentials(cfg CredentialsConfig) *Credentials {
	file, profile := cfg.RotatingFile, cfg.RotatingProfile
	if file == "" {
		file = RotatingFile
	}
	if profile == "" {
		profile = config.DefaultSharedConfigProfile
	}
	rotating := fileProvider(file, profile)
	var links chain
	if cfg.AccessKeyID != "" {
		links = append(links, credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken))
	}
	shared := sharedProvider(cfg)
	if cfg.External {
		links = append(links, rotating, shared)
	} else {
		links = append(links, shared)
	}
	if cfg.Metadata != nil {
		links = append(links, cfg.Metadata.role())
	}
	if !cfg.External {
		links = append(links, rotating)
	}
	return &Credentials{aws.NewCredentialsCache(links, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = expiryWindow
	})}
}

// Retrieve answers keys that are good now.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := c.cache.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot find AWS credentials of this host: %w", err)
	}
	return keys, nil
}

// Invalidate drops the cached keys.
func (c *Credentials) Invalidate() { c.cache.Invalidate() }

// provider is a function that is an aws.CredentialsProvider.
type provider func(ctx context.Context) (aws.Credentials, error)

// Retrieve calls the function.
func (p provider) Retrieve(ctx context.Context) (aws.Credentials, error) { return p(ctx) }

// chain asks one provider after the other; the first that has keys wins.
type chain []aws.CredentialsProvider

// Retrieve answers the first keys there are, or every reason why there are none.
func (c chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	var all []error
	for _, p := range c {
		keys, err := p.Retrieve(ctx)
		if err == nil {
			return keys, nil
		}
		all = append(all, err)
	}
	return aws.Credentials{}, errors.Join(all...)
}

// sharedProvider is the SDK's default chain (environment, shared files, single
// sign-on, web identity …) without the instance role, which has a link of its
// own because it must not be waited for off EC2.
func sharedProvider(cfg CredentialsConfig) provider {
	return func(ctx context.Context) (aws.Credentials, error) {
		options := []func(*config.LoadOptions) error{
			config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = noRole{} }),
		}
		if cfg.Profile != "" {
			options = append(options, config.WithSharedConfigProfile(cfg.Profile))
		}
		if cfg.SharedFile != "" {
			options = append(options, config.WithSharedCredentialsFiles([]string{cfg.SharedFile}))
		}
		loaded, err := config.LoadDefaultConfig(ctx, options...)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("cannot load shared AWS configuration: %w", err)
		}
		return loaded.Credentials.Retrieve(ctx)
	}
}

// fileProvider reads one credentials file anew each minute.
func fileProvider(path, profile string) provider {
	return func(ctx context.Context) (aws.Credentials, error) {
		shared, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
			o.CredentialsFiles = []string{path}
			o.ConfigFiles = []string{}
		})
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("cannot read credentials file %s: %w", path, err)
		}
		keys := shared.Credentials
		if !keys.HasKeys() {
			return aws.Credentials{}, fmt.Errorf("cannot read credentials file %s: profile %s has no keys", path, profile)
		}
		keys.CanExpire = true
		keys.Expires = time.Now().Add(rotatingAge + expiryWindow)
		return keys, nil
	}
}

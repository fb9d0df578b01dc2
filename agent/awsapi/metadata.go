package awsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
)

// The errors of Metadata.
var (
	// ErrNoMetadata: there is no instance metadata service here.
	ErrNoMetadata = errors.New("no instance metadata service")
	// ErrNotSet: the service is there and knows no such value.
	ErrNotSet = errors.New("not set in instance metadata")
)

// How long the service is waited for. A host that looks like EC2 gets the long
// time, because its network may only be coming up.
const (
	dialTimeout  = time.Second
	knockTimeout = 500 * time.Millisecond
	probeTimeout = 2 * time.Second
	fetchTimeout = 30 * time.Second
	retryFirst   = 100 * time.Millisecond
	retryLast    = 5 * time.Second
	// reprobe is how long a host that looks like EC2 believes that there is no
	// service: it may only be slow to come up, and nobody starts the agent again.
	reprobe = time.Minute
)

// MetadataConfig says where the instance metadata service is.
type MetadataConfig struct {
	// Endpoint replaces http://169.254.169.254.
	Endpoint string
	// Disabled answers ErrNoMetadata to everything.
	Disabled bool
	// DMI is the directory that tells an EC2 host by its hardware; "" is
	// /sys/class/dmi/id.
	DMI string
	Log *zap.Logger
}

// Metadata asks the instance metadata service (version 2, with fall-back). Its
// methods may be called at once.
type Metadata struct {
	cfg    MetadataConfig
	client *imds.Client

	mu sync.Mutex // guards what follows; held while probing, so that one caller probes
	// state is whether the service answered, and asked when it was tried last.
	state presence
	asked time.Time
	// told says that its absence was logged.
	told bool
}

// presence is what is known about the service.
type presence string

const (
	unknown presence = ""
	present presence = "present"
	absent  presence = "absent"
)

// NewMetadata makes a client; it asks nothing yet.
func NewMetadata(cfg MetadataConfig) *Metadata {
	if cfg.DMI == "" {
		cfg.DMI = "/sys/class/dmi/id"
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	options := imds.Options{
		Endpoint: cfg.Endpoint,
		// Never through a proxy: the service is a neighbour.
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConns:        2,
			MaxIdleConnsPerHost: 2,
			IdleConnTimeout:     10 * time.Second,
		}},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 2 }),
	}
	if cfg.Disabled {
		options.ClientEnableState = imds.ClientDisabled
	}
	m := &Metadata{cfg: cfg, client: imds.New(options)}
	if cfg.Disabled {
		m.state = absent
	}
	return m
}

// Available says whether there is a metadata service. The first call finds out;
// a host that does not look like EC2 and cannot connect gives up after
// half a second.
func (m *Metadata) Available(ctx context.Context) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := probeTimeout
	switch {
	case m.state == absent && m.MayAppear() && time.Since(m.asked) >= reprobe:
	case m.state != unknown:
		return m.state == present
	case m.MayAppear():
		limit = fetchTimeout
	}
	var err error
	if !m.MayAppear() {
		err = m.knock(ctx)
	}
	defer func() { m.asked = time.Now() }()
	if err == nil {
		_, err = m.retry(ctx, limit, func(ctx context.Context) (string, error) {
			id, err := m.metadata(ctx, "instance-id")
			if errors.Is(err, ErrNotSet) {
				return "", nil // somebody answers
			}
			return id, err
		})
	}
	switch {
	case err == nil:
		m.state = present
	case ctx.Err() != nil:
		return false // the caller gave up; nothing was learnt
	default:
		m.state = absent
		if !m.told {
			m.told = true
			m.cfg.Log.Info("no instance metadata service; going on with the settings given", zap.Error(err))
		}
	}
	return m.state == present
}

// MayAppear says that this is an EC2 host, by its hardware, whose metadata
// service is not disabled: where it does not answer now it may answer later.
func (m *Metadata) MayAppear() bool { return !m.cfg.Disabled && m.looksLikeEC2() }

// knock connects to the service, once and not for long: a host that does not
// look like EC2 must not wait for what is most likely not there.
func (m *Metadata) knock(ctx context.Context) error {
	address := "169.254.169.254:80"
	if m.cfg.Endpoint != "" {
		u, err := url.Parse(m.cfg.Endpoint)
		if err != nil {
			return fmt.Errorf("cannot read AWS_EC2_METADATA_SERVICE_ENDPOINT: %w", err)
		}
		if address = u.Host; u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "80")
		}
	}
	conn, err := (&net.Dialer{Timeout: knockTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot reach instance metadata: %w", err)
	}
	return conn.Close()
}

// looksLikeEC2 reads what the hardware says of itself.
func (m *Metadata) looksLikeEC2() bool {
	for _, name := range []string{"sys_vendor", "bios_vendor", "board_vendor"} {
		text, err := os.ReadFile(m.cfg.DMI + "/" + name)
		if err == nil && strings.Contains(string(text), "Amazon EC2") {
			return true
		}
	}
	return false
}

// Get is the value of a path below latest/meta-data. The error matches ErrNotSet
// or ErrNoMetadata.
func (m *Metadata) Get(ctx context.Context, path string) (string, error) {
	if !m.Available(ctx) {
		return "", m.unavailable(ctx)
	}
	return m.retry(ctx, fetchTimeout, func(ctx context.Context) (string, error) { return m.metadata(ctx, path) })
}

// unavailable is the reason why nothing can be asked.
func (m *Metadata) unavailable(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cannot ask instance metadata: %w", err)
	}
	return ErrNoMetadata
}

func (m *Metadata) metadata(ctx context.Context, path string) (string, error) {
	out, err := m.client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", metadataError(path, err)
	}
	return readAll(path, out.Content)
}

func (m *Metadata) dynamic(path string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		out, err := m.client.GetDynamicData(ctx, &imds.GetDynamicDataInput{Path: path})
		if err != nil {
			return "", metadataError(path, err)
		}
		return readAll(path, out.Content)
	}
}

func readAll(path string, r io.ReadCloser) (string, error) {
	defer r.Close() //nolint:errcheck // It was read to its end.
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return "", fmt.Errorf("cannot read instance metadata %s: %w", path, err)
	}
	return string(b), nil
}

func metadataError(path string, err error) error {
	var status interface{ HTTPStatusCode() int }
	if errors.As(err, &status) && status.HTTPStatusCode() == http.StatusNotFound {
		return fmt.Errorf("%s: %w", path, ErrNotSet)
	}
	return fmt.Errorf("cannot ask instance metadata %s: %w", path, err)
}

// Document is the instance identity document, byte for byte.
func (m *Metadata) Document(ctx context.Context) (string, error) {
	return m.identity(ctx, "instance-identity/document")
}

// Signature is the document's signature, base64 as served.
func (m *Metadata) Signature(ctx context.Context) (string, error) {
	return m.identity(ctx, "instance-identity/signature")
}

func (m *Metadata) identity(ctx context.Context, path string) (string, error) {
	if !m.Available(ctx) {
		return "", m.unavailable(ctx)
	}
	return m.retry(ctx, fetchTimeout, m.dynamic(path))
}

// UserData is the instance's user data.
func (m *Metadata) UserData(ctx context.Context) (string, error) {
	if !m.Available(ctx) {
		return "", m.unavailable(ctx)
	}
	return m.retry(ctx, fetchTimeout, func(ctx context.Context) (string, error) {
		out, err := m.client.GetUserData(ctx, &imds.GetUserDataInput{})
		if err != nil {
			return "", metadataError("user-data", err)
		}
		return readAll("user-data", out.Content)
	})
}

// InstanceID is the instance's id.
func (m *Metadata) InstanceID(ctx context.Context) (string, error) { return m.Get(ctx, "instance-id") }

// Region is the instance's region.
func (m *Metadata) Region(ctx context.Context) (string, error) { return m.Get(ctx, "placement/region") }

// VPC is the VPC and the subnet of the instance's primary interface.
func (m *Metadata) VPC(ctx context.Context) (vpc, subnet string, err error) {
	mac, err := m.Get(ctx, "mac")
	if err != nil {
		return "", "", err
	}
	base := "network/interfaces/macs/" + strings.TrimSpace(mac) + "/"
	if vpc, err = m.Get(ctx, base+"vpc-id"); err != nil {
		return "", "", err
	}
	subnet, err = m.Get(ctx, base+"subnet-id")
	return vpc, subnet, err
}

// retry calls f until it answers, says ErrNotSet, or the time is up.
func (m *Metadata) retry(ctx context.Context, limit time.Duration, f func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrNoMetadata)
	defer cancel()
	for delay := retryFirst; ; delay = min(2*delay, retryLast) {
		v, err := f(ctx)
		if err == nil || errors.Is(err, ErrNotSet) {
			return v, err
		}
		if !backoff.Wait(ctx, backoff.Jittered(delay, delay/5)) {
			return "", err
		}
	}
}

// role gives the keys of the instance's role.
func (m *Metadata) role() aws.CredentialsProvider {
	role := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = m.client })
	return provider(func(ctx context.Context) (aws.Credentials, error) {
		if !m.Available(ctx) {
			return aws.Credentials{}, m.unavailable(ctx)
		}
		return role.Retrieve(ctx)
	})
}

// noRole stands where the SDK's default chain would ask the metadata service.
type noRole struct{}

// GetMetadata answers that there is none.
func (noRole) GetMetadata(context.Context, *imds.GetMetadataInput, ...func(*imds.Options)) (*imds.GetMetadataOutput, error) {
	return nil, ErrNoMetadata
}

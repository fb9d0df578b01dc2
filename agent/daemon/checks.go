package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/network"
)

// The outcomes of a check, as berth doctor prints them.
const (
	checkOK   = "OK"
	checkWarn = "WARN"
	checkFail = "FAIL"
)

const (
	// probeFor is how long a container of a check waits for an answer, and probeOnce how long one try may take: the first
	// packet of a link that has just been made is lost, and TCP sends it again after a second.
	probeFor  = 3 * time.Second
	probeOnce = 400 * time.Millisecond
	// metadataEndpoint is where containers ask the agent, and instanceEndpoint where they would ask EC2.
	metadataEndpoint = "169.254.170.2:80"
	instanceEndpoint = "http://169.254.169.254"
)

// errSilent is why a container of a check has given up.
var errSilent = errors.New("no answer")

// selfTest looks whether containers reach what they need, from where they are:
// for berth doctor. Its method may be called at once.
type selfTest struct {
	// probe has ask connect as a container of a mode does, and problems are what
	// is wrong with the host's network.
	probe    func(ctx context.Context, way network.Way, ask func(network.Dial) error) error
	problems func(ctx context.Context) ([]network.Problem, error)
	// ways are the modes that the host offers, hostAddress where those in host mode
	// ask the agent.
	ways        []network.Way
	hostAddress string
	// instance says whether there is instance metadata, and where if not where it
	// always is; blocked is the setting that closes it to containers.
	instance func(ctx context.Context) (available bool, endpoint string)
	blocked  string

	mu sync.Mutex // one at a time: what a probe makes has one name
}

// newSelfTest looks at the host of an agent.
func newSelfTest(a *agent) *selfTest {
	c := &a.options.Config
	s := &selfTest{
		problems: a.host.network.Check, ways: []network.Way{network.FromHost, network.FromBridge}, hostAddress: metadataEndpoint,
		instance: func(ctx context.Context) (bool, string) { return a.metadata.Available(ctx), c.AWS.MetadataEndpoint },
		probe: func(ctx context.Context, way network.Way, ask func(network.Dial) error) error {
			id, leases := "doctor-"+string(way), a.host.leases
			if way == network.FromAWSVPC {
				leases = a.host.linkLocal
			}
			if way == network.FromHost {
				return a.host.network.Probe(ctx, way, ipam.Endpoint{}, ask)
			}
			addresses, err := leases.Lease(id)
			if err != nil {
				return fmt.Errorf("cannot look from a container's place: %w", err)
			}
			defer leases.Release(id)
			return a.host.network.Probe(ctx, way, ipam.Endpoint{ID: id, Addresses: addresses}, ask)
		},
	}
	if c.Network.TaskENI {
		s.ways = append(s.ways, network.FromAWSVPC)
	}
	if address := a.host.metadata.forHostMode(); address != "" {
		s.hostAddress = address
	}
	if c.Network.BlockIMDS {
		s.blocked = "BERTH_BLOCK_IMDS"
	}
	return s
}

// look makes all checks.
func (s *selfTest) look(ctx context.Context) []hostapi.CheckView {
	s.mu.Lock()
	defer s.mu.Unlock()
	problems, err := s.problems(ctx)
	var out []hostapi.CheckView
	if err != nil {
		out = append(out, hostapi.CheckView{Check: "network", Status: checkWarn, Why: err.Error()})
	}
	var hints []string
	for _, p := range problems {
		switch p.Harm {
		case network.Proven:
			out = append(out, hostapi.CheckView{Check: "network", Status: checkFail, Why: sentence(p.What), Mend: p.Hint})
		case network.Possible:
			out = append(out, hostapi.CheckView{Check: "network", Status: checkWarn, Why: sentence(p.What), Mend: p.Hint})
		case network.Probable:
			hints = append(hints, p.What+" "+p.Hint)
		}
	}
	for _, way := range s.ways {
		out = append(out, s.metadata(ctx, way, hints))
	}
	return append(out, s.instanceMetadata(ctx))
}

// sentence is a text without its full stop: others follow it.
func sentence(text string) string { return strings.TrimSuffix(text, ".") }

// metadata looks whether containers of a network mode reach the agent, which
// has their credentials.
func (s *selfTest) metadata(ctx context.Context, way network.Way, hints []string) hostapi.CheckView {
	v := hostapi.CheckView{Check: "metadata, " + string(way) + " mode", Status: checkOK}
	address := metadataEndpoint
	if way == network.FromHost {
		address = s.hostAddress
	}
	err := s.probe(ctx, way, func(dial network.Dial) error {
		_, err := persist(ctx, dial, http.MethodGet, "http://"+address+"/")
		return err
	})
	if err == nil {
		v.Why = "containers reach credentials and metadata at " + address
		return v
	}
	v.Status, v.Why = checkFail, fmt.Sprintf("containers do not reach credentials and metadata at %s: %v", address, err)
	if v.Mend = strings.Join(hints, " "); v.Mend == "" {
		v.Mend = "look for a firewall that drops what comes from berth0 (nft list ruleset), and in journalctl -u berth for what keeps the agent from listening"
	}
	return v
}

// instanceMetadata says what EC2's own metadata service answers whom.
func (s *selfTest) instanceMetadata(ctx context.Context) hostapi.CheckView {
	v := hostapi.CheckView{Check: "instance metadata", Status: checkOK}
	available, endpoint := s.instance(ctx)
	if !available {
		v.Why = "there is none, or it is not to be asked: the settings say all"
		return v
	}
	moved := endpoint != ""
	if !moved {
		endpoint = instanceEndpoint
	}
	token, without := http.StatusOK, http.StatusUnauthorized
	err := s.probe(ctx, network.FromHost, func(dial network.Dial) (err error) {
		if token, err = persist(ctx, dial, http.MethodPut, endpoint+"/latest/api/token"); err == nil {
			without, err = persist(ctx, dial, http.MethodGet, endpoint+"/latest/meta-data/")
		}
		return err
	})
	switch {
	case err != nil:
		v.Status, v.Why = checkWarn, "it does not answer: "+err.Error()
		v.Mend = "without it the host has no role: see whether anything on the host drops 169.254.169.254"
		return v
	case without == http.StatusOK:
		v.Status, v.Why = checkWarn, "answers without a token, too (IMDSv1): a server that can be made to fetch a page has the host's role"
		v.Mend = "aws ec2 modify-instance-metadata-options --http-tokens required --instance-id INSTANCE"
	case token != http.StatusOK:
		v.Status, v.Why = checkWarn, fmt.Sprintf("gives no token (status %d)", token)
	default:
		v.Why = "a token is required (IMDSv2)"
	}
	v.Why += "; " + s.instanceFromBridge(ctx, moved, endpoint)
	return v
}

// instanceFromBridge says whether containers in bridge mode reach it: each hop
// on the way to them counts against the answer's hop limit, which is 1 unless
// somebody asked for more. Either may be meant; what follows is said.
func (s *selfTest) instanceFromBridge(ctx context.Context, moved bool, endpoint string) string {
	switch {
	case s.blocked != "":
		return "closed to containers (" + s.blocked + ")"
	case moved:
		return "it is not where containers look for it"
	}
	err := s.probe(ctx, network.FromBridge, func(dial network.Dial) error {
		_, err := persist(ctx, dial, http.MethodPut, endpoint+"/latest/api/token")
		return err
	})
	if err == nil {
		return "containers in bridge mode reach it, and the host's role: BERTH_BLOCK_IMDS=true, or a hop limit of 1, closes it to them"
	}
	return "containers in bridge mode do not reach it, as with a hop limit of 1 (for those that need it: aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)"
}

// persist asks until there is an answer, whatever it says, and answers its
// status.
func persist(ctx context.Context, dial network.Dial, method, url string) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeFor, errSilent)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeoutCause(ctx, probeOnce, errSilent)
			defer cancel()
			return dial(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	for {
		status, again := askOnce(ctx, transport, method, url)
		if again == nil {
			return status, nil
		}
		if err == nil || ctx.Err() == nil {
			err = again // What the end of the time cut off says less than what came before.
		}
		if !backoff.Wait(ctx, 20*time.Millisecond) {
			return 0, err
		}
	}
}

// askOnce makes one request.
func askOnce(ctx context.Context, transport http.RoundTripper, method, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("cannot ask: %w", err)
	}
	if method == http.MethodPut {
		req.Header.Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, fmt.Errorf("cannot ask: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("cannot read the answer: %w", err)
	}
	return resp.StatusCode, nil
}

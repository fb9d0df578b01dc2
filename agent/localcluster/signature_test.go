package localcluster_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/agent/wire/tcs"
)

const secret = "local-secret"

// signed is a DescribeClusters call with a signature.
func signed(t *testing.T, s *localcluster.Server, creds aws.Credentials, region string, when time.Time) *http.Request {
	t.Helper()
	body := []byte(`{}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+ecs.OpDescribeClusters)
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), ecs.SigningName, region, when); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSignatures: with keys set, only what is signed with them goes through.
func TestSignatures(t *testing.T) {
	s, _ := start(t, localcluster.Config{AccessKey: "AKIDLOCAL", SecretKey: secret})
	good := aws.Credentials{AccessKeyID: "AKIDLOCAL", SecretAccessKey: secret}
	token := good
	token.SessionToken = "with+/chars=="
	for _, creds := range []aws.Credentials{good, token} {
		if _, err := answer[ecs.DescribeClustersResponse](t, signed(t, s, creds, "us-east-1", time.Now())); err != nil {
			t.Errorf("a good signature: %v", err)
		}
	}
	bad := good
	bad.SecretAccessKey = "other"
	stranger := good
	stranger.AccessKeyID = "AKIDOTHER"
	tampered := signed(t, s, good, "us-east-1", time.Now())
	tampered.Header.Set(ecs.TargetHeader, ecs.Target+ecs.OpListClusters)
	unsigned := signed(t, s, good, "us-east-1", time.Now())
	unsigned.Header.Del("Authorization")
	for name, tc := range map[string]struct {
		r    *http.Request
		want string
	}{
		"wrong secret":   {signed(t, s, bad, "us-east-1", time.Now()), ecs.ErrTypeInvalidSignature},
		"unknown key":    {signed(t, s, stranger, "us-east-1", time.Now()), ecs.ErrTypeUnrecognizedClient},
		"other region":   {signed(t, s, good, "eu-west-1", time.Now()), ecs.ErrTypeInvalidSignature},
		"too old":        {signed(t, s, good, "us-east-1", time.Now().Add(-time.Hour)), ecs.ErrTypeInvalidSignature},
		"changed header": {tampered, ecs.ErrTypeInvalidSignature},
		"no signature":   {unsigned, ecs.ErrTypeMissingAuthenticationToken},
	} {
		if _, err := answer[ecs.DescribeClustersResponse](t, tc.r); !errors.Is(err, &ecs.Error{Type: tc.want}) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

// sign puts a signature on a request as spec control-plane §4.2 and §5.2 say.
func sign(t *testing.T, r *http.Request, body []byte, creds aws.Credentials) {
	t.Helper()
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), ecs.SigningName, "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
}

// dialSigned opens a websocket with a signed upgrade.
func dialSigned(t *testing.T, address string, creds aws.Credentials) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, r, nil, creds)
	return websocket.Dial(t.Context(), address, &websocket.DialOptions{HTTPHeader: r.Header})
}

// TestSignedSession is an agent that signs all it does, with session credentials:
// the registration, both upgrades (a space in the query is + on the wire and %20
// in the signature), and each telemetry frame.
func TestSignedSession(t *testing.T) {
	s, _ := start(t, localcluster.Config{AccessKey: "AKIDLOCAL", SecretKey: secret})
	good := aws.Credentials{AccessKeyID: "AKIDLOCAL", SecretAccessKey: secret, SessionToken: "token+/="}
	bad := good
	bad.SecretAccessKey = "other"

	body, err := json.Marshal(registration())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(ecs.TargetHeader, ecs.Target+ecs.OpRegisterContainerInstance)
	sign(t, r, body, good)
	registered, err := answer[ecs.RegisterContainerInstanceResponse](t, r)
	if err != nil {
		t.Fatal(err)
	}
	a := &standIn{t: t, s: s, arn: registered.ContainerInstance.ContainerInstanceARN}

	address := s.URL() + "/acs/ws?" + a.query().Encode()
	if conn, resp, err := dialSigned(t, address, bad); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a badly signed upgrade: %v, %v", conn, err)
	}
	if a.conn, _, err = dialSigned(t, address, good); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.conn.CloseNow() }()
	expect[*acs.TaskManifestMessage](a)

	query := url.Values{"agentHash": {"0f"}, "agentVersion": {"1.105.1"}, "cluster": {"default"}, "containerInstance": {a.arn}}
	telemetry := s.URL() + "/tcs/ws?" + query.Encode()
	conn, _, err := dialSigned(t, telemetry, good)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	publish := func(creds aws.Credentials) string {
		t.Helper()
		message, err := tcs.Encode(&tcs.PublishMetricsRequest{Metadata: tcs.MetricsMetadata{Idle: true, Fin: true}})
		if err != nil {
			t.Fatal(err)
		}
		frame, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(telemetry, "http:", "https:", 1), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		sign(t, frame, message, creds)
		frame.Header.Set("Host", frame.URL.Host)
		if err := conn.Write(t.Context(), websocket.MessageText, tcs.EncodeFrame(frame.Header, message)); err != nil {
			t.Fatal(err)
		}
		_, text, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := publish(good); !strings.Contains(got, tcs.TypeAckMetric) {
		t.Errorf("a signed frame: %s", got)
	}
	if got := publish(bad); !strings.Contains(got, tcs.AccessDeniedException) {
		t.Errorf("a badly signed frame: %s", got)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("after a badly signed frame: %v", err)
	}
}

// TestRoleCredentialsSign: calls signed with credentials that a task was given are
// believed, as for GetTaskProtection from inside of a task.
func TestRoleCredentialsSign(t *testing.T) {
	conf := localcluster.Config{AccessKey: "AKIDLOCAL", SecretKey: secret}
	s, _ := start(t, conf)
	stranger := aws.Credentials{AccessKeyID: "ASIAMADEUP", SecretAccessKey: "x", SessionToken: "y"}
	if _, err := answer[ecs.DescribeClustersResponse](t, signed(t, s, stranger, "us-east-1", time.Now())); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeUnrecognizedClient}) {
		t.Errorf("keys that nobody vended: %v", err)
	}
	vended := localcluster.Vend(s, "id", "arn:aws:iam::000000000000:role/task")
	creds := aws.Credentials{AccessKeyID: vended.AccessKeyID, SecretAccessKey: vended.SecretAccessKey, SessionToken: vended.SessionToken}
	if _, err := answer[ecs.DescribeClustersResponse](t, signed(t, s, creds, "us-east-1", time.Now())); err != nil {
		t.Errorf("vended keys: %v", err)
	}
}

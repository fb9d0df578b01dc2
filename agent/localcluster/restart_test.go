package localcluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/ecs"
)

// postFault sets faults over HTTP.
func postFault(t *testing.T, s *localcluster.Server, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/_berth/faults", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answer[localcluster.Faults](t, r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
}

// TestRestart stops the server with a task running and an instance connected, and
// demands the same cluster from the next one.
func TestRestart(t *testing.T) {
	conf := localcluster.Config{StateFile: filepath.Join(t.TempDir(), "state", "cluster.json")}
	s, stop := start(t, conf)
	a := register(t, s).connect()
	web(t, s, nil)
	arn := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"})
	p := a.payload()
	a.submit(arn, "RUNNING", ecs.ContainerStateChange{ContainerName: "web", RuntimeID: "r1"})
	before, host := describe(t, s, arn), a.instance()
	stop()

	s, _ = start(t, conf)
	a.s = s
	after, hostAfter := describe(t, s, arn), a.instance()
	before.Connectivity, after.Connectivity = "", ""
	before.ConnectivityAt, after.ConnectivityAt = ecs.Timestamp{}, ecs.Timestamp{}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the task changed (-before +after):\n%s", diff)
	}
	host.AgentConnected = false
	if diff := cmp.Diff(host, hostAfter); diff != "" {
		t.Errorf("the instance changed (-before +after):\n%s", diff)
	}
	if again := runOne(t, s, ecs.RunTaskRequest{ClientToken: "once"}); again != arn {
		t.Error("the client token was forgotten")
	}
	in := registration()
	in.ContainerInstanceARN = a.arn
	if out := must[ecs.RegisterContainerInstanceResponse](t, s, ecs.OpRegisterContainerInstance, in); out.ContainerInstance.ContainerInstanceARN != a.arn || out.ContainerInstance.RunningTasksCount != 1 {
		t.Errorf("registered again as %+v", out.ContainerInstance)
	}
	a.connect()
	if again := a.payload(); again.Tasks[0].ARN != arn || again.SeqNum <= p.SeqNum {
		t.Errorf("payload after the restart: %+v", again)
	}
	if info, err := os.Stat(conf.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v", info, err)
	}
}

func TestBrokenStateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json")
	if err := os.WriteFile(file, []byte(`{"tasks":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localcluster.New(localcluster.Config{StateFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

// TestStateCannotBeKept: what is not on disk is not answered as done.
func TestStateCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	s, stop := start(t, localcluster.Config{StateFile: filepath.Join(dir, "cluster.json")})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := call[ecs.CreateClusterResponse](t, s, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: "x"}); !errors.Is(err, &ecs.Error{Type: ecs.ErrTypeServer}) {
		t.Errorf("got %v", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must[ecs.CreateClusterResponse](t, s, ecs.OpCreateCluster, ecs.CreateClusterRequest{ClusterName: "y"})
	stop()
}

func TestRegistryRestart(t *testing.T) {
	conf := localcluster.Config{RegistryDir: t.TempDir()}
	s, stop := start(t, conf)
	image, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(512, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	old, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref := func(s *localcluster.Server, text string) name.Reference {
		t.Helper()
		r, err := name.ParseReference(s.Addr() + "/" + text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, err := range []error{
		remote.Write(ref(s, "team/web:1"), old), remote.Write(ref(s, "team/web:1"), image),
		remote.WriteIndex(ref(s, "multi:1"), index),
		remote.Write(ref(s, "team/gone:1"), image), remote.Delete(ref(s, "team/gone:1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	s, _ = start(t, conf)
	got, err := remote.Image(ref(s, "team/web:1"))
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := got.Digest()
	if want, _ := image.Digest(); digest != want {
		t.Errorf("digest %s, want %s", digest, want)
	}
	layers, err := got.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("layers: %d, %v", len(layers), err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(content); err != nil || raw.Len() == 0 {
		t.Errorf("layer: %d bytes, %v", raw.Len(), err)
	}
	oldDigest, _ := old.Digest()
	if _, err := remote.Image(ref(s, "team/web@"+oldDigest.String())); err != nil {
		t.Errorf("an image whose tag moved on is lost: %v", err)
	}
	if _, err := remote.Index(ref(s, "multi:1")); err != nil {
		t.Errorf("index: %v", err)
	}
	if _, err := remote.Head(ref(s, "team/gone:1")); err == nil {
		t.Error("a deleted image is back")
	}
}

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

// TestUpgradeSignature signs a websocket upgrade as spec control-plane §4.2 says:
// a space is + on the wire and %20 in the signature.
func TestUpgradeSignature(t *testing.T) {
	s, stop := start(t, localcluster.Config{AccessKey: "AKIDLOCAL", SecretKey: secret})
	a := &standIn{t: t, s: s, arn: "arn:aws:ecs:us-east-1:000000000000:container-instance/default/none"}
	dial := func(secret string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/acs/ws?"+a.query().Encode(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(nil)
		creds := aws.Credentials{AccessKeyID: "AKIDLOCAL", SecretAccessKey: secret, SessionToken: "tok"}
		if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), ecs.SigningName, "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		_, resp, err := websocket.Dial(t.Context(), s.URL()+"/acs/ws?"+a.query().Encode(), &websocket.DialOptions{HTTPHeader: r.Header})
		if err == nil || resp == nil {
			t.Fatalf("an unknown instance was accepted, or nothing answered: %v", err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body.String()
	}
	// Past the signature, the unknown instance is what is refused.
	if status, body := dial(secret); status != http.StatusBadRequest || !strings.Contains(body, "InvalidInstanceException") {
		t.Errorf("good signature: %d %s", status, body)
	}
	if status, body := dial("wrong"); status != http.StatusForbidden || !strings.Contains(body, "AccessDeniedException") {
		t.Errorf("bad signature: %d %s", status, body)
	}
	stop()
	if _, err := http.DefaultClient.Do(signed(t, s, aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, "us-east-1", time.Now())); err == nil || errors.Is(err, context.Canceled) { //nolint:bodyclose // There is no answer.
		t.Error("a stopped server answers")
	}
}

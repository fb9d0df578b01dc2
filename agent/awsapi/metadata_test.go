package awsapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// service is an instance metadata service, version 2, with these values.
func service(t *testing.T, values map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
			_, _ = w.Write([]byte("token"))
			return
		}
		value, ok := values[strings.TrimPrefix(r.URL.Path, "/latest/")]
		switch {
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(value))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestMetadata(t *testing.T) {
	const document = "{\n  \"region\" : \"eu-west-1\"\n}"
	m := NewMetadata(MetadataConfig{DMI: t.TempDir(), Endpoint: service(t, map[string]string{
		"meta-data/instance-id":                             "i-0abc",
		"meta-data/placement/region":                        "eu-west-1",
		"meta-data/mac":                                     "0a:11",
		"meta-data/network/interfaces/macs/0a:11/vpc-id":    "vpc-1",
		"meta-data/network/interfaces/macs/0a:11/subnet-id": "subnet-1",
		"dynamic/instance-identity/document":                document,
		"dynamic/instance-identity/signature":               "c2ln\nbmF0",
		"user-data":                                         `{"ECSAgentConfiguration":{}}`,
		"meta-data/iam/security-credentials/":               "role",
		"meta-data/iam/security-credentials/role":           `{"Code":"Success","AccessKeyId":"ASIAROLE","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`,
	})})
	ctx := t.Context()
	if !m.Available(ctx) {
		t.Fatal("the service was not found")
	}
	for want, ask := range map[string]func(context.Context) (string, error){
		"i-0abc": m.InstanceID, "eu-west-1": m.Region, document: m.Document, "c2ln\nbmF0": m.Signature,
		`{"ECSAgentConfiguration":{}}`: m.UserData,
	} {
		if got, err := ask(ctx); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if vpc, subnet, err := m.VPC(ctx); err != nil || vpc != "vpc-1" || subnet != "subnet-1" {
		t.Errorf("got %s %s %v", vpc, subnet, err)
	}
	if _, err := m.Get(ctx, "outpost-arn"); !errors.Is(err, ErrNotSet) {
		t.Errorf("a value that is not set gives %v", err)
	}
	keys, err := NewCredentials(CredentialsConfig{Metadata: m, SharedFile: "/nonexistent", RotatingFile: "/nonexistent"}).Retrieve(ctx)
	if err != nil || keys.AccessKeyID != "ASIAROLE" || keys.SessionToken != "t" {
		t.Errorf("role has %s, %v", keys.AccessKeyID, err)
	}
}

// TestNoMetadata: it is found out once, within seconds, and said once.
func TestNoMetadata(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	m := NewMetadata(MetadataConfig{DMI: t.TempDir(), Endpoint: "http://127.0.0.1:1", Log: zap.New(core)})
	start := time.Now()
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() {
			if _, err := m.Document(t.Context()); !errors.Is(err, ErrNoMetadata) {
				t.Errorf("without a service: %v", err)
			}
		})
	}
	callers.Wait()
	if d := time.Since(start); d > 10*probeTimeout {
		t.Errorf("it took %v", d)
	}
	if _, err := m.InstanceID(t.Context()); !errors.Is(err, ErrNoMetadata) {
		t.Errorf("the second time: %v", err)
	}
	if logs.Len() != 1 {
		t.Errorf("it was said %d times: %v", logs.Len(), logs.All())
	}
	if NewMetadata(MetadataConfig{Disabled: true}).Available(t.Context()) {
		t.Error("a service that is disabled is there")
	}
}

// TestMetadataThatIsLate: a host that looks like EC2 finds its metadata service
// though that came up after the agent had given it up.
func TestMetadataThatIsLate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte("Amazon EC2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := NewMetadata(MetadataConfig{DMI: dir, Endpoint: service(t, map[string]string{"meta-data/instance-id": "i"})})
	m.state, m.asked = absent, time.Now()
	if m.Available(t.Context()) {
		t.Error("a service that did not answer just now is asked again")
	}
	m.asked = time.Now().Add(-reprobe)
	if !m.Available(t.Context()) {
		t.Error("a service that is late is given up for good")
	}
	elsewhere := NewMetadata(MetadataConfig{DMI: t.TempDir(), Endpoint: "http://127.0.0.1:1"})
	elsewhere.state, elsewhere.asked = absent, time.Now().Add(-time.Hour)
	if elsewhere.MayAppear() || elsewhere.Available(t.Context()) {
		t.Error("a host that is not EC2 waits for a metadata service")
	}
}

// TestMetadataThatStumbles: one failed answer is no answer.
func TestMetadataThatStumbles(t *testing.T) {
	fails := 4
	good := service(t, map[string]string{"meta-data/placement/region": "eu-west-1", "user-data": "x", "meta-data/instance-id": "i"})
	target, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	var mu sync.Mutex // guards fails
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/region") || strings.HasSuffix(r.URL.Path, "user-data") {
			if fails--; fails >= 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			fails = 4
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	m := NewMetadata(MetadataConfig{DMI: t.TempDir(), Endpoint: front.URL})
	if region, err := m.Region(t.Context()); region != "eu-west-1" || err != nil {
		t.Errorf("region is %q, %v", region, err)
	}
	if data, err := m.UserData(t.Context()); data != "x" || err != nil {
		t.Errorf("user data is %q, %v", data, err)
	}
}

// TestProbeIsNotDecidedByItsCaller: who gives up learns nothing.
func TestProbeIsNotDecidedByItsCaller(t *testing.T) {
	m := NewMetadata(MetadataConfig{DMI: t.TempDir(), Endpoint: service(t, map[string]string{"meta-data/instance-id": "i"})})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the agent stops")
	cancel(why)
	if _, err := m.InstanceID(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if !m.Available(t.Context()) {
		t.Error("the service was given up for good")
	}
}

func TestLooksLikeEC2(t *testing.T) {
	dir := t.TempDir()
	m := NewMetadata(MetadataConfig{DMI: dir})
	if m.looksLikeEC2() {
		t.Error("an empty directory looks like EC2")
	}
	if err := os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte("Amazon EC2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !m.looksLikeEC2() {
		t.Error("an EC2 host does not look like one")
	}
}

func TestCredentialsOrder(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shared := write("shared", "[default]\naws_access_key_id=SHARED\naws_secret_access_key=s\n[mine]\naws_access_key_id=MINE\naws_secret_access_key=s\n")
	rotating := write("rotating", "[default]\naws_access_key_id=ROTATING\naws_secret_access_key=s\naws_session_token=t\n[other]\naws_access_key_id=OTHER\naws_secret_access_key=s\n")
	for _, tc := range []struct {
		want string
		cfg  CredentialsConfig
	}{
		{"GIVEN", CredentialsConfig{AccessKeyID: "GIVEN", SecretAccessKey: "s", SharedFile: shared, RotatingFile: rotating}},
		{"SHARED", CredentialsConfig{SharedFile: shared, RotatingFile: rotating}},
		{"MINE", CredentialsConfig{SharedFile: shared, Profile: "mine", RotatingFile: rotating}},
		{"ROTATING", CredentialsConfig{SharedFile: shared, RotatingFile: rotating, External: true}},
		{"OTHER", CredentialsConfig{SharedFile: "/nonexistent", RotatingFile: rotating, RotatingProfile: "other"}},
	} {
		keys, err := NewCredentials(tc.cfg).Retrieve(t.Context())
		if err != nil || keys.AccessKeyID != tc.want {
			t.Errorf("got %s, %v, want %s", keys.AccessKeyID, err, tc.want)
		}
	}
	_, err := NewCredentials(CredentialsConfig{SharedFile: "/nonexistent", RotatingFile: "/nonexistent"}).Retrieve(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot find AWS credentials of this host") || strings.Contains(err.Error(), "%!") {
		t.Errorf("without any keys: %v", err)
	}
}

// TestRotation: a rotating file is read again when its keys are a minute old.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	p := fileProvider(path, "default")
	for _, key := range []string{"ONE", "TWO"} {
		if err := os.WriteFile(path, []byte("[default]\naws_access_key_id="+key+"\naws_secret_access_key=s\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := p(t.Context())
		if err != nil || keys.AccessKeyID != key {
			t.Errorf("got %s, %v", keys.AccessKeyID, err)
		}
		if left := time.Until(keys.Expires) - expiryWindow; !keys.CanExpire || left > rotatingAge || left < rotatingAge-10*time.Second {
			t.Errorf("keys are used for %v", left)
		}
	}
}

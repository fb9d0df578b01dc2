package awsapi

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/e2e/standin"
)

const executionRole = "arn:aws:iam::111122223333:role/execution"

// roleKeys are an execution role's, hostKeys the host's own.
var (
	roleKeys = credentials.Set{ID: "c1", AccessKeyID: "ASIAROLE", SecretAccessKey: "role-secret", SessionToken: "role-token", RoleARN: executionRole}
	hostKeys = standin.Key{SecretAccessKey: "host-secret", Role: "host"}
)

// serve starts a stand-in, and services that call it as endpoint.
func serve(t *testing.T) (*standin.Server, *Services) {
	t.Helper()
	server, address := start(t)
	services := NewServices(ServicesConfig{
		Credentials: NewCredentials(CredentialsConfig{AccessKeyID: "AKIAHOST", SecretAccessKey: hostKeys.SecretAccessKey}),
		Region:      "eu-west-1", Endpoint: func(string) string { return address },
	})
	t.Cleanup(services.Close)
	return server, services
}

func start(t *testing.T) (*standin.Server, string) {
	t.Helper()
	server, err := standin.New(standin.Config{Keys: func(_ context.Context, accessKey string) (standin.Key, bool) {
		switch accessKey {
		case roleKeys.AccessKeyID:
			return standin.Key{SecretAccessKey: roleKeys.SecretAccessKey, SessionToken: roleKeys.SessionToken, Role: roleKeys.RoleARN}, true
		case "AKIAHOST":
			return hostKeys, true
		}
		return standin.Key{}, false
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := httptest.NewServer(server)
	t.Cleanup(at.Close)
	return server, at.URL
}

func lines(calls []standin.Call) string {
	var all []string
	for _, c := range calls {
		all = append(all, c.String())
	}
	return strings.Join(all, "\n")
}

func TestParameters(t *testing.T) {
	server, services := serve(t)
	server.PutParameter("eu-west-1", "/db/password", "hunter2")
	server.PutParameter("eu-west-1", "plain", "x")
	server.PutParameter("eu-north-1", "plain", "far")
	const arn = "arn:aws:ssm:eu-west-1:111122223333:parameter/db/password"
	got, err := services.Parameters(t.Context(), roleKeys, "", []string{"/db/password", "plain", "missing", arn})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"/db/password": "hunter2", "plain": "x", arn: "hunter2"}, got); diff != "" {
		t.Error(diff)
	}
	got, err = services.Parameters(t.Context(), roleKeys, "eu-north-1", []string{"plain"})
	if err != nil || got["plain"] != "far" {
		t.Errorf("in another region: %v, %v", got, err)
	}
	if want, got := "GetParameters eu-west-1 "+executionRole+"\nGetParameters eu-north-1 "+executionRole, lines(server.Calls("ssm")); got != want {
		t.Errorf("signed:\n%s\nwant:\n%s", got, want)
	}
}

func TestSecretValue(t *testing.T) {
	server, services := serve(t)
	server.PutSecret("eu-west-1", "db", "old", "AWSPREVIOUS", "v1")
	server.PutSecret("eu-west-1", "db", "new", "", "v2")
	const arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf"
	for _, tc := range []struct {
		version SecretVersion
		want    string
	}{
		{SecretVersion{ID: arn}, "new"},
		{SecretVersion{ID: arn, Stage: "AWSPREVIOUS"}, "old"},
		{SecretVersion{ID: arn, Version: "v1"}, "old"},
		{SecretVersion{ID: arn, Stage: "AWSCURRENT", Version: "v2"}, "new"},
	} {
		if got, err := services.SecretValue(t.Context(), roleKeys, "eu-west-1", tc.version); got != tc.want || err != nil {
			t.Errorf("%+v: %q, %v; want %q", tc.version, got, err, tc.want)
		}
	}
	_, err := services.SecretValue(t.Context(), roleKeys, "eu-west-1", SecretVersion{ID: arn, Stage: "AWSPENDING"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a version that is not there: %v", err)
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	server, services := serve(t)
	server.PutParameter("eu-west-1", "p", "x")
	for _, keys := range []credentials.Set{
		{AccessKeyID: "ASIASTRANGER", SecretAccessKey: "x"},
		{AccessKeyID: "ASIAROLE", SecretAccessKey: "wrong", SessionToken: "role-token"},
		{AccessKeyID: "ASIAROLE", SecretAccessKey: "role-secret", SessionToken: "old"},
		{},
	} {
		if _, err := services.Parameters(t.Context(), keys, "eu-west-1", []string{"p"}); err == nil {
			t.Errorf("the stand-in believed %s", keys.AccessKeyID)
		}
	}
	if calls := server.Calls("ssm"); len(calls) != 0 {
		t.Errorf("counted %v", calls)
	}
}

func TestObject(t *testing.T) {
	server, services := serve(t)
	server.PutObject("eu-central-1", "settings", "a/b c+d.env", []byte("A=1\n"))
	region, err := services.BucketRegion(t.Context(), roleKeys, "settings")
	if region != "eu-central-1" || err != nil {
		t.Fatalf("the bucket is in %q, %v", region, err)
	}
	data, err := services.Object(t.Context(), roleKeys, region, "settings", "a/b c+d.env")
	if string(data) != "A=1\n" || err != nil {
		t.Errorf("the object is %q, %v", data, err)
	}
	if _, err := services.Object(t.Context(), roleKeys, region, "settings", "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
	if _, err := services.BucketRegion(t.Context(), roleKeys, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a bucket that is not there: %v", err)
	}
	server.PutObject("eu-central-1", "settings", "big", make([]byte, maxObject+1))
	if _, err := services.Object(t.Context(), roleKeys, region, "settings", "big"); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("a big object: %v", err)
	}
}

func TestRegistryToken(t *testing.T) {
	server, services := serve(t)
	auth, ends, err := services.RegistryToken(t.Context(), &roleKeys, "us-east-1", "444455556666", "")
	if err != nil {
		t.Fatal(err)
	}
	if auth.Username != "AWS" || auth.Password != "token-1-444455556666-us-east-1" || time.Until(ends) < 11*time.Hour {
		t.Errorf("got %s %s until %s", auth.Username, auth.Password, ends)
	}
	if _, _, err := services.RegistryToken(t.Context(), nil, "", "", ""); err != nil {
		t.Error(err)
	}
	want := "GetAuthorizationToken us-east-1 " + executionRole + "\nGetAuthorizationToken eu-west-1 host"
	if got := lines(server.Calls("ecr")); got != want {
		t.Errorf("signed:\n%s\nwant:\n%s", got, want)
	}
}

// A payload may say where the tokens are: that is asked, and not what the settings
// say.
func TestRegistryTokenEndpointOverride(t *testing.T) {
	other, address := start(t)
	_, services := serve(t)
	if _, _, err := services.RegistryToken(t.Context(), &roleKeys, "eu-west-1", "111122223333", address); err != nil {
		t.Fatal(err)
	}
	if len(other.Calls("ecr")) != 1 {
		t.Error("the endpoint of the payload was not asked")
	}
}

func TestRegistryTokenOfNothing(t *testing.T) {
	for body, want := range map[string]string{
		`{"authorizationData":[]}`:                              errNoAuthorization.Error(),
		`{"authorizationData":[{}]}`:                            errNilAuthorization.Error(),
		`{"authorizationData":[{"authorizationToken":"!"}]}`:    "ecr auth: the token is not base64",
		`{"authorizationData":[{"authorizationToken":"QVdT"}]}`: "ecr auth: the token is not user:password",
	} {
		at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			_, _ = w.Write([]byte(body))
		}))
		services := NewServices(ServicesConfig{Endpoint: func(string) string { return at.URL }})
		_, _, err := services.RegistryToken(t.Context(), &roleKeys, "eu-west-1", "1", "")
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
		at.Close()
	}
}

// A service that is in trouble for a moment is asked again; one that says no is
// not.
func TestTrouble(t *testing.T) {
	server, services := serve(t)
	server.PutParameter("eu-west-1", "p", "x")
	for _, kind := range []string{standin.FaultThrottle, standin.FaultError} {
		if err := server.Fault("ssm", kind, 1); err != nil {
			t.Fatal(err)
		}
		if got, err := services.Parameters(t.Context(), roleKeys, "", []string{"p"}); got["p"] != "x" || err != nil {
			t.Errorf("after %s: %v, %v", kind, got, err)
		}
	}
	if err := server.Fault("ssm", standin.FaultDenied, 0); err != nil {
		t.Fatal(err)
	}
	before := len(server.Calls("ssm"))
	_, err := services.Parameters(t.Context(), roleKeys, "", []string{"p"})
	if err == nil || !strings.Contains(err.Error(), "AccessDeniedException: "+executionRole+" is not authorized to perform: ssm:GetParameters") {
		t.Errorf("denied: %v", err)
	}
	if n := len(server.Calls("ssm")) - before; n != 1 {
		t.Errorf("asked %d times", n)
	}
	if err := server.Fault("ssm", standin.FaultSlow, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("out of patience"))
	defer cancel()
	if _, err := services.Parameters(ctx, roleKeys, "", []string{"p"}); err == nil {
		t.Error("a service that does not answer was waited for")
	}
}

// Without an endpoint of its own every service has its name at AWS, in each
// region, in FIPS and dual-stack form; the proxy and AWS_CA_BUNDLE are honoured.
func TestNamesOfAWS(t *testing.T) {
	server, address := start(t)
	proxy, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, server.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	roots, err := Roots(bundle)
	if err != nil {
		t.Fatal(err)
	}
	server.PutParameter("us-east-1", "p", "x")
	server.PutObject("us-east-1", "bucket", "key", []byte("data"))
	for _, tc := range []struct {
		fips, dual bool
		want       string
	}{
		{false, false, "ssm.us-east-1.amazonaws.com api.ecr.us-east-1.amazonaws.com bucket.s3.us-east-1.amazonaws.com"},
		{true, false, "ssm-fips.us-east-1.amazonaws.com api.ecr-fips.us-east-1.amazonaws.com bucket.s3-fips.us-east-1.amazonaws.com"},
		{false, true, "ssm.us-east-1.api.aws ecr.us-east-1.api.aws bucket.s3.dualstack.us-east-1.amazonaws.com"},
	} {
		var hosts []string
		services := NewServices(ServicesConfig{
			Region: "us-east-1", FIPS: tc.fips, DualStack: tc.dual, Roots: roots,
			Proxy: func(r *http.Request) (*url.URL, error) {
				hosts = append(hosts, r.URL.Hostname())
				return proxy, nil
			},
		})
		if _, err := services.Parameters(t.Context(), roleKeys, "", []string{"p"}); err != nil {
			t.Error(err)
		}
		if _, _, err := services.RegistryToken(t.Context(), &roleKeys, "", "1", ""); err != nil {
			t.Error(err)
		}
		if _, err := services.Object(t.Context(), roleKeys, "us-east-1", "bucket", "key"); err != nil {
			t.Error(err)
		}
		if got := strings.Join(hosts, " "); got != tc.want {
			t.Errorf("fips %v, dual stack %v:\n got %s\nwant %s", tc.fips, tc.dual, got, tc.want)
		}
		services.Close()
	}
}

func TestRoots(t *testing.T) {
	if pool, err := Roots(""); pool != nil || err != nil {
		t.Errorf("no bundle: %v, %v", pool, err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".missing"} {
		if _, err := Roots(file); err == nil || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
			t.Errorf("%s: %v", file, err)
		}
	}
	server, _ := start(t)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, server.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := Roots(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if system, err := x509.SystemCertPool(); err == nil && pool.Equal(system) {
		t.Error("the bundle was not added")
	}
}

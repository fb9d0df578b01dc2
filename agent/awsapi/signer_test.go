package awsapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// signature recomputes a SigV4 signature from the published description of the
// algorithm, without the SDK.
func signature(t *testing.T, r *http.Request, signed []string, payload string) string {
	t.Helper()
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	var query []string
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			query = append(query, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(query)
	canonical := r.Method + "\n" + r.URL.Path + "\n" + strings.Join(query, "&") + "\n"
	for _, name := range signed {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.URL.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + strings.Join(signed, ";") + "\n" + hash(payload)
	date := r.Header.Get("X-Amz-Date")
	scope := date[:8] + "/eu-west-1/ecs/aws4_request"
	key := mac(mac(mac(mac([]byte("AWS4hush"), date[:8]), "eu-west-1"), "ecs"), "aws4_request")
	return hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hash(canonical)))
}

func signer(token string) *Signer {
	s := NewSigner(NewCredentials(CredentialsConfig{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "hush", SessionToken: token}), "eu-west-1", "ecs")
	s.now = func() time.Time { return time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC) }
	return s
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250301/eu-west-1/ecs/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// check recomputes what an Authorization header says and answers the signed
// headers.
func check(t *testing.T, method, target string, header http.Header, payload string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	m := authorization.FindStringSubmatch(header.Get("Authorization"))
	if m == nil {
		t.Fatalf("Authorization is %q", header.Get("Authorization"))
	}
	if want := signature(t, &http.Request{Method: method, URL: u, Header: header}, strings.Split(m[1], ";"), payload); m[2] != want {
		t.Errorf("signature of %s is %s, want %s", target, m[2], want)
	}
	return m[1]
}

func TestSignFrame(t *testing.T) {
	const body = `{"type":"PublishMetricsRequest","message":{}}`
	const target = "wss://ecs-t-3.eu-west-1.amazonaws.com/ws?agentVersion=1.105.1&cluster=blue+fleet&containerInstance=arn%3Aaws%3Aecs"
	for token, want := range map[string]string{"": "host;x-amz-date", "token": "host;x-amz-date;x-amz-security-token"} {
		header, err := signer(token).SignFrame(t.Context(), target, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := check(t, http.MethodGet, target, header, body); got != want {
			t.Errorf("frame signs %s, want %s", got, want)
		}
		if header.Get("Host") != "ecs-t-3.eu-west-1.amazonaws.com" || header.Get("X-Amz-Date") != "20250301T120000Z" || header.Get("X-Amz-Security-Token") != token {
			t.Errorf("frame has %v", header)
		}
		for name := range header {
			if !slices.Contains([]string{"Authorization", "Host", "X-Amz-Date", "X-Amz-Security-Token"}, name) {
				t.Errorf("frame has the header %s", name)
			}
		}
	}
}

func TestSignUpgrade(t *testing.T) {
	const target = "wss://ecs-a-3.eu-west-1.amazonaws.com/ws?dockerVersion=DockerVersion%3A+25.0.8&seqNum=1"
	header, err := signer("token").SignUpgrade(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if got := check(t, http.MethodGet, target, header, ""); got != "host;x-amz-date;x-amz-security-token" {
		t.Errorf("upgrade signs %s", got)
	}
	if _, ok := header["Host"]; ok {
		t.Error("upgrade adds a Host header")
	}
	local, err := signer("").SignUpgrade(t.Context(), "http://127.0.0.1:9/ws")
	if err != nil {
		t.Fatal(err)
	}
	check(t, http.MethodGet, "http://127.0.0.1:9/ws", local, "")
}

func TestSignRequest(t *testing.T) {
	const body = `{"cluster":"blue"}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://ecs.eu-west-1.amazonaws.com/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "X.Y")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("User-Agent", "not signed")
	if err := signer("").SignRequest(t.Context(), r, []byte(body)); err != nil {
		t.Fatal(err)
	}
	header := r.Header.Clone()
	header.Set("Content-Length", fmt.Sprint(len(body)))
	if got := check(t, http.MethodPost, "https://ecs.eu-west-1.amazonaws.com/", header, body); got != "content-length;content-type;host;x-amz-date;x-amz-target" {
		t.Errorf("request signs %s", got)
	}
}

package localcluster

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthd/berth/agent/wire/ecs"
)

// maxSkew is how far a signer's clock may be off.
const maxSkew = 15 * time.Minute

const (
	amzDate  = "X-Amz-Date"
	amzToken = "X-Amz-Security-Token"
)

// verifier checks SigV4 signatures by making them again.
type verifier struct {
	region string
	signer *v4.Signer
	// secret finds the secret key of an access key.
	secret func(accessKey string) (string, bool)
}

// authorization is the parsed Authorization header.
type authorization struct {
	accessKey, date, region, service, signature string
	signed                                      []string
}

func parseAuthorization(header string) (*authorization, bool) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, false
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return nil, false
	}
	return &authorization{
		accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signature: fields["Signature"], signed: strings.Split(fields["SignedHeaders"], ";"),
	}, true
}

// signedMessage is what was signed: a request, or a telemetry frame that is
// signed as if it were one.
type signedMessage struct {
	method string
	url    *url.URL
	host   string
	header http.Header
	body   []byte
}

func refuse(kind, text string) *ecs.Error { return &ecs.Error{Type: kind, Message: text} }

// verify says why a signature is not good; nil means that it is.
func (v *verifier) verify(ctx context.Context, m *signedMessage) *ecs.Error {
	header := m.header.Get("Authorization")
	if header == "" {
		return refuse(ecs.ErrTypeMissingAuthenticationToken, "Missing Authentication Token")
	}
	auth, ok := parseAuthorization(header)
	if !ok {
		return refuse(ecs.ErrTypeIncompleteSignature, "Authorization header is not an AWS4-HMAC-SHA256 signature.")
	}
	when, err := time.Parse("20060102T150405Z", m.header.Get(amzDate))
	switch {
	case err != nil || when.Format("20060102") != auth.date:
		return refuse(ecs.ErrTypeIncompleteSignature, "Date in Credential scope does not match X-Amz-Date.")
	case time.Since(when).Abs() > maxSkew:
		return refuse(ecs.ErrTypeInvalidSignature, "Signature expired or not yet current: "+m.header.Get(amzDate))
	case auth.service != ecs.SigningName || auth.region != v.region:
		return refuse(ecs.ErrTypeInvalidSignature, "Credential should be scoped to "+v.region+"/"+ecs.SigningName+".")
	case !slices.Contains(auth.signed, "host") || !slices.Contains(auth.signed, "x-amz-date"):
		return refuse(ecs.ErrTypeIncompleteSignature, "host and x-amz-date must be signed headers.")
	}
	secret, ok := v.secret(auth.accessKey)
	if !ok {
		return refuse(ecs.ErrTypeUnrecognizedClient, "The security token included in the request is invalid.")
	}
	want, err := v.sign(ctx, m, auth, aws.Credentials{AccessKeyID: auth.accessKey, SecretAccessKey: secret}, when)
	if err != nil || subtle.ConstantTimeCompare([]byte(want), []byte(auth.signature)) != 1 {
		return refuse(ecs.ErrTypeInvalidSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	return nil
}

// sign signs the message anew, with the headers that were signed and no others.
func (v *verifier) sign(ctx context.Context, m *signedMessage, auth *authorization, creds aws.Credentials, when time.Time) (string, error) {
	again, err := http.NewRequestWithContext(ctx, m.method, m.url.String(), http.NoBody)
	if err != nil {
		return "", err
	}
	again.URL, again.Host, again.ContentLength = m.url, m.host, 0
	for _, name := range auth.signed {
		switch name {
		case "host", "x-amz-date":
		case "x-amz-security-token":
			creds.SessionToken = m.header.Get(amzToken)
		case "content-length":
			again.ContentLength = int64(len(m.body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = m.header.Values(name)
		}
	}
	sum := sha256.Sum256(m.body)
	if err := v.signer.SignHTTP(ctx, creds, again, hex.EncodeToString(sum[:]), auth.service, auth.region, when); err != nil {
		return "", err
	}
	made, ok := parseAuthorization(again.Header.Get("Authorization"))
	if !ok || !slices.Equal(made.signed, auth.signed) {
		return "", errors.New("cannot sign these headers again")
	}
	return made.signature, nil
}

// request is a request as it was signed.
func request(r *http.Request, body []byte) *signedMessage {
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	return &signedMessage{method: r.Method, url: &u, host: r.Host, header: r.Header, body: body}
}

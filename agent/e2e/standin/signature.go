package standin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxSkew is how far a signer's clock may be off.
const maxSkew = 15 * time.Minute

// authorization is the parsed Authorization header.
type authorization struct {
	accessKey, date, region, service, signature string
	signed                                      []string
}

func parseAuthorization(header string) (*authorization, error) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, errors.New("the request is not signed with AWS4-HMAC-SHA256")
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return nil, errors.New("the Authorization header is incomplete")
	}
	return &authorization{
		accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signature: fields["Signature"], signed: strings.Split(fields["SignedHeaders"], ";"),
	}, nil
}

// verify makes the signature again with the secret that belongs to the access key,
// and says whose it is.
func (s *Server) verify(r *http.Request, body []byte) (*authorization, Key, error) {
	auth, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return nil, Key{}, err
	}
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || when.Format("20060102") != auth.date || time.Since(when).Abs() > maxSkew {
		return auth, Key{}, fmt.Errorf("the signature is of %q", r.Header.Get("X-Amz-Date"))
	}
	key, known := s.key(r.Context(), auth.accessKey)
	if !known {
		return auth, Key{}, fmt.Errorf("the access key %s is nobody's", auth.accessKey)
	}
	if key.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		return auth, Key{}, errors.New("the session token is not that of the access key")
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if claimed := r.Header.Get("X-Amz-Content-Sha256"); claimed != "" && claimed != payload {
		return auth, Key{}, errors.New("the body is not what was signed")
	}
	want, err := sign(r, auth, key, payload, when)
	if err != nil {
		return auth, Key{}, err
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(auth.signature)) != 1 {
		return auth, Key{}, errors.New("the signature we calculated does not match the signature you provided")
	}
	return auth, key, nil
}

// sign signs a request anew, with the headers that were signed and no others.
func sign(r *http.Request, auth *authorization, key Key, payload string, when time.Time) (string, error) {
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), http.NoBody)
	if err != nil {
		return "", err
	}
	again.Host, again.ContentLength = r.Host, 0
	keys := aws.Credentials{AccessKeyID: auth.accessKey, SecretAccessKey: key.SecretAccessKey}
	for _, name := range auth.signed {
		switch name {
		case "host", "x-amz-date":
		case "x-amz-security-token":
			keys.SessionToken = key.SessionToken
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	err = v4.NewSigner().SignHTTP(r.Context(), keys, again, payload, auth.service, auth.region, when, func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = auth.service == "s3"
	})
	if err != nil {
		return "", err
	}
	made, err := parseAuthorization(again.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	if !slices.Equal(made.signed, auth.signed) {
		return "", fmt.Errorf("cannot sign the headers %v again: %v", auth.signed, made.signed)
	}
	return made.signature, nil
}

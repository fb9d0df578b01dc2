package awslogs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// How long a call may take.
const (
	callTimeout = 30 * time.Second
	dialTimeout = 5 * time.Second
)

// caller calls the service.
type caller struct {
	http        *http.Client
	url, region string
	keys        keyring
}

// refusal is an error that the service answered with.
type refusal struct {
	status        int
	code, message string
}

// Error is the service's own text.
func (r *refusal) Error() string {
	if r.code == "" {
		return fmt.Sprintf("CloudWatch Logs answers with status %d", r.status)
	}
	return r.code + ": " + r.message
}

func isRefusal(err error, code string) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.code == code
}

// rejection says which of the events were thrown away: from TooNewStart on, and
// before the other two.
type rejection struct {
	TooNewStart *int `json:"tooNewLogEventStartIndex"`
	TooOldEnd   *int `json:"tooOldLogEventEndIndex"`
	ExpiredEnd  *int `json:"expiredLogEventEndIndex"`
}

// put is PutLogEvents.
func (c *caller) put(ctx context.Context, s settings, events []event) (rejection, error) {
	var answer struct {
		Rejected rejection `json:"rejectedLogEventsInfo"`
	}
	header := http.Header{}
	if s.emf {
		header.Set("X-Amzn-Logs-Format", formatEMF)
	}
	err := c.call(ctx, "PutLogEvents", struct {
		Group  string  `json:"logGroupName"`
		Stream string  `json:"logStreamName"`
		Events []event `json:"logEvents"`
	}{s.group, s.stream, events}, header, &answer)
	if err != nil {
		return rejection{}, fmt.Errorf("cannot put log events: %w", err)
	}
	return answer.Rejected, nil
}

// createStream is CreateLogStream.
func (c *caller) createStream(ctx context.Context, s settings) error {
	return c.call(ctx, "CreateLogStream", struct {
		Group  string `json:"logGroupName"`
		Stream string `json:"logStreamName"`
	}{s.group, s.stream}, nil, nil)
}

// createGroup is CreateLogGroup.
func (c *caller) createGroup(ctx context.Context, s settings) error {
	return c.call(ctx, "CreateLogGroup", struct {
		Group string `json:"logGroupName"`
	}{s.group}, nil, nil)
}

// call makes one call; trying again is for who called it.
func (c *caller) call(ctx context.Context, action string, in any, header http.Header, out any) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("CloudWatch Logs does not answer"))
	defer cancel()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(in); err != nil {
		return fmt.Errorf("cannot encode request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body.Bytes()))
	if err != nil {
		return fmt.Errorf("cannot make request: %w", err)
	}
	maps.Copy(r.Header, header)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Logs_20140328."+action)
	keys, err := c.keys.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body.Bytes())
	if err := v4.NewSigner().SignHTTP(ctx, keys, r, hex.EncodeToString(sum[:]), "logs", c.region, time.Now()); err != nil {
		return fmt.Errorf("cannot sign request: %w", err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("cannot reach CloudWatch Logs: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("cannot read answer of CloudWatch Logs: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return c.refused(response, answer)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("cannot read answer of CloudWatch Logs: %w", err)
	}
	return nil
}

// refused reads an error, and forgets keys that are not good any more.
func (c *caller) refused(response *http.Response, answer []byte) error {
	r := &refusal{status: response.StatusCode}
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Capital string `json:"Message"`
	}
	if json.Unmarshal(answer, &body) == nil {
		r.code, r.message = body.Type, body.Message
		if r.message == "" {
			r.message = body.Capital
		}
	}
	if r.code == "" {
		r.code, _, _ = strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
	}
	r.code = r.code[strings.LastIndexByte(r.code, '#')+1:]
	switch r.code {
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException":
		c.keys.Forget()
	}
	return r
}

// newHTTPClient makes the client that all containers share.
func newHTTPClient(cfg Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               cfg.Proxy,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
		WriteBufferSize:     32 << 10,
	}}
}

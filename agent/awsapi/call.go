package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthd/berth/runtime/backoff"
)

// How a call is tried again: as often as the SDK does it, and as patiently.
const (
	callAttempts = 3
	callPause    = 500 * time.Millisecond
	maxAnswer    = 4 << 20
)

// call is one question to a service. The SDK's client of a service brings the
// whole of that service into the binary and into the memory of every process of
// it; these calls need its signer alone.
type call struct {
	// id is what the SDK calls the service, for errors; service is what signatures
	// call it.
	id, service, operation string
	region, url            string
	keys                   aws.CredentialsProvider
	client                 *http.Client
	method                 string
	header                 http.Header
	body                   []byte
	limit                  int64
}

// refusedError is what a service answered instead. It reads as the SDK writes it.
type refusedError struct {
	call          *call
	status        int
	header        http.Header
	code, message string
}

// Error names the call, the answer and the service's own words.
func (e *refusedError) Error() string {
	return fmt.Sprintf("operation error %s: %s, https response error StatusCode: %d, RequestID: %s, api error %s: %s",
		e.call.id, e.call.operation, e.status, requestID(e.header), e.code, e.message)
}

func requestID(h http.Header) string {
	if id := h.Get("X-Amzn-Requestid"); id != "" {
		return id
	}
	return h.Get("X-Amz-Request-Id")
}

// again says whether the same question may be answered the next time.
func (e *refusedError) again() bool {
	_, throttled := retry.DefaultThrottleErrorCodes[e.code]
	_, passing := retry.DefaultRetryableErrorCodes[e.code]
	_, trouble := retry.DefaultRetryableHTTPStatusCodes[e.status]
	return throttled || passing || trouble || e.status == http.StatusTooManyRequests
}

// do asks until there is an answer or asking again does not help.
func (c *call) do(ctx context.Context) ([]byte, http.Header, error) {
	for n, pause := 1, callPause; ; n, pause = n+1, 2*pause {
		answer, header, err := c.try(ctx)
		refused, is := errors.AsType[*refusedError](err)
		if err == nil || ctx.Err() != nil || n == callAttempts || is && !refused.again() {
			return answer, header, err
		}
		if !backoff.Wait(ctx, backoff.Jittered(pause/10, pause)) {
			return nil, nil, err
		}
	}
}

// try asks once.
func (c *call) try(ctx context.Context) (answer []byte, header http.Header, err error) {
	r, err := http.NewRequestWithContext(ctx, c.method, c.url, bytes.NewReader(c.body))
	if err != nil {
		return nil, nil, c.failed(err)
	}
	maps.Copy(r.Header, c.header)
	keys, err := c.keys.Retrieve(ctx)
	if err != nil {
		return nil, nil, c.failed(fmt.Errorf("get identity: get credentials: %w", err))
	}
	payload := hash(c.body)
	if c.service == serviceS3 {
		r.Header.Set("X-Amz-Content-Sha256", payload)
	}
	err = v4.NewSigner().SignHTTP(ctx, keys, r, payload, c.service, c.region, time.Now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = c.service == serviceS3
	})
	if err != nil {
		return nil, nil, c.failed(err)
	}
	response, err := c.client.Do(r)
	if err != nil {
		return nil, nil, c.failed(fmt.Errorf("request send failed, %w", err))
	}
	defer response.Body.Close() //nolint:errcheck // It was read to its end, or is of no use.
	answer, err = io.ReadAll(io.LimitReader(response.Body, c.limit+1))
	switch {
	case err != nil:
		return nil, nil, c.failed(fmt.Errorf("cannot read the answer: %w", err))
	case response.StatusCode != http.StatusOK:
		return nil, nil, c.refused(response, answer)
	case int64(len(answer)) > c.limit:
		return nil, nil, c.failed(fmt.Errorf("the answer is larger than %d MiB", c.limit>>20))
	}
	return answer, response.Header, nil
}

// failed says which call failed.
func (c *call) failed(err error) error {
	return fmt.Errorf("operation error %s: %s, %w", c.id, c.operation, err)
}

// refused reads an error in JSON or, of S3, in XML. An answer to HEAD has neither.
func (c *call) refused(response *http.Response, answer []byte) error {
	e := &refusedError{call: c, status: response.StatusCode, header: response.Header, code: response.Header.Get("X-Amzn-Errortype")}
	var body struct {
		Type    string `json:"__type" xml:"-"`
		Message string `json:"message" xml:"Message"`
		Code    string `json:"-" xml:"Code"`
	}
	if c.service == serviceS3 {
		_ = xml.Unmarshal(answer, &body) // What is no XML says nothing.
	} else {
		_ = json.Unmarshal(answer, &body) // What is no JSON says nothing.
	}
	for _, code := range []string{body.Type, body.Code, strings.ReplaceAll(http.StatusText(e.status), " ", "")} {
		if e.code == "" {
			e.code = code
		}
	}
	// Such as com.amazonaws.ssm#AccessDeniedException:http://…
	e.code, _, _ = strings.Cut(e.code[strings.LastIndex(e.code, "#")+1:], ":")
	e.message = body.Message
	return e
}

// query is a question in JSON 1.1.
type query struct {
	id, service, target, operation string
	region, endpoint               string
	keys                           aws.CredentialsProvider
}

// ask puts a question in JSON 1.1, and reads the answer into out.
func (s *Services) ask(ctx context.Context, q query, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", q.operation, err)
	}
	region := s.region(q.region)
	if q.endpoint == "" {
		q.endpoint = s.base(q.service, region)
	}
	c := &call{
		id: q.id, service: q.service, operation: q.operation, region: region, url: strings.TrimRight(q.endpoint, "/") + "/",
		keys: q.keys, client: s.calls, method: http.MethodPost, body: body, limit: maxAnswer,
		header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {q.target + "." + q.operation}},
	}
	answer, _, err := c.do(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return c.failed(errors.New("cannot read the answer: it is not the JSON of " + q.operation)) // The text of err could hold a secret.
	}
	return nil
}

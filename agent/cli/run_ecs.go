package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
)

// ecsTimeout bounds one call. The cluster is on this host.
const ecsTimeout = 10 * time.Second

// ecsCaller makes the calls that a user of ECS makes, of a local cluster.
type ecsCaller struct {
	endpoint string
	sign     func(ctx context.Context, r *http.Request, body []byte) error // nil signs nothing
	http     *http.Client
}

func newECSCaller(endpoint string, sign func(context.Context, *http.Request, []byte) error) *ecsCaller {
	return &ecsCaller{endpoint: endpoint, sign: sign, http: &http.Client{
		Timeout:   ecsTimeout,
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
	}}
}

// ecsCall makes one call. What the cluster refuses is an *ecs.Error.
func ecsCall[Response any](ctx context.Context, c *ecsCaller, operation string, request any) (*Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", operation, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", operation, err)
	}
	r.Header.Set("Content-Type", ecs.ContentType)
	r.Header.Set(ecs.TargetHeader, ecs.Target+operation)
	if c.sign != nil {
		if err := c.sign(ctx, r, body); err != nil {
			return nil, err
		}
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", operation, err)
	}
	defer answer.Body.Close() //nolint:errcheck // It was read to its end, or is of no use.
	text, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", operation, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", operation, ecs.ParseError(answer.Header.Get(ecs.ErrorTypeHeader), text))
	}
	out := new(Response)
	if err := ecs.Decode(text, out); err != nil {
		return nil, fmt.Errorf("cannot read the answer to %s: %w", operation, err)
	}
	return out, nil
}

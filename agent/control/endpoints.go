package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
)

// Times of endpoint discovery, spec/control-plane.md §3.
const (
	discoverFor   = 126 * time.Second
	endpointsLast = 12 * time.Hour
)

// Discoverer is the part of the ECS API that Endpoints needs.
type Discoverer interface {
	DiscoverPollEndpoint(ctx context.Context, r *ecs.DiscoverPollEndpointRequest) (*ecs.DiscoverPollEndpointResponse, error)
}

// Endpoints knows where the websockets are. What the service said is good for
// twelve hours, and longer when it cannot be asked. It may be used by many
// goroutines at once; they share one call.
type Endpoints struct {
	api      Discoverer
	identity Identity
	// turn holds one element while nobody asks; it guards the fields below.
	turn   chan struct{}
	answer *ecs.DiscoverPollEndpointResponse
	asked  time.Time
}

// NewEndpoints makes an empty cache.
func NewEndpoints(api Discoverer, identity Identity) *Endpoints {
	e := &Endpoints{api: api, identity: identity, turn: make(chan struct{}, 1)}
	e.turn <- struct{}{}
	return e
}

// ACS is the base URL of the agent communication service.
func (e *Endpoints) ACS(ctx context.Context) (string, error) {
	answer, err := e.get(ctx)
	if err != nil {
		return "", err
	}
	if answer.Endpoint == "" {
		return "", errors.New("ECS answered without an endpoint")
	}
	return answer.Endpoint, nil
}

// TCS is the base URL of the telemetry service.
func (e *Endpoints) TCS(ctx context.Context) (string, error) {
	answer, err := e.get(ctx)
	if err != nil {
		return "", err
	}
	if answer.TelemetryEndpoint == "" {
		return "", errors.New("ECS answered without a telemetry endpoint")
	}
	return answer.TelemetryEndpoint, nil
}

func (e *Endpoints) get(ctx context.Context) (*ecs.DiscoverPollEndpointResponse, error) {
	select {
	case <-e.turn:
		defer func() { e.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.answer != nil && time.Since(e.asked) < endpointsLast {
		return e.answer, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, discoverFor, errors.New("the service takes too long to answer"))
	defer cancel()
	answer, err := e.api.DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointRequest{
		ContainerInstance: e.identity.ContainerInstanceARN, Cluster: e.identity.Cluster,
	})
	switch {
	case err == nil:
		e.answer, e.asked = answer, time.Now()
	case e.answer == nil:
		return nil, fmt.Errorf("cannot discover endpoints: %w", err)
	}
	return e.answer, nil
}

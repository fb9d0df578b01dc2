package tcs

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/health"
	wire "github.com/berthd/berth/agent/wire/tcs"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/runtime/backoff"
)

// Sample is what one container used since the last Collect.
type Sample struct {
	Container metrics.Container
	Report    metrics.Report
	// RestartPolicy says that Report.Restarts means something.
	RestartPolicy bool
}

// Metrics is where usage comes from.
type Metrics interface {
	// Collect answers what containers used since the last call, ordered by task,
	// and how many containers are tracked, those with nothing to report too.
	Collect() (samples []Sample, tracked int)
}

// VolumeUsage says how full an EBS volume is, in bytes.
type VolumeUsage struct {
	ID, Name   string
	Used, Size uint64
}

// TaskHealth is the health of a task's containers that have a check.
type TaskHealth struct {
	ARN, Family, Version string
	Containers           []ContainerHealth
}

// ContainerHealth is HEALTHY, UNHEALTHY or UNKNOWN since a moment; the zero
// moment is now.
type ContainerHealth struct {
	Name, Status string
	Since        time.Time
}

// Times and sizes of spec/control-plane.md §5.
const (
	period   = 20 * time.Second
	queueLen = 15
	patience = time.Second
	// stale is the age from which the service takes nothing.
	stale = 5 * time.Minute
)

// Config is what a Client needs. What is not marked optional must be set.
type Config struct {
	ws.Service

	// Cluster is the configured cluster and ContainerInstanceARN the host's.
	Cluster, ContainerInstanceARN string
	// AgentVersion and AgentHash say which agent this is.
	AgentVersion, AgentHash string
	// SignFrame answers the header lines of a frame (optional).
	SignFrame func(ctx context.Context, url string, body []byte) (http.Header, error)

	// Metrics is nil when metrics are disabled: the host then says that it is
	// idle.
	Metrics Metrics
	// Volumes answers how full the EBS volumes of a task are (optional).
	Volumes func(taskARN string) []VolumeUsage
	// Health answers the tasks with containers that have a check (optional).
	Health func() []TaskHealth
	// Status answers the host's own health (optional).
	Status func() []health.Part
}

// Client keeps the TCS session of this host and publishes over it. Make it with
// New, and Run it once; Heartbeat and Drop may be called from any goroutine.
type Client struct {
	cfg Config
	log *zap.Logger
	// queue holds what is to be sent. Its capacity is the specification's.
	queue chan message
	// unsent is what the last session took from the queue and did not send. It
	// belongs to the sender.
	unsent *message
	// dropping says that the queue is full and that this was said. It belongs to
	// the publisher.
	dropping bool
	// statusDue says that the host's health is to be told at the next tick.
	statusDue atomic.Bool
	// drop asks the session to end.
	drop chan struct{}
}

// message is one message in the queue.
type message struct {
	wire.Message

	at time.Time
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	c := &Client{cfg: cfg, log: cfg.Log, queue: make(chan message, queueLen), drop: make(chan struct{}, 1)}
	c.statusDue.Store(true)
	return c
}

// Heartbeat says that the host's health was looked at, and is to be told with
// the next tick. The service's ACS heartbeats set the pace.
func (c *Client) Heartbeat() { c.statusDue.Store(true) }

// Drop ends the session there is, if any; another one follows. It is for when
// ACS says that the host is inactive.
func (c *Client) Drop() {
	select {
	case c.drop <- struct{}{}:
	default:
	}
}

// Run publishes and keeps a session until ctx ends, and answers why it did.
func (c *Client) Run(ctx context.Context) error {
	var publisher sync.WaitGroup
	publisher.Go(func() { c.publish(ctx) })
	defer publisher.Wait()
	keeper := ws.Keeper{
		Service: c.cfg.Service, Name: "TCS", Query: c.query, Serve: c.serve, CloseWhenIdle: true,
		Policy: ws.Policy{Ladder: backoff.Ladder{First: time.Second, Last: time.Minute, Factor: 2, Jitter: 0.2}, Idle: true},
		Refusal: func(body []byte) error {
			if m, err := wire.Decode(body); err == nil {
				if e, ok := m.(*wire.Exception); ok {
					return e
				}
			}
			return nil
		},
	}
	return keeper.Run(ctx)
}

// errDropped is why a session ends after Drop.
var errDropped = errors.New("the container instance is inactive")

// serve uses one session until it ends.
func (c *Client) serve(ctx context.Context, conn *ws.Session, target string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	select {
	case <-c.drop: // It was about an earlier session.
	default:
	}
	var others sync.WaitGroup
	others.Go(func() { c.send(ctx, conn, target) })
	others.Go(func() {
		select {
		case <-c.drop:
			cancel(errDropped)
		case <-ctx.Done():
		}
	})
	end := conn.Run(ctx, func(_ context.Context, frame []byte) { c.handle(conn, frame) })
	cancel(end)
	others.Wait()
	return end
}

// query is what the websocket's URL says, §5.1.
func (c *Client) query() url.Values {
	return url.Values{
		"agentHash":         {c.cfg.AgentHash},
		"agentVersion":      {c.cfg.AgentVersion},
		"cluster":           {c.cfg.Cluster},
		"containerInstance": {c.cfg.ContainerInstanceARN},
	}
}

// handle takes note of one frame; nothing here is answered.
func (c *Client) handle(conn *ws.Session, frame []byte) {
	m, err := wire.Decode(frame)
	if err != nil {
		c.log.Warn("TCS message cannot be read", zap.Error(err))
		return
	}
	switch m := m.(type) {
	case *wire.HeartbeatMessage, *wire.Ack:
		conn.Active()
	case *wire.StopTelemetrySessionMessage:
		c.log.Info("TCS is going to stop the session", zap.String("message", m.Message))
	case *wire.Exception:
		c.log.Warn("TCS reports an exception", zap.Error(m))
	default:
		c.log.Warn("TCS sent a message that only agents send", zap.String("type", m.MessageType()))
	}
}

// send sends what is in the queue until the session ends. What it could not
// send is kept for the next session.
func (c *Client) send(ctx context.Context, conn *ws.Session, target string) {
	for {
		if c.unsent == nil {
			select {
			case <-ctx.Done():
				return
			case m := <-c.queue:
				c.unsent = &m
			}
		}
		if age := time.Since(c.unsent.at); age > stale {
			c.log.Warn("telemetry is too old and dropped", zap.String("type", c.unsent.MessageType()), zap.Duration("age", age))
			c.unsent = nil
			continue
		}
		if err := c.sendOne(ctx, conn, target, c.unsent.Message); err != nil {
			if ctx.Err() == nil {
				c.log.Warn("cannot send telemetry", zap.String("type", c.unsent.MessageType()), zap.Error(err))
			}
			// Whether or not the reader has noticed, this session is of no more use.
			_ = conn.Cut()
			return
		}
		c.unsent = nil
	}
}

func (c *Client) sendOne(ctx context.Context, conn *ws.Session, target string, m wire.Message) error {
	body, err := wire.Encode(m)
	if err != nil {
		return err
	}
	header := http.Header{}
	if c.cfg.SignFrame != nil {
		if header, err = c.cfg.SignFrame(ctx, target, body); err != nil {
			return err
		}
	}
	return conn.Send(ctx, wire.EncodeFrame(header, body))
}

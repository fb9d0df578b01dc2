package acs

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/runtime/backoff"
)

// Tasks runs tasks. Its methods may be called at once for different tasks.
type Tasks interface {
	// Accept takes on a task and returns when that is durable. A task that is
	// known already stays as it is.
	Accept(ctx context.Context, d task.Definition) error
	// Stop asks for a task's end. One that is not known ends in a report that it
	// is STOPPED.
	Stop(ctx context.Context, arn string) error
	// Reject reports a task STOPPED that was never taken on.
	Reject(ctx context.Context, arn, reason string) error
	// Running lists the tasks that are not asked to end.
	Running() []string
}

// Updates replaces the agent when ECS says so (§4.11).
type Updates interface {
	// Order takes a StageUpdateMessage or a PerformUpdateMessage and returns soon.
	// Each AckRequest and NackRequest that it leads to is given to answer, then or
	// later; one whose session has ended by then is lost, and ECS asks again.
	Order(m wire.Message, answer func(wire.Message))
	// Sent is told of each message that has left, so that an agent does not go
	// before its answer has.
	Sent(m wire.Message)
}

// Sequence keeps the number of the last task manifest over a restart.
type Sequence interface {
	// ManifestSequence is the number saved last, -1 for none.
	ManifestSequence() int64
	// SaveManifestSequence returns when the number is durable.
	SaveManifestSequence(n int64) error
}

// DefaultRuntimeVersion is the dockerVersion of the URL: see the package
// comment.
const DefaultRuntimeVersion = "containerd"

// inactiveWait is how long a host waits that ECS has declared inactive.
const inactiveWait = time.Hour

// Config is what a Client needs. What is not marked optional must be set.
type Config struct {
	ws.Service

	// Cluster is the configured cluster and ContainerInstanceARN the host's.
	Cluster, ContainerInstanceARN string
	// AgentVersion and AgentHash say which agent this is, and RuntimeVersion
	// (optional) is the URL's dockerVersion as it is.
	AgentVersion, AgentHash, RuntimeVersion string
	Tasks                                   Tasks
	// Attachments takes what is attached to the host; nil takes nothing (optional).
	Attachments Attachments
	Sequence    Sequence
	Credentials *credentials.Store
	Conversion  Conversion
	// Heartbeat is told of each heartbeat of the service, and Inactive that the
	// service takes this host for inactive (both optional).
	Heartbeat, Inactive func()
	// Updates takes StageUpdateMessage and PerformUpdateMessage; nil refuses them.
	Updates Updates
}

// Client keeps the ACS session of this host. Make it with New, and Run it once.
type Client struct {
	cfg Config
	log *zap.Logger
	// latest is the highest sequence number seen, of payloads and manifests. It
	// and manifest belong to the reader.
	latest int64
	// manifest is the id of the manifest whose stop candidates were sent and not
	// confirmed yet, "" for none.
	manifest string
	// connected says that a session of this process has been up, after which the
	// service need not send all credentials again.
	connected bool
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.RuntimeVersion == "" {
		cfg.RuntimeVersion = DefaultRuntimeVersion
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Credentials == nil {
		cfg.Credentials = credentials.New()
	}
	for _, f := range []*func(){&cfg.Heartbeat, &cfg.Inactive} {
		if *f == nil {
			*f = func() {}
		}
	}
	return &Client{cfg: cfg, log: cfg.Log}
}

// Run keeps a session until ctx ends, and answers why it did. It makes no
// difference what the service says: the tasks of this host go on.
func (c *Client) Run(ctx context.Context) error {
	c.latest = c.cfg.Sequence.ManifestSequence()
	keeper := ws.Keeper{
		Service: c.cfg.Service, Name: "ACS", Query: c.query, Serve: c.serve, Rest: c.rest,
		Policy: ws.Policy{
			Ladder:  backoff.Ladder{First: 250 * time.Millisecond, Last: 2 * time.Minute, Factor: 1.5, Jitter: 0.2},
			Settled: backoff.Jittered(time.Minute, time.Minute),
		},
		Refusal: func(body []byte) error {
			if e := wire.DecodeRefusal(body); e != nil {
				return e
			}
			return nil
		},
	}
	return keeper.Run(ctx)
}

// rest is how long to wait after the service refused or closed because the host
// is inactive, 0 after any other end.
func (c *Client) rest(end error) time.Duration {
	if !strings.Contains(end.Error(), wire.InactiveInstanceException) {
		return 0
	}
	c.log.Error("this container instance is inactive; its tasks go on, and the service is asked again later",
		zap.Duration("wait", inactiveWait), zap.Error(end))
	c.cfg.Inactive()
	return inactiveWait
}

// outgoing is how many messages may wait for the writer: the acks of a payload
// with many credentials, so that the reader is not held up by them.
const outgoing = 64

// serve uses one session until it ends.
func (c *Client) serve(ctx context.Context, conn *ws.Session, _ string) error {
	c.connected = true
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{Client: c, conn: conn, out: make(chan wire.Message, outgoing)}
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx) })
	end := conn.Run(ctx, s.handle)
	cancel(end)
	writer.Wait()
	return end
}

// query is what the websocket's URL says, §4.1.
func (c *Client) query() url.Values {
	return url.Values{
		"agentHash":            {c.cfg.AgentHash},
		"agentVersion":         {c.cfg.AgentVersion},
		"clusterArn":           {c.cfg.Cluster},
		"containerInstanceArn": {c.cfg.ContainerInstanceARN},
		"dockerVersion":        {c.cfg.RuntimeVersion},
		"protocolVersion":      {"2"},
		"sendCredentials":      {strconv.FormatBool(!c.connected)},
		"seqNum":               {"1"},
	}
}

// session is one connection's part of a Client.
type session struct {
	*Client

	conn *ws.Session
	// out holds what is to be sent, in order.
	out chan wire.Message
}

// send gives a message to the writer.
func (s *session) send(ctx context.Context, m wire.Message) {
	select {
	case s.out <- m:
	case <-ctx.Done():
	}
}

// write sends what is in out until the session ends.
func (s *session) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.out:
			frame, err := wire.Encode(m)
			if err == nil {
				err = s.conn.Send(ctx, frame)
			}
			if err != nil && ctx.Err() == nil {
				// The reader sees the broken connection by itself.
				s.log.Warn("cannot send ACS message", zap.String("type", m.MessageType()), zap.Error(err))
			}
			if err == nil && s.cfg.Updates != nil {
				s.cfg.Updates.Sent(m)
			}
		}
	}
}

// handle carries out one frame.
func (s *session) handle(ctx context.Context, frame []byte) {
	m, err := wire.Decode(frame)
	if err != nil {
		if _, unknown := errors.AsType[*wire.UnknownTypeError](err); unknown {
			s.log.Warn("ACS message is of a type this agent does not know", zap.Error(err))
		} else {
			s.log.Warn("ACS message cannot be read", zap.Error(err))
		}
		return
	}
	s.conn.Active()
	switch m := m.(type) {
	case *wire.HeartbeatMessage:
		s.send(ctx, &wire.HeartbeatAckRequest{MessageID: m.MessageID})
		s.cfg.Heartbeat()
	case *wire.PayloadMessage:
		s.payload(ctx, m)
	case *wire.IAMRoleCredentialsMessage:
		s.credentials(ctx, m)
	case *wire.TaskManifestMessage:
		s.taskManifest(ctx, m)
	case *wire.TaskStopVerificationAck:
		s.stopVerified(ctx, m)
	case *wire.AttachTaskNetworkInterfacesMessage:
		s.attachTask(ctx, m)
	case *wire.AttachInstanceNetworkInterfacesMessage:
		s.attachInstance(ctx, m)
	case *wire.ConfirmAttachmentMessage:
		s.confirm(ctx, m)
	case *wire.StageUpdateMessage:
		s.update(ctx, m, wire.NackRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	case *wire.PerformUpdateMessage:
		s.update(ctx, m, wire.NackRequest{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
	case *wire.CloseMessage:
		s.log.Info("ACS is going to close the connection", zap.String("message", m.Message))
	case *wire.ErrorMessage:
		s.log.Warn("ACS reports an error", zap.String("message", m.Message))
	case *wire.Exception:
		s.log.Warn("ACS reports an exception", zap.Error(m))
	default:
		s.log.Warn("ACS sent a message that only agents send", zap.String("type", m.MessageType()))
	}
}

// update answers an update message (§4.11); refused is what to refuse it with.
func (s *session) update(ctx context.Context, m wire.Message, refused wire.NackRequest) {
	if s.cfg.Updates != nil {
		s.cfg.Updates.Order(m, func(answer wire.Message) { s.send(ctx, answer) })
		return
	}
	refused.Reason = "Updates are disabled"
	s.send(ctx, &refused)
}

package localcluster

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/agent/wire/tcs"
)

// tcsSession takes the telemetry of one agent. All of it belongs to the
// goroutine of run.
type tcsSession struct {
	*session
	server *Server
	conn   *websocket.Conn
	who    *upgrade
	url    *url.URL // As the agent signs it.
	host   string
	log    *zap.Logger

	nextBeat, end time.Time
	// acks are the answers that a fault delays, oldest first.
	acks []lateAck
}

type lateAck struct {
	at  time.Time
	ack *tcs.Ack
}

func (s *Server) serveTCS(w http.ResponseWriter, r *http.Request) {
	who, err := s.checkUpgrade(r, "cluster", "containerInstance", "agentHash", "agentVersion")
	if err != nil {
		s.refuseUpgrade(w, r, err)
		return
	}
	s.sessions.Add(1)
	defer s.sessions.Done()
	conn, ok := s.accept(w, r)
	if !ok {
		return
	}
	now := time.Now()
	signed := *r.URL
	signed.Scheme, signed.Host = "https", r.Host
	t := &tcsSession{
		session: newSession(), server: s, conn: conn, who: who, url: &signed, host: r.Host,
		log:      s.log.Named("tcs").With(zap.String("instance", who.instanceARN)),
		nextBeat: now.Add(s.conf.Timing.Heartbeat), end: now.Add(s.conf.Timing.Lifetime),
	}
	s.hub.join(s.hub.tcs, who.instanceARN, t.session)
	t.log.Info("telemetry connected")
	p := startPump(r.Context(), conn)
	why := p.talk(r.Context(), t.session, t)
	s.hub.leave(s.hub.tcs, who.instanceARN, t.session)
	p.finish(conn, why)
	t.log.Info("telemetry disconnected", zap.Error(why))
}

// woken has nothing to tell: what is measured goes one way.
func (*tcsSession) woken(context.Context) error { return nil }

func (*tcsSession) command(_ context.Context, c command) error { return c.end() }

func (t *tcsSession) nextDue() time.Time {
	due := t.end
	if t.nextBeat.Before(due) {
		due = t.nextBeat
	}
	if len(t.acks) > 0 && t.acks[0].at.Before(due) {
		due = t.acks[0].at
	}
	return due
}

func (t *tcsSession) tick(ctx context.Context) error {
	now := time.Now()
	if !now.Before(t.end) {
		return &closing{websocket.StatusNormalClosure, "ConnectionExpired: Reconnect to continue"}
	}
	for len(t.acks) > 0 && !now.Before(t.acks[0].at) {
		if err := t.send(ctx, t.acks[0].ack); err != nil {
			return err
		}
		t.acks = t.acks[1:]
	}
	if now.Before(t.nextBeat) {
		return nil
	}
	t.nextBeat = now.Add(t.server.conf.Timing.Heartbeat)
	if t.server.faults.mute() {
		return nil
	}
	return t.send(ctx, &tcs.HeartbeatMessage{Healthy: true})
}

func (t *tcsSession) send(ctx context.Context, m tcs.Message) error {
	text, err := tcs.Encode(m)
	if err != nil {
		return err
	}
	t.server.telemetry.frame(Frame{Channel: "tcs", Instance: t.who.instanceARN, Text: string(text)})
	return send(ctx, t.conn, text)
}

// receive handles one frame: header block, signature, message, ack.
func (t *tcsSession) receive(ctx context.Context, frame []byte) error {
	header, body, err := tcs.DecodeFrame(frame)
	if err != nil {
		return t.send(ctx, &tcs.Exception{Kind: tcs.BadRequestException, Message: err.Error()})
	}
	t.server.telemetry.frame(Frame{Channel: "tcs", Incoming: true, Instance: t.who.instanceARN, Text: string(body)})
	if t.server.conf.AccessKey != "" {
		signed := &signedMessage{method: http.MethodGet, url: t.url, host: t.host, header: header, body: body}
		if refusal := t.server.verifier.verify(ctx, signed); refusal != nil {
			t.log.Warn("frame refused", zap.Error(refusal))
			if err := t.send(ctx, &tcs.Exception{Kind: tcs.AccessDeniedException, Message: refusal.Error()}); err != nil {
				return err
			}
			return &closing{websocket.StatusPolicyViolation, "signature of a frame is not good"}
		}
	}
	message, err := tcs.Decode(body)
	if err != nil {
		return t.send(ctx, &tcs.Exception{Kind: tcs.BadRequestException, Message: err.Error()})
	}
	t.server.telemetry.count(message.MessageType())
	switch m := message.(type) {
	case *tcs.PublishMetricsRequest:
		t.server.telemetry.publish(t.who.instanceARN, m)
		return t.ack(ctx, tcs.TypeAckMetric)
	case *tcs.PublishHealthRequest:
		if err := t.server.ledger.change(func(st *state) error { st.health(t.who.instanceARN, m); return nil }); err != nil {
			return err
		}
		return t.ack(ctx, tcs.TypeAckHealth)
	case *tcs.PublishInstanceStatusRequest:
		if err := t.server.ledger.change(func(st *state) error { st.instanceHealth(t.who.instanceARN, m); return nil }); err != nil {
			return err
		}
		return t.ack(ctx, tcs.TypeAckInstanceStatus)
	default:
		return t.send(ctx, &tcs.Exception{Kind: tcs.BadRequestException, Message: "unexpected " + m.MessageType()})
	}
}

// ack answers at once, or later when a fault says so.
func (t *tcsSession) ack(ctx context.Context, kind string) error {
	ack := &tcs.Ack{Kind: kind, Message: "ok"}
	if delay := t.server.faults.ackDelay(); delay > 0 {
		t.acks = append(t.acks, lateAck{at: time.Now().Add(delay), ack: ack})
		return nil
	}
	return t.send(ctx, ack)
}

// health takes the health of containers, and sums up that of their tasks.
func (s *state) health(instanceARN string, m *tcs.PublishHealthRequest) {
	for _, report := range m.Tasks {
		t := s.Tasks[report.TaskARN]
		if t == nil || t.ContainerInstanceARN != instanceARN {
			continue
		}
		for _, c := range report.Containers {
			if have := t.containerNamed(c.ContainerName); have != nil {
				have.HealthStatus = c.HealthStatus
			}
		}
		if sum := s.taskHealth(t); sum != t.HealthStatus {
			t.HealthStatus = sum
			t.Version++
		}
	}
}

// taskHealth is UNHEALTHY when an essential container is, HEALTHY when all
// essential containers with a check are, and UNKNOWN otherwise.
func (s *state) taskHealth(t *task) string {
	out := ecs.HealthUnknown
	unknown := false
	for _, d := range s.Definitions[t.TaskDefinitionARN].ContainerDefinitions {
		if d.HealthCheck == nil || !d.IsEssential() {
			continue
		}
		switch t.containerNamed(d.Name).HealthStatus {
		case ecs.HealthUnhealthy:
			return ecs.HealthUnhealthy
		case ecs.HealthHealthy:
			out = ecs.HealthHealthy
		default:
			unknown = true
		}
	}
	if unknown {
		return ecs.HealthUnknown
	}
	return out
}

func (s *state) instanceHealth(arn string, m *tcs.PublishInstanceStatusRequest) {
	i := s.Instances[arn]
	if i == nil {
		return
	}
	health := &ecs.ContainerInstanceHealthStatus{OverallStatus: tcs.StatusOK}
	for _, status := range m.Statuses {
		kind := status.Type
		if kind == tcs.CheckContainerRuntime {
			kind = "CONTAINER_RUNTIME"
		}
		health.Details = append(health.Details, ecs.InstanceHealthCheckResult{
			Type: kind, Status: status.Status, StatusReason: status.StatusReason,
			LastUpdated: ecs.At(status.LastUpdated.Time), LastStatusChange: ecs.At(status.LastStatusChange.Time),
		})
		if status.Status != tcs.StatusOK {
			health.OverallStatus = status.Status
		}
	}
	i.HealthStatus = health
}

package localcluster

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// acsSession talks to one agent. All of it belongs to the goroutine of run.
type acsSession struct {
	*session
	server *Server
	conn   *websocket.Conn
	who    *upgrade
	log    *zap.Logger

	// told is what the agent was told of each task on this connection.
	told map[string]string
	// waiting are the messages without an ack, by message id.
	waiting map[string]*delivery
	// beats are the heartbeats without an ack: when each was sent.
	beats map[string]time.Time
	// credentials are the expirations of the role credentials that were sent.
	credentials map[string]string
	lastPayload *acs.PayloadMessage

	nextBeat, nextRenewal, end time.Time
}

func (s *Server) serveACS(w http.ResponseWriter, r *http.Request) {
	who, err := s.checkUpgrade(r, "clusterArn", "containerInstanceArn", "agentHash", "agentVersion", "protocolVersion", "sendCredentials", "seqNum")
	if err != nil {
		s.refuseUpgrade(w, r, err)
		return
	}
	s.sessions.Add(1)
	defer s.sessions.Done()
	// The agent counts as connected before it knows that it is, so that a task can
	// be placed as soon as it has its connection.
	handle := newSession()
	s.hub.join(s.hub.acs, who.instanceARN, handle)
	defer s.hub.leave(s.hub.acs, who.instanceARN, handle)
	conn, ok := s.accept(w, r)
	if !ok {
		return
	}
	now := time.Now()
	timing := s.conf.Timing
	a := &acsSession{
		session: handle, server: s, conn: conn, who: who,
		log:  s.log.Named("acs").With(zap.String("instance", who.instanceARN)),
		told: map[string]string{}, waiting: map[string]*delivery{}, beats: map[string]time.Time{}, credentials: map[string]string{},
		nextBeat: now.Add(timing.Heartbeat), nextRenewal: now.Add(timing.Credentials / 2), end: now.Add(timing.Lifetime),
	}
	a.log.Info("agent connected", zap.String("agentVersion", r.URL.Query().Get("agentVersion")))
	p := startPump(r.Context(), conn)
	why := a.start(r)
	if why == nil {
		why = p.talk(r.Context(), handle, a)
	}
	s.hub.leave(s.hub.acs, who.instanceARN, handle)
	s.noteConnectivity(who.instanceARN)
	p.finish(conn, why)
	a.log.Info("agent disconnected", zap.Error(why))
}

// noteConnectivity records when the connection to the tasks' agent changed.
func (s *Server) noteConnectivity(instanceARN string) {
	err := s.ledger.change(func(st *state) error {
		st.connectivity(instanceARN)
		return nil
	})
	if err != nil {
		s.log.Warn("cannot record a change of connectivity", zap.Error(err))
	}
}

func (s *state) connectivity(instanceARN string) {
	for _, t := range s.Tasks {
		if t.ContainerInstanceARN == instanceARN {
			t.ConnectivityAt = now()
		}
	}
}

// start records who connected and tells the agent all that it should be running.
func (a *acsSession) start(r *http.Request) error {
	query := r.URL.Query()
	err := a.server.ledger.change(func(st *state) error {
		i := st.Instances[a.who.instanceARN]
		if i == nil {
			return &closing{websocket.StatusPolicyViolation, acs.InactiveInstanceException + ": instance is gone"}
		}
		i.VersionInfo = &ecs.VersionInfo{
			AgentVersion: query.Get("agentVersion"), AgentHash: query.Get("agentHash"), DockerVersion: query.Get("dockerVersion"),
		}
		i.seen(query.Get("agentHash"))
		st.connectivity(a.who.instanceARN)
		return nil
	})
	if err != nil {
		return err
	}
	if query.Get("sendCredentials") == "true" {
		if err := a.renew(r.Context(), true); err != nil {
			return err
		}
	}
	if err := a.deliver(r.Context()); err != nil {
		return err
	}
	return errors.Join(a.manifest(r.Context()), a.order(r.Context()))
}

// woken tells the agent what is new.
func (a *acsSession) woken(ctx context.Context) error {
	return errors.Join(a.deliver(ctx), a.order(ctx))
}

// nextDue is when something has to be done by the clock.
func (a *acsSession) nextDue() time.Time {
	due := a.end
	for _, at := range []time.Time{a.nextBeat, a.nextRenewal} {
		if at.Before(due) {
			due = at
		}
	}
	for _, d := range a.waiting {
		if d.due.Before(due) {
			due = d.due
		}
	}
	for _, sent := range a.beats {
		if late := sent.Add(a.server.conf.Timing.HeartbeatAck); late.Before(due) {
			due = late
		}
	}
	return due
}

func (a *acsSession) tick(ctx context.Context) error {
	now := time.Now()
	timing := a.server.conf.Timing
	if !now.Before(a.end) {
		err := a.send(ctx, &acs.CloseMessage{Message: "ConnectionExpired: Reconnect to continue"})
		return errors.Join(err, &closing{websocket.StatusNormalClosure, "ConnectionExpired: Reconnect to continue"})
	}
	for id, sent := range a.beats {
		if now.Sub(sent) >= timing.HeartbeatAck {
			return &closing{websocket.StatusPolicyViolation, "heartbeat " + id + " was not acknowledged"}
		}
	}
	if !now.Before(a.nextBeat) {
		a.nextBeat = now.Add(timing.Heartbeat)
		if !a.server.faults.mute() {
			id := uuid.NewString()
			a.beats[id] = now
			if err := a.send(ctx, &acs.HeartbeatMessage{MessageID: id, Healthy: true}); err != nil {
				return err
			}
		}
	}
	if !now.Before(a.nextRenewal) {
		a.nextRenewal = now.Add(timing.Credentials / 2)
		if err := a.renew(ctx, false); err != nil {
			return err
		}
	}
	return a.redeliver(ctx, now)
}

func (a *acsSession) command(ctx context.Context, c command) error {
	switch {
	case c.raw != "":
		a.server.telemetry.frame(Frame{Channel: "acs", Instance: a.who.instanceARN, Text: c.raw})
		return send(ctx, a.conn, []byte(c.raw))
	case c.again && a.lastPayload != nil:
		return a.send(ctx, a.lastPayload)
	case c.manifest:
		return a.manifest(ctx)
	}
	return c.end()
}

func (a *acsSession) send(ctx context.Context, m acs.Message) error {
	text, err := acs.Encode(m)
	if err != nil {
		return err
	}
	a.server.telemetry.frame(Frame{Channel: "acs", Instance: a.who.instanceARN, Text: string(text)})
	if payload, ok := m.(*acs.PayloadMessage); ok {
		a.server.milestones.sent(payload)
	}
	return send(ctx, a.conn, text)
}

func (a *acsSession) sent(c *acs.IAMRoleCredentials) {
	if c != nil {
		a.credentials[c.CredentialsID] = c.Expiration
	}
}

// renew sends role credentials that the agent does not have; all of them when it
// asked for all.
func (a *acsSession) renew(ctx context.Context, all bool) error {
	var messages []*acs.IAMRoleCredentialsMessage
	ids := map[string]bool{}
	a.server.ledger.view(func(st *state) {
		for _, t := range st.Tasks {
			if t.LastStatus == ecs.StatusStopped {
				continue
			}
			ids[t.RoleCredentials], ids[t.ExecutionCredentials] = true, true
			// Tasks that the agent never heard of get theirs with the payload.
			known := t.LastStatus != ecs.StatusPending || a.told[t.TaskARN] != "" || !t.PullStartedAt.IsZero()
			if t.ContainerInstanceARN != a.who.instanceARN || !known {
				continue
			}
			messages = append(messages, a.credentialsMessages(t, all)...)
		}
	})
	a.server.vault.retain(ids)
	for _, m := range messages {
		d := &delivery{message: m}
		a.waiting[m.MessageID] = d
		a.sent(m.RoleCredentials)
		if err := a.try(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (a *acsSession) credentialsMessages(t *task, all bool) []*acs.IAMRoleCredentialsMessage {
	var out []*acs.IAMRoleCredentialsMessage
	for _, role := range []struct{ id, arn, kind string }{
		{t.RoleCredentials, t.RoleARN, acs.RoleApplication},
		{t.ExecutionCredentials, t.ExecutionRoleARN, acs.RoleExecution},
	} {
		if role.id == "" {
			continue
		}
		set := a.server.vault.issue(role.id, role.arn)
		if all || a.credentials[role.id] != set.Expiration {
			out = append(out, &acs.IAMRoleCredentialsMessage{
				MessageID: uuid.NewString(), TaskARN: t.TaskARN, TaskClusterARN: t.ClusterARN, RoleType: role.kind, RoleCredentials: set,
			})
		}
	}
	return out
}

// manifest tells the agent which tasks the service believes it has.
func (a *acsSession) manifest(ctx context.Context) error {
	m := &acs.TaskManifestMessage{
		MessageID: uuid.NewString(), ClusterARN: a.who.clusterARN, ContainerInstanceARN: a.who.instanceARN,
		GeneratedAt: time.Now().UnixMilli(), Tasks: []acs.ManifestTask{},
	}
	err := a.server.ledger.change(func(st *state) error {
		m.Timeline = st.next()
		for _, t := range st.Tasks {
			if t.ContainerInstanceARN == a.who.instanceARN && t.LastStatus != ecs.StatusStopped {
				m.Tasks = append(m.Tasks, acs.ManifestTask{TaskARN: t.TaskARN, TaskClusterARN: t.ClusterARN, DesiredStatus: t.DesiredStatus})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(m.Tasks, func(x, y acs.ManifestTask) int { return strings.Compare(x.TaskARN, y.TaskARN) })
	for id, old := range a.waiting {
		if _, ok := old.message.(*acs.TaskManifestMessage); ok {
			delete(a.waiting, id) // This one is newer.
		}
	}
	d := &delivery{message: m}
	a.waiting[m.MessageID] = d
	return a.try(ctx, d)
}

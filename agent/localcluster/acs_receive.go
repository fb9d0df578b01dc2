package localcluster

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// receive handles one frame of the agent. What cannot be read is answered with
// an ErrorMessage and the connection is kept.
func (a *acsSession) receive(ctx context.Context, frame []byte) error {
	a.server.telemetry.frame(Frame{Channel: "acs", Incoming: true, Instance: a.who.instanceARN, Text: string(frame)})
	message, err := acs.Decode(frame)
	if err != nil {
		a.log.Warn("frame cannot be read", zap.Error(err))
		return a.send(ctx, &acs.ErrorMessage{Message: err.Error()})
	}
	switch m := message.(type) {
	case *acs.AckRequest:
		return errors.Join(a.acked(m), a.ordered(ctx, m.MessageID, ""))
	case *acs.NackRequest:
		a.log.Info("agent refused a message", zap.String("messageId", m.MessageID), zap.String("reason", m.Reason))
		delete(a.waiting, m.MessageID)
		return a.ordered(ctx, m.MessageID, m.Reason)
	case *acs.HeartbeatAckRequest:
		delete(a.beats, m.MessageID)
	case *acs.IAMRoleCredentialsAckRequest:
		// An ack of credentials that came inside a payload has the payload's id and
		// does not count for the payload.
		if d := a.waiting[m.MessageID]; d != nil {
			if _, ok := d.message.(*acs.IAMRoleCredentialsMessage); ok {
				delete(a.waiting, m.MessageID)
			}
		}
	case *acs.TaskStopVerificationMessage:
		return a.verifyStops(ctx, m)
	default:
		a.log.Warn("agent sent what agents do not send", zap.String("type", m.MessageType()))
	}
	return nil
}

// acked notes that the agent has a message, and moves the tasks it stops on.
func (a *acsSession) acked(m *acs.AckRequest) error {
	d := a.waiting[m.MessageID]
	delete(a.waiting, m.MessageID)
	if d == nil || len(d.stops) == 0 {
		return nil
	}
	return a.server.ledger.change(func(st *state) error {
		for _, arn := range d.stops {
			if t := st.Tasks[arn]; t != nil {
				t.told(true)
			}
		}
		return nil
	})
}

// verifyStops answers which of the tasks that the agent has and the manifest has
// not are really to be stopped: all but those that are meant to run.
func (a *acsSession) verifyStops(ctx context.Context, m *acs.TaskStopVerificationMessage) error {
	answer := &acs.TaskStopVerificationAck{MessageID: m.MessageID, GeneratedAt: time.Now().UnixMilli(), StopTasks: []acs.ManifestTask{}}
	a.server.ledger.view(func(st *state) {
		for _, candidate := range m.StopCandidates {
			t := st.Tasks[candidate.TaskARN]
			if t != nil && t.ContainerInstanceARN == a.who.instanceARN && t.DesiredStatus == ecs.StatusRunning {
				continue
			}
			candidate.DesiredStatus = ecs.StatusStopped
			answer.StopTasks = append(answer.StopTasks, candidate)
		}
	})
	return a.send(ctx, answer)
}

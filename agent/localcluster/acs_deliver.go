package localcluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// maxTries is how often a message is sent before the agent is given up on: it
// gets everything anew when it connects again.
const maxTries = 12

// attachTimeout is how long an agent may wait for a network interface.
const attachTimeout = 5 * time.Minute

// delivery is a message until it is acknowledged.
type delivery struct {
	message acs.Message
	tries   int
	due     time.Time
	stops   []string // ARNs of the tasks that it stops.
}

// try sends a message that wants an ack, and plans the next try.
func (a *acsSession) try(ctx context.Context, d *delivery) error {
	wait := a.server.conf.Timing.Redeliver << min(d.tries, 4)
	d.tries++
	d.due = time.Now().Add(wait)
	return a.send(ctx, d.message)
}

// deliver tells the agent what it was not told yet: all such tasks in one
// payload.
func (a *acsSession) deliver(ctx context.Context) error {
	if a.server.faults.hold() {
		return nil
	}
	payload := &acs.PayloadMessage{
		MessageID: uuid.NewString(), ClusterARN: a.who.clusterARN, ContainerInstanceARN: a.who.instanceARN,
		GeneratedAt: time.Now().UnixMilli(),
	}
	d := &delivery{message: payload}
	var interfaces []*acs.AttachTaskNetworkInterfacesMessage
	news := false
	a.server.ledger.view(func(st *state) { news = len(a.untold(st)) > 0 })
	if !news {
		return nil
	}
	err := a.server.ledger.change(func(st *state) error {
		tasks := a.untold(st)
		for _, t := range tasks {
			message, err := st.payloadTask(t, a.server.vault)
			if err != nil {
				return err
			}
			payload.Tasks = append(payload.Tasks, message)
		}
		for _, t := range tasks {
			if t.Interface != nil && t.LastStatus == ecs.StatusProvisioning && t.DesiredStatus == ecs.StatusRunning {
				interfaces = append(interfaces, a.attachment(t))
			}
			t.told(false)
			a.told[t.TaskARN] = t.DesiredStatus
			if t.DesiredStatus == ecs.StatusStopped {
				d.stops = append(d.stops, t.TaskARN)
			}
		}
		payload.SeqNum = st.next()
		return nil
	})
	if err != nil || len(payload.Tasks) == 0 {
		return err
	}
	for _, t := range payload.Tasks {
		a.sent(t.RoleCredentials)
		a.sent(t.ExecutionRoleCredentials)
	}
	if err := a.attach(ctx, interfaces); err != nil {
		return err
	}
	a.lastPayload = payload
	a.waiting[payload.MessageID] = d
	return a.try(ctx, d)
}

// untold are the tasks of this instance whose desired status the agent was not
// told on this connection, in the order in which they were made.
func (a *acsSession) untold(st *state) []*task {
	var out []*task
	for arn, t := range st.Tasks {
		if t.ContainerInstanceARN != a.who.instanceARN || a.told[arn] == t.DesiredStatus {
			continue
		}
		if t.LastStatus == ecs.StatusStopped {
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y *task) int {
		if c := x.CreatedAt.Compare(y.CreatedAt.Time); c != 0 {
			return c
		}
		return strings.Compare(x.TaskARN, y.TaskARN)
	})
	return out
}

// redeliver sends again what is due and was not acknowledged.
func (a *acsSession) redeliver(ctx context.Context, now time.Time) error {
	for id, d := range a.waiting {
		if now.Before(d.due) {
			continue
		}
		if d.tries >= maxTries {
			return &closing{websocket.StatusPolicyViolation, d.message.MessageType() + " was not acknowledged"}
		}
		if payload, ok := d.message.(*acs.PayloadMessage); ok {
			if payload = a.stillMeant(payload); len(payload.Tasks) == 0 {
				delete(a.waiting, id)
				continue
			}
			d.message = payload
		}
		if err := a.try(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// stillMeant is a payload without the tasks that ended, or are to end, since it
// was made: an agent that refused one of them must not get it again, and one
// that never heard of it must not start it.
func (a *acsSession) stillMeant(p *acs.PayloadMessage) *acs.PayloadMessage {
	out := *p
	a.server.ledger.view(func(st *state) {
		out.Tasks = slices.DeleteFunc(slices.Clone(p.Tasks), func(m *acs.Task) bool {
			t := st.Tasks[m.ARN]
			return t == nil || t.LastStatus == ecs.StatusStopped || t.DesiredStatus != m.DesiredStatus
		})
	})
	return &out
}

// attachment announces the network interface of an awsvpc task.
func (a *acsSession) attachment(t *task) *acs.AttachTaskNetworkInterfacesMessage {
	return &acs.AttachTaskNetworkInterfacesMessage{
		MessageID: uuid.NewString(), ClusterARN: a.who.clusterARN, ContainerInstanceARN: a.who.instanceARN,
		TaskARN: t.TaskARN, TaskClusterARN: t.ClusterARN, ElasticNetworkInterfaces: []acs.ENI{*t.Interface},
		WaitTimeoutMS: attachTimeout.Milliseconds(), GeneratedAt: time.Now().UnixMilli(),
	}
}

func (a *acsSession) attach(ctx context.Context, interfaces []*acs.AttachTaskNetworkInterfacesMessage) error {
	for _, m := range interfaces {
		d := &delivery{message: m}
		a.waiting[m.MessageID] = d
		if err := a.try(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

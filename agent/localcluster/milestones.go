package localcluster

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// maxMilestones is how many tasks have theirs remembered.
const maxMilestones = 1000

// Milestones are when the steps of a task were seen on the wire, at this end of it.
// What has not happened is zero; of what happens twice the first time counts.
type Milestones struct {
	// RunSent and StopSent are when the payload that wants the task run, and
	// stopped, was handed to the connection.
	RunSent  time.Time `json:"runSent,omitzero"`
	StopSent time.Time `json:"stopSent,omitzero"`
	// Running and Stopped are when the agent's report of it had arrived.
	Running time.Time `json:"running,omitzero"`
	Stopped time.Time `json:"stopped,omitzero"`
}

// milestones remembers the milestones of the latest tasks. Nothing decides by it.
type milestones struct {
	mu    sync.Mutex // Guards all below.
	tasks map[string]*Milestones
	order []string // The ARNs, the oldest first.
}

func newMilestones() *milestones { return &milestones{tasks: map[string]*Milestones{}} }

// note has set change the milestones of a task.
func (t *milestones) note(arn string, set func(*Milestones)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tasks[arn] == nil {
		if len(t.order) >= maxMilestones {
			delete(t.tasks, t.order[0])
			t.order = slices.Delete(t.order, 0, 1)
		}
		t.tasks[arn], t.order = &Milestones{}, append(t.order, arn)
	}
	set(t.tasks[arn])
}

// sent notes the tasks of a payload that is about to be sent.
func (t *milestones) sent(p *acs.PayloadMessage) {
	at := time.Now()
	for _, task := range p.Tasks {
		t.note(task.ARN, func(now *Milestones) {
			if task.DesiredStatus == ecs.StatusStopped {
				setDefault(&now.StopSent, at)
			} else {
				setDefault(&now.RunSent, at)
			}
		})
	}
}

// submitted notes a report that came at the time given.
func (s *Server) submitted(at time.Time, body []byte) {
	var in ecs.SubmitTaskStateChangeRequest
	if err := ecs.Decode(body, &in); err != nil {
		s.log.Debug("cannot note when a report came", zap.Error(err))
		return
	}
	s.milestones.note(in.Task, func(now *Milestones) {
		switch in.Status {
		case ecs.StatusRunning:
			setDefault(&now.Running, at)
		case ecs.StatusStopped:
			setDefault(&now.Stopped, at)
		}
	})
}

// Milestones gives the milestones of the latest tasks, by ARN.
func (s *Server) Milestones() map[string]Milestones {
	t := s.milestones
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]Milestones, len(t.tasks))
	for arn, m := range t.tasks {
		out[arn] = *m
	}
	return out
}

func (s *Server) serveMilestones(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, s.Milestones())
}

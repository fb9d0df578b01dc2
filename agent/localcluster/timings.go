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

// maxTimings is how many tasks' timings are remembered.
const maxTimings = 1000

// Timing is when a task's milestones were seen on the wire, at this end of it.
// What has not happened is zero; of what happens twice the first time counts.
type Timing struct {
	// RunSent and StopSent are when the payload that wants the task run, and
	// stopped, was handed to the connection.
	RunSent  time.Time `json:"runSent,omitzero"`
	StopSent time.Time `json:"stopSent,omitzero"`
	// Running and Stopped are when the agent's report of it had arrived.
	Running time.Time `json:"running,omitzero"`
	Stopped time.Time `json:"stopped,omitzero"`
}

// timings remembers the milestones of the latest tasks. Nothing decides by it.
type timings struct {
	mu    sync.Mutex // Guards all below.
	tasks map[string]*Timing
	order []string // The ARNs, the oldest first.
}

func newTimings() *timings { return &timings{tasks: map[string]*Timing{}} }

// note has set change a task's timing.
func (t *timings) note(arn string, set func(*Timing)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tasks[arn] == nil {
		if len(t.order) >= maxTimings {
			delete(t.tasks, t.order[0])
			t.order = slices.Delete(t.order, 0, 1)
		}
		t.tasks[arn], t.order = &Timing{}, append(t.order, arn)
	}
	set(t.tasks[arn])
}

// sent notes the tasks of a payload that is about to be sent.
func (t *timings) sent(p *acs.PayloadMessage) {
	at := time.Now()
	for _, task := range p.Tasks {
		t.note(task.ARN, func(now *Timing) {
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
	s.timings.note(in.Task, func(now *Timing) {
		switch in.Status {
		case ecs.StatusRunning:
			setDefault(&now.Running, at)
		case ecs.StatusStopped:
			setDefault(&now.Stopped, at)
		}
	})
}

// Timings gives the timings of the latest tasks, by ARN.
func (s *Server) Timings() map[string]Timing {
	t := s.timings
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]Timing, len(t.tasks))
	for arn, timing := range t.tasks {
		out[arn] = *timing
	}
	return out
}

func (s *Server) serveTimings(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Timings()) }

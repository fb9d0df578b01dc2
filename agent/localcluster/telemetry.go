package localcluster

import (
	"cmp"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berthd/berth/agent/wire/tcs"
)

// How much is remembered: websocket frames, their bytes, and tasks' metrics.
const (
	maxFrames     = 1000
	maxFrameBytes = 16 << 20
	maxMeasured   = 1000
)

// Frame is one websocket frame that was received or sent, with secrets masked.
type Frame struct {
	At       time.Time `json:"at"`
	Channel  string    `json:"channel"`  // The websocket: acs or tcs.
	Incoming bool      `json:"incoming"` // From the agent.
	Instance string    `json:"instance"` // The container instance ARN.
	Text     string    `json:"text"`     // The JSON, without the header block of tcs.
}

// TaskMetrics is the last metrics of a task.
type TaskMetrics struct {
	At       time.Time      `json:"at"`
	Instance string         `json:"instance"`
	Metrics  tcs.TaskMetric `json:"metrics"`
}

// Metrics is the answer of GET /_berth/metrics: the last metrics by task ARN, and
// how many messages of each kind came since the start.
type Metrics struct {
	Tasks    map[string]TaskMetrics `json:"tasks"`
	Received map[string]int         `json:"received"`
	Idle     map[string]bool        `json:"idle"` // By instance ARN: said that it tracks no container.
}

// telemetry remembers what was seen on the websockets. Nothing decides by it.
type telemetry struct {
	mu     sync.Mutex // Guards all below.
	frames []Frame
	bytes  int // Of the frames' texts.
	seen   Metrics
	order  []string // The task ARNs in seen, the first one seen first.
}

func newTelemetry() *telemetry {
	return &telemetry{seen: Metrics{Tasks: map[string]TaskMetrics{}, Received: map[string]int{}, Idle: map[string]bool{}}}
}

// keys matches what must not be shown, even though the keys are made up.
var keys = regexp.MustCompile(`"(secretAccessKey|sessionToken)":"[^"]*"`)

func (t *telemetry) frame(f Frame) {
	f.At = time.Now()
	f.Text = keys.ReplaceAllString(f.Text, `"$1":"***"`)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames = append(t.frames, f)
	t.bytes += len(f.Text)
	gone := 0
	for len(t.frames)-gone > maxFrames || (t.bytes > maxFrameBytes && len(t.frames)-gone > 1) {
		t.bytes -= len(t.frames[gone].Text)
		gone++
	}
	t.frames = slices.Delete(t.frames, 0, gone)
}

func (t *telemetry) publish(instance string, m *tcs.PublishMetricsRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Idle[instance] = m.Metadata.Idle
	for _, task := range m.TaskMetrics {
		if _, known := t.seen.Tasks[task.TaskARN]; !known {
			if len(t.order) >= maxMeasured {
				delete(t.seen.Tasks, t.order[0])
				t.order = slices.Delete(t.order, 0, 1)
			}
			t.order = append(t.order, task.TaskARN)
		}
		t.seen.Tasks[task.TaskARN] = TaskMetrics{At: time.Now(), Instance: instance, Metrics: task}
	}
}

func (t *telemetry) count(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Received[kind]++
}

// Metrics gives the last metrics of each task.
func (s *Server) Metrics() Metrics {
	t := s.telemetry
	t.mu.Lock()
	defer t.mu.Unlock()
	return Metrics{Tasks: maps.Clone(t.seen.Tasks), Received: maps.Clone(t.seen.Received), Idle: maps.Clone(t.seen.Idle)}
}

// Frames gives the last n websocket frames, the newest last.
func (s *Server) Frames(n int) []Frame {
	t := s.telemetry
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.frames[max(0, len(t.frames)-max(n, 0)):])
}

func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Metrics()) }

func (s *Server) serveFrames(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("n"), "100"))
	if err != nil {
		http.Error(w, "n: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.writeJSON(w, emptyNotNil(s.Frames(n)))
}

// Health is the answer of GET /_berth/health.
type Health struct {
	Endpoint  string `json:"endpoint"`
	Region    string `json:"region"`
	Instances int    `json:"instances"` // Registered and not inactive.
	Connected int    `json:"connected"` // With an open ACS connection.
	Tasks     int    `json:"tasks"`     // Not stopped.
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	out := Health{Endpoint: s.URL(), Region: s.conf.Region}
	s.ledger.view(func(st *state) {
		for arn, i := range st.Instances {
			if i.Status != "INACTIVE" {
				out.Instances++
			}
			if s.hub.connected(arn) {
				out.Connected++
			}
		}
		for _, t := range st.Tasks {
			if t.LastStatus != "STOPPED" {
				out.Tasks++
			}
		}
	})
	s.writeJSON(w, out)
}

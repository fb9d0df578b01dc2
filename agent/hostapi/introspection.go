package hostapi

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/berthd/berth/agent/health"
)

// IntrospectionConfig says what the introspection API tells. Instance and Tasks are needed; the rest may be left out.
type IntrospectionConfig struct {
	Instance Instance
	Tasks    Tasks
	Health   func() health.Verdict // /healthz; without it that path is unknown
	Metrics  http.Handler          // /metrics
	License  string                // text of /license
	// Profiling opens /debug/pprof/ (ECS_ENABLE_RUNTIME_STATS). It shows memory and command lines to whoever reaches the port.
	Profiling bool
}

// Introspection makes the API that ECS hosts have on port 51678, in the shapes the ECS agent gives it (host.md §2), and two paths of
// ours: /metrics, and /healthz, which unlike the ECS agent's health check says 503 when something is wrong. Only GET and HEAD are
// answered.
func Introspection(c IntrospectionConfig) http.Handler {
	mux := http.NewServeMux()
	commands := []string{"/v1/metadata", "/v1/tasks", "/license"}
	mux.HandleFunc("/v1/metadata", c.metadata)
	mux.HandleFunc("/v1/tasks", c.tasks)
	mux.HandleFunc("/license", c.license)
	if c.Metrics != nil {
		mux.Handle("/metrics", c.Metrics)
	}
	if c.Health != nil {
		mux.HandleFunc("/healthz", c.healthz)
	}
	if c.Profiling {
		commands = append(commands, "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile", "/debug/pprof/symbol", "/debug/pprof/trace")
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		body := struct{ AvailableCommands []string }{commands}
		text, err := json.Marshal(body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(text) // without a type: the ECS agent lets it be sniffed as text/plain
	})
	return readOnly(mux)
}

// IntrospectionServer wraps the handler in a server with the time limits of the ECS agent.
func IntrospectionServer(c IntrospectionConfig) *http.Server {
	write := 5 * time.Second
	if c.Profiling {
		write = 5 * time.Minute // a profile takes as long as it was asked to
	}
	return &http.Server{Handler: Introspection(c), ReadTimeout: 5 * time.Second, WriteTimeout: write, IdleTimeout: time.Minute}
}

func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (c IntrospectionConfig) metadata(w http.ResponseWriter, _ *http.Request) {
	s := c.Instance.Status()
	body := struct {
		Cluster              string
		ContainerInstanceArn *string
		Version              string
	}{Cluster: s.Cluster, Version: s.AgentVersion}
	if s.ContainerInstanceARN != "" {
		body.ContainerInstanceArn = &s.ContainerInstanceARN
	}
	writeIntrospection(w, http.StatusOK, body)
}

func (c IntrospectionConfig) license(w http.ResponseWriter, _ *http.Request) {
	if c.License == "" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(c.License))
}

func (c IntrospectionConfig) healthz(w http.ResponseWriter, _ *http.Request) {
	v := c.Health()
	status := http.StatusOK
	if !v.Healthy() {
		status = http.StatusServiceUnavailable
	}
	writeIntrospection(w, status, v)
}

// introTask and its parts are the ECS agent's shapes, in its order of keys.
type introTask struct {
	Arn           string
	DesiredStatus string `json:",omitempty"`
	KnownStatus   string
	Family        string
	Version       string
	Containers    []introContainer
}

type introContainer struct {
	DockerID     string `json:"DockerId"`
	DockerName   string
	Name         string
	Image        string
	ImageID      string
	CreatedAt    *time.Time     `json:",omitempty"`
	StartedAt    *time.Time     `json:",omitempty"`
	Ports        []introPort    `json:",omitempty"`
	Networks     []introNetwork `json:",omitempty"`
	Volumes      []introVolume  `json:",omitempty"`
	RestartCount *int           `json:",omitempty"`
}

type introPort struct {
	ContainerPort uint16
	Protocol      string
	HostPort      uint16 `json:",omitempty"`
}

type introNetwork struct {
	NetworkMode   string   `json:",omitempty"`
	IPv4Addresses []string `json:",omitempty"`
	IPv6Addresses []string `json:",omitempty"`
}

type introVolume struct {
	DockerName  string `json:",omitempty"`
	Source      string `json:",omitempty"`
	Destination string `json:",omitempty"`
}

func (c IntrospectionConfig) tasks(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	arn, id := q.Get("taskarn"), q.Get("dockerid")
	// A task that only this host knows has no ARN that ECS would recognise, but it is listed: it uses the host like any other.
	all := c.Tasks.Tasks()
	switch {
	case arn != "" && id != "":
		writeIntrospection(w, http.StatusBadRequest, introTask{})
	case arn != "":
		writeOne(w, all, func(t TaskView) bool { return t.ARN == arn })
	case id != "":
		writeOne(w, all, func(t TaskView) bool { return hasContainer(t, id) })
	default:
		list := struct{ Tasks []introTask }{Tasks: []introTask{}}
		for _, t := range all {
			list.Tasks = append(list.Tasks, introOf(t))
		}
		writeIntrospection(w, http.StatusOK, list)
	}
}

// shortID is the length up to which an id counts as a prefix.
const shortID = 12

func hasContainer(t TaskView, id string) bool {
	for _, c := range t.Containers {
		if c.ID == "" || c.Internal {
			continue
		}
		if c.ID == id || len(id) <= shortID && strings.HasPrefix(c.ID, id) {
			return true
		}
	}
	return false
}

// writeOne answers the only task that fits: none is 404, several are 400, both with the zero task as body.
func writeOne(w http.ResponseWriter, all []TaskView, fits func(TaskView) bool) {
	var found []TaskView
	for _, t := range all {
		if fits(t) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		writeIntrospection(w, http.StatusNotFound, introTask{})
	case 1:
		writeIntrospection(w, http.StatusOK, introOf(found[0]))
	default:
		writeIntrospection(w, http.StatusBadRequest, introTask{})
	}
}

func introOf(t TaskView) introTask {
	out := introTask{Arn: t.ARN, DesiredStatus: t.DesiredStatus, KnownStatus: t.KnownStatus, Family: t.Family, Version: t.Revision}
	if t.KnownStatus == "STOPPED" && t.DesiredStatus != "STOPPED" || t.KnownStatus == "RUNNING" && t.DesiredStatus == "PENDING" {
		out.DesiredStatus = ""
	}
	for _, c := range t.Containers {
		if !c.Internal {
			out.Containers = append(out.Containers, introContainerOf(c))
		}
	}
	return out
}

func introContainerOf(c ContainerView) introContainer {
	out := introContainer{
		DockerID: c.ID, DockerName: c.RuntimeName, Name: c.Name, Image: c.Image, ImageID: c.ImageID,
		CreatedAt: utc(c.CreatedAt), StartedAt: utc(c.StartedAt), RestartCount: c.RestartCount,
	}
	ports := c.Ports
	if len(ports) == 0 {
		ports = c.Asked
	}
	for _, p := range ports {
		out.Ports = append(out.Ports, introPort{ContainerPort: p.ContainerPort, Protocol: p.Protocol, HostPort: p.HostPort})
	}
	for _, n := range c.Networks {
		out.Networks = append(out.Networks, introNetwork{NetworkMode: n.Mode, IPv4Addresses: n.IPv4Addresses, IPv6Addresses: n.IPv6Addresses})
	}
	for _, v := range c.Volumes {
		out.Volumes = append(out.Volumes, introVolume{DockerName: v.Name, Source: v.Source, Destination: v.Destination})
	}
	return out
}

func utc(t *time.Time) *time.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}

// writeIntrospection writes without a line end, as the ECS agent does.
func writeIntrospection(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

package hostapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

// ask answers the recorded response and its body.
func ask(t *testing.T, h http.Handler, method, path string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w, w.Body.String()
}

const (
	webJSON = `{"Arn":"arn:aws:ecs:eu-north-1:123456789012:task/blue/0123456789abcdef0123456789abcdef","DesiredStatus":"RUNNING","KnownStatus":"RUNNING",` +
		`"Family":"web","Version":"7","Containers":[` +
		`{"DockerId":"web-1","DockerName":"ecs-web-7-web-1","Name":"web","Image":"nginx:1.27",` +
		`"ImageID":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",` +
		`"CreatedAt":"2026-01-02T15:04:05Z","StartedAt":"2026-01-02T15:04:06Z","Ports":[{"ContainerPort":80,"Protocol":"tcp","HostPort":32768}]},` +
		`{"DockerId":"log-1","DockerName":"ecs-web-7-log-1","Name":"log","Image":"fluent-bit:3","ImageID":"",` +
		`"CreatedAt":"2026-01-02T15:04:05Z","StartedAt":"2026-01-02T15:04:06Z","Volumes":[{"Source":"/var/log","Destination":"/logs"}],"RestartCount":2}]}`
	zeroJSON = `{"Arn":"","KnownStatus":"","Family":"","Version":"","Containers":null}`
)

// The bodies are those of host.md §2, to the byte.
func TestIntrospection(t *testing.T) {
	h := hostapi.Introspection(hostapi.IntrospectionConfig{Instance: hostapitest.New(), Tasks: hostapitest.New(), License: "Apache-2.0"})
	tests := []struct {
		path   string
		status int
		body   string
		kind   string
	}{
		{"/", 200, `{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}`, "text/plain; charset=utf-8"},
		{"/what/ever", 200, `{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}`, "text/plain; charset=utf-8"},
		{"/healthz", 200, `{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}`, "text/plain; charset=utf-8"},
		{"/v1/metadata", 200, `{"Cluster":"blue","ContainerInstanceArn":"arn:aws:ecs:eu-north-1:123456789012:container-instance/blue/4c1d","Version":"Berth - v1.2.3 (abcdef0)"}`, "application/json"},
		{"/v1/tasks?taskarn=arn:aws:ecs:eu-north-1:123456789012:task/blue/" + hostapitest.WebTask, 200, webJSON, "application/json"},
		{"/v1/tasks?dockerid=web-1", 200, webJSON, "application/json"},
		{"/v1/tasks?dockerid=web", 200, webJSON, "application/json"},
		{"/v1/tasks?dockerid=w&taskarn=x", 400, zeroJSON, "application/json"},
		{"/v1/tasks?taskarn=nope", 404, zeroJSON, "application/json"},
		{"/v1/tasks?dockerid=pause-1", 404, zeroJSON, "application/json"},
		{"/v1/tasks?dockerid=web-1-and-longer", 404, zeroJSON, "application/json"},
		{"/license", 200, "Apache-2.0", "text/plain"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			resp, body := ask(t, h, http.MethodGet, tt.path)
			if resp.Code != tt.status || body != tt.body || resp.Header().Get("Content-Type") != tt.kind {
				t.Errorf("%d %s\n%s\nwant %d %s\n%s", resp.Code, resp.Header().Get("Content-Type"), body, tt.status, tt.kind, tt.body)
			}
		})
	}
}

func TestIntrospectionListsTasks(t *testing.T) {
	h := hostapi.Introspection(hostapi.IntrospectionConfig{Instance: hostapitest.New(), Tasks: hostapitest.New()})
	_, body := ask(t, h, http.MethodGet, "/v1/tasks")
	if !strings.HasPrefix(body, `{"Tasks":[`+webJSON+`,{"Arn":`) || strings.Contains(body, "pause") {
		t.Error(body)
	}
	resp, _ := ask(t, h, http.MethodGet, "/license")
	if resp.Code != http.StatusInternalServerError {
		t.Errorf("/license without a licence: %d", resp.Code)
	}
	resp, _ = ask(t, h, http.MethodPost, "/v1/tasks")
	if resp.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.Code)
	}
}

func TestIntrospectionBeforeRegistrationAndWhileStopping(t *testing.T) {
	host := hostapitest.New()
	host.View.ContainerInstanceARN = ""
	tasks := fixedTasks{host, []hostapi.TaskView{{ID: "a", ARN: "a", KnownStatus: "STOPPED", DesiredStatus: "RUNNING"}, {ID: "b", ARN: "b", KnownStatus: "RUNNING", DesiredStatus: "STOPPED"}}}
	h := hostapi.Introspection(hostapi.IntrospectionConfig{Instance: host, Tasks: tasks})
	if _, body := ask(t, h, http.MethodGet, "/v1/metadata"); !strings.Contains(body, `"ContainerInstanceArn":null`) {
		t.Error(body)
	}
	want := `{"Tasks":[{"Arn":"a","KnownStatus":"STOPPED","Family":"","Version":"","Containers":null},` +
		`{"Arn":"b","DesiredStatus":"STOPPED","KnownStatus":"RUNNING","Family":"","Version":"","Containers":null}]}`
	if _, body := ask(t, h, http.MethodGet, "/v1/tasks"); body != want {
		t.Error(body)
	}
}

// What is not published yet is shown as the task definition has it.
func TestIntrospectionPorts(t *testing.T) {
	asked := []hostapi.PortView{{ContainerPort: 80, Protocol: "tcp"}}
	tasks := fixedTasks{hostapitest.New(), []hostapi.TaskView{{ID: "a", ARN: "a", KnownStatus: "PENDING", Containers: []hostapi.ContainerView{
		{Name: "early", Asked: asked},
		{Name: "late", Asked: asked, Ports: []hostapi.PortView{{ContainerPort: 80, Protocol: "tcp", HostPort: 32768, HostIP: "::"}}},
	}}}}
	_, body := ask(t, hostapi.Introspection(hostapi.IntrospectionConfig{Instance: hostapitest.New(), Tasks: tasks}), http.MethodGet, "/v1/tasks")
	for _, want := range []string{`"Ports":[{"ContainerPort":80,"Protocol":"tcp"}]`, `"Ports":[{"ContainerPort":80,"Protocol":"tcp","HostPort":32768}]`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

func TestHealthzMetricsAndProfiling(t *testing.T) {
	verdict := health.Verdict{Status: health.OK}
	h := hostapi.Introspection(hostapi.IntrospectionConfig{
		Instance: hostapitest.New(), Tasks: hostapitest.New(), Profiling: true,
		Health:  func() health.Verdict { return verdict },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "# EOF") }),
	})
	if resp, body := ask(t, h, http.MethodGet, "/healthz"); resp.Code != http.StatusOK {
		t.Errorf("healthy: %d %s", resp.Code, body)
	}
	verdict.Status = health.Impaired
	if resp, body := ask(t, h, http.MethodGet, "/healthz"); resp.Code != http.StatusServiceUnavailable {
		t.Errorf("impaired: %d %s", resp.Code, body)
	}
	if _, body := ask(t, h, http.MethodGet, "/metrics"); body != "# EOF" {
		t.Error(body)
	}
	if _, body := ask(t, h, http.MethodGet, "/"); !strings.Contains(body, "/debug/pprof/trace") {
		t.Error(body)
	}
	if resp, _ := ask(t, h, http.MethodGet, "/debug/pprof/cmdline"); resp.Code != http.StatusOK {
		t.Errorf("pprof: %d", resp.Code)
	}
}

// fixedTasks is a host with other tasks on it.
type fixedTasks struct {
	*hostapitest.Host

	views []hostapi.TaskView
}

func (f fixedTasks) Tasks() []hostapi.TaskView { return f.views }

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/config"
)

func serveText(t *testing.T, text string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/metadata" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprint(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestECSAgentIsFound(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "docker.sock")
	for _, c := range []struct {
		what, says string
		want       []string
	}{
		{
			"the ECS agent", `{"Cluster":"prod","ContainerInstanceArn":"arn:aws:ecs:eu-west-1:1:container-instance/prod/1a","Version":"Amazon ECS Agent - v1.105.1 (*abc)"}`,
			[]string{
				"Amazon ECS Agent - v1.105.1", "--cluster prod", "--container-instances arn:aws:ecs:eu-west-1:1:container-instance/prod/1a",
				"--status DRAINING", "systemctl disable --now ecs", "systemctl start berth",
			},
		},
		{"the ECS agent before it is registered", `{"Cluster":"prod","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.2.3"}`, []string{"--container-instances ARN"}},
		{"another Berth, which the lock of the state keeps away", `{"Cluster":"prod","ContainerInstanceArn":null,"Version":"Berth - v1.2.3"}`, nil},
		{"something else on the port", `hello`, nil},
	} {
		err := neighbourhood{introspection: serveText(t, c.says), docker: nobody}.look(t.Context())
		if errors.Is(err, ErrECSAgent) != (c.want != nil) {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		for _, text := range c.want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q is not in: %v", c.what, text, err)
			}
		}
	}
}

func TestTasksOfTheECSAgentAreFound(t *testing.T) {
	dir, err := os.MkdirTemp("", "docker") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "docker.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked, answer string
	docker := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path + " " + r.URL.Query().Get("filters")
		_, _ = fmt.Fprint(w, answer)
	}))
	_ = docker.Listener.Close() // its own, on TCP
	docker.Listener = listener
	docker.Start()
	t.Cleanup(docker.Close)

	n := neighbourhood{introspection: "http://127.0.0.1:1", docker: socket}
	answer = `[{"Names":["/ecs-web-1-web-abc"]},{"Names":["/ecs-web-1-db-def"]}]`
	err = n.look(t.Context())
	if !errors.Is(err, ErrECSAgent) || !strings.Contains(err.Error(), "ecs-web-1-web-abc, ecs-web-1-db-def") || !strings.Contains(err.Error(), "docker stop") {
		t.Errorf("tasks run in Docker: %v", err)
	}
	if want := `/containers/json {"label":["com.amazonaws.ecs.task-arn"],"status":["running"]}`; asked != want {
		t.Errorf("Docker was asked %s, want %s", asked, want)
	}
	answer = `[]`
	if err := n.look(t.Context()); err != nil {
		t.Errorf("Docker runs none: %v", err)
	}
}

// An agent that was given another port is meant to be a second one.
func TestSecondAgentOnPurpose(t *testing.T) {
	c := &config.Config{Metadata: config.Metadata{Introspection: "127.0.0.1:0"}}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nothing must be asked"))
	if err := FindECSAgent(ctx, c); err != nil {
		t.Error(err)
	}
}

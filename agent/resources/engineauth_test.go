package resources

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/agent/task"
)

func TestKeyring(t *testing.T) {
	const docker = `{
		"https://index.docker.io/v1/": {"username": "hub", "password": "p"},
		"http://registry.example:5000": {"username": "all", "password": "p"},
		"registry.example:5000/team": {"username": "team", "password": "p", "email": "x"},
		"quay.io/a/b/": {"username": "deep", "password": "p"}}`
	// hub:p, and old:p with the zero bytes that old Docker clients left.
	const dockercfg = `{"https://index.docker.io/v1/": {"auth": "aHViOnA=", "email": "x"}, "quay.io": {"auth": "b2xkOnAAAA=="}}`
	for _, tc := range []struct{ kind, data, image, want string }{
		{"docker", docker, "nginx", "hub"},
		{"docker", docker, "nginx:1.25", "hub"},
		{"docker", docker, "library/nginx@sha256:0000", "hub"},
		{"docker", docker, "docker.io/me/app", "hub"},
		{"docker", docker, "index.docker.io/me/app:1", "hub"},
		{"docker", docker, "registry.example:5000/web", "all"},
		{"docker", docker, "registry.example:5000/team/web:1", "team"},
		{"docker", docker, "registry.example:5000/teamwork/web:1", "all"},
		{"docker", docker, "registry.example/web", ""},
		{"docker", docker, "registry.example:50001/web", ""},
		{"docker", docker, "quay.io/a/b", "deep"},
		{"docker", docker, "quay.io/a/b:latest", "deep"},
		{"docker", docker, "quay.io/a/bc", ""},
		{"docker", docker, "localhost/web", ""},
		{"dockercfg", dockercfg, "nginx", "hub"},
		{"dockercfg", dockercfg, "quay.io/x/y:1", "old"},
		{"", "", "nginx", ""},
	} {
		ring, err := readKeyring(tc.kind, tc.data)
		if err != nil {
			t.Fatal(err)
		}
		auth := ring.of(tc.image)
		if got := (auth != nil && auth.Username == tc.want && auth.Password == "p") || (auth == nil && tc.want == ""); !got {
			t.Errorf("%s %s: got %v, want %s", tc.kind, tc.image, auth, tc.want)
		}
	}
}

func TestKeyringErrors(t *testing.T) {
	for _, tc := range []struct{ kind, data, want string }{
		{"helper", "{}", `cannot use ECS_ENGINE_AUTH_TYPE="helper": it is neither docker nor dockercfg`},
		{"docker", `{"r": "hunter2"`, "cannot read ECS_ENGINE_AUTH_DATA: it is no JSON object of registries"},
		{"dockercfg", `{"r": {"auth": "hunter2"}}`, "cannot read ECS_ENGINE_AUTH_DATA: the auth of r is not base64 of user:password"},
	} {
		if _, err := readKeyring(tc.kind, tc.data); err == nil || err.Error() != tc.want {
			t.Errorf("%s %s: %v, want %s", tc.kind, tc.data, err, tc.want)
		}
	}
}

// Settings that cannot be used are said once, without what is in them, and images
// are pulled without.
func TestKeyringThatCannotBeUsed(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	r := New(Config{AuthType: "docker", AuthData: "hunter2", Log: zap.New(core)})
	if auth, err := r.Auth(t.Context(), definition(), &task.Container{Image: "nginx"}); auth != nil || err != nil {
		t.Errorf("%v, %v", auth, err)
	}
	all := logged.All()
	if len(all) != 1 || strings.Contains(all[0].ContextMap()["error"].(string), "hunter2") {
		t.Errorf("logged %v", all)
	}
}

func TestAuthFromKeyring(t *testing.T) {
	r := New(Config{AuthType: "docker", AuthData: `{"quay.io":{"username":"u","password":"p"}}`})
	auth, err := r.Auth(t.Context(), definition(), &task.Container{Image: "quay.io/web:1"})
	if err != nil || auth == nil || auth.Username != "u" {
		t.Errorf("%v, %v", auth, err)
	}
}

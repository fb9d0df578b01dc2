package taskmeta

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

// known are the sockets that a test's host knows, by client.
type known map[netip.AddrPort]knownSocket

func (k known) Socket(client, _ netip.AddrPort) (Socket, error) {
	s, ok := k[client]
	if !ok {
		return nil, errNoSocket
	}
	return s, s.err
}

// knownSocket is of a task, or of root.
type knownSocket struct {
	task string
	root bool
	err  error
}

func (s knownSocket) InTask(id string) (bool, error) { return s.task == id, nil }
func (s knownSocket) RootOutside() (bool, error)     { return s.root && s.task == "", nil }

// host is a caller from the host's namespace.
func (w *world) from(socket knownSocket) string {
	client := netip.MustParseAddrPort(fromHost + ":4000")
	w.cfg.Peers = known{client: socket}
	return fromHost
}

const (
	keysOfWeb = `{"RoleArn":"arn:aws:iam::123456789012:role/web","AccessKeyId":"AKIA1","SecretAccessKey":"secret","Token":"token","Expiration":"2026-03-04T11:06:07Z"}`
	unknown   = `{"code":"InvalidIdInRequest","message":"CredentialsV2Request: Credentials not found","HTTPErrorCode":400}`
)

// TestCredentials: who gets which, and what the others are told (spec/host.md
// §1.14). An id of another task is as good as none.
func TestCredentials(t *testing.T) {
	inside, outside, thief := knownSocket{task: "host"}, knownSocket{root: true}, knownSocket{task: "web", root: true}
	for _, tc := range []struct {
		name, from string
		host       *knownSocket
		path       string
		status     int
		body       string
	}{
		{"the task", fromWeb, nil, "/v2/credentials/role", 200, keysOfWeb},
		{"another container of the task", fromSide, nil, "/v2/credentials/role", 200, keysOfWeb},
		{"the old form", fromWeb, nil, "/v1/credentials?id=role", 200, keysOfWeb},
		{"the execution role", fromWeb, nil, "/v2/credentials/execution", 200, `{"RoleArn":"","AccessKeyId":"AKIA2","SecretAccessKey":"","Token":"","Expiration":""}`},
		{"no id", fromWeb, nil, "/v2/credentials/", 400, `{"code":"NoIdInRequest","message":"CredentialsV2Request: No Credential ID in the request","HTTPErrorCode":400}`},
		{"no id, old form", fromWeb, nil, "/v1/credentials", 400, `{"code":"NoIdInRequest","message":"CredentialsV1Request: No Credential ID in the request","HTTPErrorCode":400}`},
		{"unknown id", fromWeb, nil, "/v2/credentials/nonsense", 400, unknown},
		{"id with a slash", fromWeb, nil, "/v2/credentials/a/b", 400, unknown},
		{"a neighbour", fromVPC, nil, "/v2/credentials/role", 400, unknown},
		{"an address that is nobody's", fromNobody, nil, "/v2/credentials/role", 400, unknown},
		{"root on the host", fromHost, &outside, "/v2/credentials/role", 400, unknown},
		{"a task in host mode asks for another's", fromHost, &inside, "/v2/credentials/role", 400, unknown},
		{"the task in host mode, too early", fromHost, &inside, "/v2/credentials/hostrole", 503, `{"code":"CredentialsUninitialized","message":"CredentialsV2Request: Credentials uninitialized for ID","HTTPErrorCode":503}`},
		{"another asks for those of a task in host mode", fromHost, &thief, "/v2/credentials/hostrole", 400, unknown},
		{"a neighbour asks for those of a task in host mode", fromSide, nil, "/v2/credentials/hostrole", 400, unknown},
		{"nobody can tell who it is", fromHost, &knownSocket{err: errors.New("out of order")}, "/v2/credentials/hostrole", 400, unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			if tc.host != nil {
				w.from(*tc.host)
			}
			a := w.ask(t, tc.from, http.MethodGet, tc.path)
			if a.status != tc.status || a.body != tc.body || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// TestMountHelper: what mounts a file system with the task's role is root on the
// host.
func TestMountHelper(t *testing.T) {
	w := newWorld(t)
	some := bridgeTask()
	some.State.Definition.Volumes = []task.Volume{{Name: "v", EFS: &task.EFS{IAM: true}}}
	w.cfg.Index.Put(some)
	for _, tc := range []struct {
		socket knownSocket
		status int
	}{
		{knownSocket{root: true}, 200},
		{knownSocket{}, 400},
		{knownSocket{root: true, task: "host"}, 400},
	} {
		from := w.from(tc.socket)
		if a := w.ask(t, from, http.MethodGet, "/v2/credentials/role"); a.status != tc.status {
			t.Errorf("%+v: %d %s", tc.socket, a.status, a.body)
		}
	}
}

// TestRemovedTask: keys that the agent still has of a task it does not know are
// nobody's.
func TestRemovedTask(t *testing.T) {
	w := newWorld(t)
	w.cfg.Index.Drop(arn("web"))
	if a := w.ask(t, fromWeb, http.MethodGet, "/v2/credentials/role"); a.body != unknown {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestAuditLines: one for each request, and no id in any (spec/host.md §1.15).
func TestAuditLines(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/v2/credentials/role", "/v1/credentials?id=execution", "/v2/credentials/nonsense"} {
		w.ask(t, fromWeb, http.MethodGet, path)
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	const at = `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ `
	const who = "arn:aws:ecs:eu-west-1:123456789012:task/blue/web"
	const where = " 2 blue arn:aws:ecs:eu-west-1:123456789012:container-instance/blue/4c1d$"
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	want := []string{
		at + `200 172.31.240.5:4000 "/v2/credentials" "tester" ` + who + " GetCredentials" + where,
		at + `200 172.31.240.5:4000 "/v1/credentials" "tester" ` + who + " GetCredentialsExecutionRole" + where,
		at + `400 172.31.240.5:4000 "/v2/credentials" "tester" - $`,
	}
	if len(lines) != len(want) {
		t.Fatalf("lines %q", lines)
	}
	for i, w := range want {
		if !regexp.MustCompile(w).MatchString(lines[i]) {
			t.Errorf("line %q, want %s", lines[i], w)
		}
	}
	if got := quoted("a\"b\nc\x7f"); got != `"a_b_c_"` {
		t.Errorf("quoted: %s", got)
	}
}

// TestRotation: by size with the newest kept, by the hour, and under somebody
// else's hands.
func TestRotation(t *testing.T) {
	files := func(dir string) string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e.Name()+"="+strings.ReplaceAll(string(text), "\n", ";"))
		}
		return strings.Join(out, " ")
	}
	start := time.Date(2026, 3, 4, 5, 59, 0, 0, time.UTC)
	log := func(c AuditConfig) *auditLog {
		a := newAuditLog(c, zap.NewNop())
		t.Cleanup(func() {
			if err := a.close(); err != nil {
				t.Error(err)
			}
		})
		return a
	}

	dir := t.TempDir()
	a := log(AuditConfig{Path: filepath.Join(dir, "a", "audit.log"), MaxBytes: 10, Keep: 2})
	for i := range 9 {
		a.write(fmt.Sprintf("%d234", i), start)
	}
	if got, want := files(filepath.Join(dir, "a")), "audit.log=8234; audit.log.3=4234;5234; audit.log.4=6234;7234;"; got != want {
		t.Errorf("by size: %s, want %s", got, want)
	}
	if err := os.Rename(a.cfg.Path, a.cfg.Path+".moved"); err != nil {
		t.Fatal(err)
	}
	a.write("new", start)
	if got, err := os.ReadFile(a.cfg.Path); err != nil || string(got) != "new\n" {
		t.Errorf("after somebody moved it: %q, %v", got, err)
	}

	dir = t.TempDir()
	a = log(AuditConfig{Path: filepath.Join(dir, "audit.log"), Hourly: true, Keep: 1})
	for i := range 4 {
		a.write(fmt.Sprintf("%d", i), start.Add(time.Duration(i)*40*time.Minute))
	}
	if got, want := files(dir), "audit.log=2;3; audit.log.2026-03-04-06=1;"; got != want {
		t.Errorf("by the hour: %s, want %s", got, want)
	}

	log(AuditConfig{}).write("nowhere", start)
	log(AuditConfig{Path: "/proc/nowhere/audit.log"}).write("nowhere", start) // Said in the log, and no more.
}

// TestLimit: each container has its own bucket, those in host mode by the id
// they ask with; credentials have none (spec/host.md §1.5).
func TestLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Rate, c.Burst = 1, 2 })
	statuses := func(n int, from, path string) string {
		var out []string
		for range n {
			out = append(out, fmt.Sprint(w.ask(t, from, http.MethodGet, path).status))
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct {
		n                int
		from, path, want string
	}{
		{3, fromWeb, "/v4/web-id", "200 200 429"},
		{1, fromWeb, "/v4/side-id/task", "429"},
		{3, fromWeb, "/v2/credentials/role", "200 200 200"},
		{1, fromSide, "/v4/web-id", "200"},
		{3, fromHost, "/v4/host-id", "200 200 429"},
		{3, fromHost, "/v4/none", "404 404 429"},
		{1, fromHost, "/v4/none2", "429"},
		{1, fromHost, "/v4/web-id", "200"},
	} {
		if got := statuses(tc.n, tc.from, tc.path); got != tc.want {
			t.Errorf("%s from %s: %s, want %s", tc.path, tc.from, got, tc.want)
		}
	}
	a := w.ask(t, fromWeb, http.MethodGet, "/v4/web-id")
	if a.status != 429 || a.body != "You have reached maximum request limit." || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	for name, want := range map[string]string{
		"X-Rate-Limit-Limit": "1.00", "X-Rate-Limit-Duration": "1",
		"X-Rate-Limit-Request-Remote-Addr": "172.31.240.5:4000", "X-Rate-Limit-Request-Forwarded-For": "",
	} {
		if got := a.header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "audit.log"))
	if err != nil || !strings.Contains(string(text), ` 429 172.31.240.5:4000 "/v4/web-id" "tester" - `+"\n") {
		t.Errorf("audit log %q, %v", text, err)
	}
}

// TestLimiterForgets: buckets that are full again are not kept.
func TestLimiterForgets(t *testing.T) {
	l, now := newLimiter(10, 20), time.Unix(1000, 0)
	for i := range 10 * crowd {
		l.allow(fmt.Sprint(i), now.Add(time.Duration(i)*time.Second))
	}
	if len(l.buckets) > crowd {
		t.Errorf("%d buckets", len(l.buckets))
	}
}

// TestKeysDoNotPrint: not even by accident.
func TestKeysDoNotPrint(t *testing.T) {
	if text := fmt.Sprintf("%v %+v %#v %s", credentialsShape{SecretAccessKey: "secret"}, credentialsShape{SecretAccessKey: "secret"},
		credentialsShape{SecretAccessKey: "secret"}, credentials.Set{SecretAccessKey: "secret"}); strings.Contains(text, "secret") {
		t.Error(text)
	}
}

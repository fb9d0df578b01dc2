package taskmeta

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/wire/ecs"
	"github.com/berthd/berth/ipam"
)

// TestGolden: every version and shape, byte for byte.
func TestGolden(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Tags = &tagBook{} })
	for _, tc := range []struct{ file, from, path string }{
		{"v4-container.json", fromNobody, "/v4/web-id"},
		{"v4-container-ended.json", fromNobody, "/v4/side-id"},
		{"v4-task.json", fromWeb, "/v4/web-id/task"},
		{"v4-task-tags.json", fromWeb, "/v4/web-id/taskWithTags"},
		{"v4-stats.json", fromWeb, "/v4/web-id/stats"},
		{"v4-task-stats.json", fromWeb, "/v4/web-id/task/stats"},
		{"v4-vpc-task.json", fromVPC, "/v4/vpc-id/task"},
		{"v4-vpc-stats.json", fromVPC, "/v4/vpc-id/stats"},
		{"v4-host-container.json", fromHost, "/v4/host-id"},
		{"v3-container.json", fromWeb, "/v3/web-id"},
		{"v3-task.json", fromWeb, "/v3/web-id/task"},
		{"v3-stats.json", fromWeb, "/v3/web-id/stats"},
		{"v3-vpc-container.json", fromVPC, "/v3/vpc-id"},
		{"v2-task.json", fromVPC, "/v2/metadata"},
		{"v2-task.json", fromVPC, "/v2/metadata/"},
		{"v2-task-tags.json", fromVPC, "/v2/metadataWithTags"},
		{"v2-container.json", fromVPC, "/v2/metadata/0e"},
		{"v2-stats.json", fromVPC, "/v2/stats/0e"},
		{"v2-task-stats.json", fromVPC, "/v2/stats"},
	} {
		a := w.ask(t, tc.from, http.MethodGet, tc.path)
		if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", tc.path, a.status, a.header.Get("Content-Type"))
		}
		golden(t, tc.file, a.body)
	}
}

// TestAnswers: what is not metadata of a container that is there, word for word
// (spec/host.md §1.1, §1.11, §1.12).
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		from, path string
		status     int
		body       string
	}{
		{fromWeb, "/", 404, "404 page not found\n"},
		{fromWeb, "/v5/web-id", 404, "404 page not found\n"},
		{fromWeb, "/v4/", 404, "404 page not found\n"},
		{fromWeb, "/v4/web-id/", 404, "404 page not found\n"},
		{fromWeb, "/v4/web-id/tasks", 404, "404 page not found\n"},
		{fromWeb, "/v4/web-id/task/", 404, "404 page not found\n"},
		{fromWeb, "/v2", 404, "404 page not found\n"},
		{fromWeb, "/v2/credentials", 404, "404 page not found\n"},
		{fromWeb, "/v2/metadata/a/b", 404, "404 page not found\n"},

		{fromWeb, "/v2/metadata", 400, `"Unable to get task arn from request: unable to associate '172.31.240.5' with task"`},
		{fromNobody, "/v2/stats/", 400, `"Unable to get task arn from request: unable to associate '172.31.240.99' with task"`},
		{fromVPC, "/v2/metadata/none", 400, `"Unable to generate metadata for container 'none'"`},
		{fromVPC, "/v2/stats/none", 400, `"Unable to get container stats for: none"`},

		{fromWeb, "/v3/none", 500, `"V3 container metadata handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: none"`},
		{fromWeb, "/v3/none/task", 500, `"V3 task metadata handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: none"`},
		{fromWeb, "/v3/none/stats", 400, `"V3 container stats handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: none"`},
		{fromWeb, "/v3/none/task/stats", 400, `"V3 task stats handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: none"`},
		{fromWeb, "/v3/host-id/stats", 400, `"Unable to get container stats for: 0f"`},
		{fromWeb, "/v3/side-id/stats", 200, `null`},

		{fromWeb, "/v4/none", 404, `"V4 container metadata handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: none"`},
		{fromWeb, "/v4/wait-id", 404, `"V4 container metadata handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: wait-id"`},
		{fromWeb, "/v4/none/task", 404, `"V4 task metadata handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: none"`},
		{fromWeb, "/v4/none/taskWithTags", 404, `"V4 task metadata handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: none"`},
		{fromWeb, "/v4/none/stats", 404, `"V4 container stats handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: none"`},
		{fromWeb, "/v4/none/task/stats", 404, `"V4 task stats handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: none"`},
		{fromWeb, "/v4/host-id/stats", 500, `"Unable to get container stats for: 0f"`},
		{fromWeb, "/v4/side-id/stats", 200, `{}`},

		{fromWeb, "/v4/web-id/associations/gpu", 200, `{"Associations":["GPU-1"]}`},
		{fromWeb, "/v3/web-id/associations/elastic-inference", 200, `{"Associations":null}`},
		{fromWeb, "/v4/web-id/associations/gpu/GPU-1", 200, "{\"one\":\n1}"},
		{fromWeb, "/v4/web-id/associations/gpu/GPU-2", 400, `"Unable to get association value for association type 'gpu' and name 'GPU-2'"`},
		{fromWeb, "/v4/web-id/associations/gpu/", 400, `"Unable to get association value for association type 'gpu' and name ''"`},
		{fromWeb, "/v4/none/associations/gpu", 400, `"V4 container associations handler: unable to get container ID from request: unable to get docker ID from v3 endpoint ID: none"`},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := w.ask(t, tc.from, method, tc.path)
			if a.status != tc.status || a.body != tc.body {
				t.Errorf("%s %s: %d %s", method, tc.path, a.status, a.body)
			}
		}
	}
	a := w.ask(t, fromWeb, http.MethodGet, "//v3//web-id/./task?x=1")
	if a.status != http.StatusMovedPermanently || a.header.Get("Location") != "/v3/web-id/task?x=1" {
		t.Errorf("a path to be cleaned: %d to %s", a.status, a.header.Get("Location"))
	}
}

// TestHiddenZone: a host that does not tell its zone, and metrics that are
// disabled.
func TestHiddenZone(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Stats, c.Host = nil, func() Host { return Host{Cluster: "blue"} } })
	golden(t, "v4-task-hidden.json", w.ask(t, fromVPC, http.MethodGet, "/v4/vpc-id/task").body)
	if a := w.ask(t, fromVPC, http.MethodGet, "/v4/vpc-id/stats"); a.status != 500 {
		t.Errorf("statistics: %d %s", a.status, a.body)
	}
	if a := w.ask(t, fromVPC, http.MethodGet, "/v4/vpc-id/task/stats"); a.body != `{"0e":{}}` {
		t.Errorf("statistics of the task: %s", a.body)
	}
	if a := w.ask(t, fromVPC, http.MethodGet, "/v2/stats"); a.body != `{"0e":null}` {
		t.Errorf("statistics of the task, version 2: %s", a.body)
	}
}

// tagBook answers with tags, or refuses.
type tagBook struct {
	mu      sync.Mutex // guards asked
	asked   []string
	refusal error
	slow    time.Duration
}

func (b *tagBook) Tags(ctx context.Context, arn, container string) ([]ecs.Tag, error) {
	b.mu.Lock()
	b.asked = append(b.asked, arn[len(arn)-4:]+" for "+container)
	b.mu.Unlock()
	if b.slow > 0 {
		timer := time.NewTimer(b.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if b.refusal != nil {
		return nil, b.refusal
	}
	return []ecs.Tag{{Key: "of", Value: arn[len(arn)-4:]}}, nil
}

// refused is an answer of ECS that is an error.
type refused struct{ err *ecs.Error }

func (refused) StatusCode() int   { return 400 }
func (refused) RequestID() string { return "request-1" }
func (r refused) Error() string   { return r.err.Error() }
func (r refused) Unwrap() error   { return r.err }

// TestTags: asked once for all who want them, again when they are old, and not
// without end.
func TestTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &tagBook{}
		w := newWorld(t, func(c *Config) { c.Tags = book })
		get := func(path string) answer { return w.ask(t, fromWeb, http.MethodGet, path) }
		get("/v4/web-id/taskWithTags")
		get("/v4/side-id/taskWithTags")
		get("/v3/side-id/taskWithTags")
		if len(book.asked) != 2 {
			t.Errorf("asked %q", book.asked)
		}
		time.Sleep(tagsKept + time.Second)
		book.refusal = refused{&ecs.Error{Type: "AccessDeniedException", Message: "no"}}
		a := get("/v4/side-id/taskWithTags")
		if len(book.asked) != 4 || a.status != http.StatusOK {
			t.Errorf("asked %q, got %d", book.asked, a.status)
		}
		golden(t, "v4-tags-refused.json", a.body)
		if a := get("/v3/side-id/taskWithTags"); len(book.asked) != 4 || a.status != http.StatusOK {
			t.Errorf("version 3: %d after %q", a.status, book.asked)
		}
		time.Sleep(tagsRetry + time.Second)
		book.refusal, book.slow = nil, time.Hour
		began := time.Now()
		a = get("/v4/side-id/taskWithTags")
		if took := time.Since(began); took != askECS || a.status != http.StatusOK {
			t.Errorf("%d after %s", a.status, took)
		}
		w.tags.asking.Wait()
	})
}

// TestIndex: addresses pass from task to task, and what is forgotten is not
// found.
func TestIndex(t *testing.T) {
	x := NewIndex()
	first, second := bridgeTask(), vpcTask()
	x.Put(first)
	second.Endpoints = map[string]ipam.Endpoint{"": first.Endpoints["web_1"]}
	x.Put(second)
	at := first.Endpoints["web_1"].IPv4
	if who, name, ok := x.At(at); !ok || who != second || name != "" {
		t.Errorf("%v is found to be %q, %t", at, name, ok)
	}
	x.Drop(first.definition().ARN)
	if _, _, ok := x.At(at); !ok {
		t.Error("the address is gone with the task that had it before")
	}
	if _, _, ok := x.Container(webID); ok {
		t.Error("a container of a forgotten task is found")
	}
	again := vpcTask() // Its address is given back.
	again.Endpoints = nil
	x.Put(again)
	if _, _, ok := x.At(at); ok {
		t.Error("an address that was given back is found")
	}
	if who, _, ok := x.Container(vpcID); !ok || who != again {
		t.Error("the newest view is not found")
	}
	x.Drop("arn:none")
	x.Drop(again.definition().ARN)
	if len(x.tasks)+len(x.byID)+len(x.byAddress) != 0 {
		t.Errorf("left: %v %v %v", x.tasks, x.byID, x.byAddress)
	}
}

package taskmeta

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/wire/ecs"
)

// ledger is ECS's book of protections, as far as a test wants it to answer.
type ledger struct {
	tasks    []ecs.ProtectedTask
	failures []ecs.Failure
	err      error
	hang     bool
	// asked are what came in, and with whose keys.
	keys credentials.Set
	get  *ecs.GetTaskProtectionRequest
	put  *ecs.UpdateTaskProtectionRequest
}

func (l *ledger) wait(ctx context.Context) error {
	if l.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return l.err
}

func (l *ledger) GetProtection(ctx context.Context, keys credentials.Set, r *ecs.GetTaskProtectionRequest) (*ecs.GetTaskProtectionResponse, error) {
	l.keys, l.get = keys, r
	return &ecs.GetTaskProtectionResponse{ProtectedTasks: l.tasks, Failures: l.failures}, l.wait(ctx)
}

func (l *ledger) UpdateProtection(ctx context.Context, keys credentials.Set, r *ecs.UpdateTaskProtectionRequest) (*ecs.UpdateTaskProtectionResponse, error) {
	l.keys, l.put = keys, r
	return &ecs.UpdateTaskProtectionResponse{ProtectedTasks: l.tasks, Failures: l.failures}, l.wait(ctx)
}

// TestProtection: every answer of spec/host.md §1.16.
func TestProtection(t *testing.T) {
	const state = "/api/web-id/task-protection/v1/state"
	protected := []ecs.ProtectedTask{{TaskARN: arn("web"), ProtectionEnabled: true, ExpirationDate: ecs.At(time.Date(2026, 3, 4, 5, 6, 7, 500e6, time.UTC))}}
	own := `"Arn":"` + arn("web") + `"`
	for _, tc := range []struct {
		name, from, method, path, body string
		ledger                         ledger
		status                         int
		want                           string
	}{
		{"get", fromWeb, "GET", state, "", ledger{tasks: protected}, 200, `{"protection":{"ExpirationDate":"2026-03-04T05:06:07.5Z","ProtectionEnabled":true,"TaskArn":"` + arn("web") + `"}}`},
		{"put", fromWeb, "PUT", state, `{"ProtectionEnabled":false}`, ledger{tasks: []ecs.ProtectedTask{{TaskARN: "a"}}}, 200, `{"protection":{"ExpirationDate":null,"ProtectionEnabled":false,"TaskArn":"a"}}`},
		{"failure", fromWeb, "GET", state, "", ledger{failures: []ecs.Failure{{ARN: "a", Reason: "TASK_NOT_VALID", Detail: "d"}}}, 200, `{"failure":{"Arn":"a","Detail":"d","Reason":"TASK_NOT_VALID"}}`},
		{"neither", fromWeb, "GET", state, "", ledger{}, 500, `{"error":{` + own + `,"Code":"ServerException","Message":"Unexpected error occurred"}}`},
		{"both", fromWeb, "GET", state, "", ledger{tasks: protected, failures: []ecs.Failure{{}}}, 500, `{"error":{` + own + `,"Code":"ServerException","Message":"Unexpected error occurred"}}`},
		{"bad body", fromWeb, "PUT", state, `{`, ledger{}, 400, `{"error":{"Code":"InvalidParameterException","Message":"UpdateTaskProtection: failed to decode request"}}`},
		{"unknown field", fromWeb, "PUT", state, `{"ProtectionEnabled":true,"x":1}`, ledger{}, 400, `{"error":{"Code":"InvalidParameterException","Message":"UpdateTaskProtection: failed to decode request"}}`},
		{"no field", fromWeb, "PUT", state, `{"ExpiresInMinutes":1}`, ledger{}, 400, `{"error":{"Code":"InvalidParameterException","Message":"Invalid request: does not contain 'ProtectionEnabled' field"}}`},
		{"unknown id", fromWeb, "GET", "/api/none/task-protection/v1/state", "", ledger{}, 404, `{"error":{"Code":"ResourceNotFoundException","Message":"Failed to find a task for the request"}}`},
		{"a neighbour", fromVPC, "GET", state, "", ledger{tasks: protected}, 404, `{"error":{"Code":"ResourceNotFoundException","Message":"Failed to find a task for the request"}}`},
		{"no role", fromVPC, "GET", "/api/vpc-id/task-protection/v1/state", "", ledger{}, 403, `{"error":{"Arn":"` + arn("vpc") + `","Code":"AccessDeniedException","Message":"Invalid Request: no task IAM role credentials available for task"}}`},
		{"refused by ECS", fromWeb, "GET", state, "", ledger{err: refused{&ecs.Error{Type: "AccessDeniedException", Message: "no"}}}, 400, `{"requestID":"request-1","error":{` + own + `,"Code":"AccessDeniedException","Message":"no"}}`},
		{"no way to ECS", fromWeb, "GET", state, "", ledger{err: errors.New("no route")}, 500, `{"error":{` + own + `,"Code":"ServerException","Message":"no route"}}`},
		{"another method", fromWeb, "POST", state, "", ledger{}, 405, ""},
		{"another path", fromWeb, "GET", "/api/web-id/task-protection/v2/state", "", ledger{}, 404, "404 page not found\n"},
		{"no faults here", fromWeb, "POST", "/api/web-id/fault/v1/network-latency/start", "", ledger{}, 404, "404 page not found\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Protection = &tc.ledger })
			a := w.ask(t, tc.from, tc.method, tc.path, tc.body)
			if a.status != tc.status || a.body != tc.want {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// TestProtectionAsks: what ECS is asked, and by whom; and how long it may take.
func TestProtectionAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		w := newWorld(t, func(c *Config) { c.Protection = l })
		w.ask(t, fromWeb, http.MethodPut, "/api/web-id/task-protection/v1/state", `{"ProtectionEnabled":true,"ExpiresInMinutes":60}`)
		if l.keys.AccessKeyID != "AKIA1" || l.put.Cluster != "blue" || len(l.put.Tasks) != 1 || l.put.Tasks[0] != arn("web") ||
			!l.put.ProtectionEnabled || l.put.ExpiresInMinutes == nil || *l.put.ExpiresInMinutes != 60 {
			t.Errorf("asked with %s for %+v", l.keys.AccessKeyID, l.put)
		}
		l.hang = true
		began := time.Now()
		a := w.ask(t, fromWeb, http.MethodGet, "/api/web-id/task-protection/v1/state")
		want := `{"error":{"Arn":"` + arn("web") + `","Code":"RequestCanceled","Message":"Timed out calling ECS Task Protection API"}}`
		if a.status != http.StatusGatewayTimeout || a.body != want || time.Since(began) != askECS {
			t.Errorf("%d %s after %s", a.status, a.body, time.Since(began))
		}
	})
}

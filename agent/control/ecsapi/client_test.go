package ecsapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/agent/wire/ecs"
)

func TestEndpoint(t *testing.T) {
	for _, tc := range []struct {
		host, region string
		dual         bool
		want         string
	}{
		{"", "eu-west-1", false, "https://ecs.eu-west-1.amazonaws.com"},
		{"", "cn-north-1", false, "https://ecs.cn-north-1.amazonaws.com.cn"},
		{"", "eu-west-1", true, "https://ecs.eu-west-1.api.aws"},
		{"", "us-gov-west-1", false, "https://ecs.us-gov-west-1.amazonaws.com"},
		{"", "us-iso-east-1", true, "https://ecs.us-iso-east-1.c2s.ic.gov"},
		{"", "us-isob-east-1", false, "https://ecs.us-isob-east-1.sc2s.sgov.gov"},
		{"localhost:8080", "eu-west-1", true, "https://localhost:8080"},
		{"http://127.0.0.1:8080/", "", false, "http://127.0.0.1:8080"},
		{"https://x", "", false, "https://x"},
	} {
		if got := Endpoint(tc.host, tc.region, tc.dual); got != tc.want {
			t.Errorf("%+v gives %s", tc, got)
		}
	}
}

// TestCall: what goes out and what comes back.
func TestCall(t *testing.T) {
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		want := `{"containerInstance":"arn","cluster":"blue","zoneId":""}`
		if r.Method != http.MethodPost || r.URL.Path != "/" || string(body) != want {
			t.Errorf("called %s %s with %s", r.Method, r.URL, body)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/x-amz-json-1.1",
			"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint",
			"User-Agent":   "Amazon ECS Agent - v1.105.1 (0f1e) (linux; debian_12) (+http://aws.amazon.com/ecs/) berth",
			"X-Signed":     want,
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		_, _ = w.Write([]byte(`{"endpoint":"https://a/","telemetryEndpoint":"https://t/","new":1}`))
	}))
	c := New(Config{
		Endpoint: url, Version: "1.105.1", Hash: "0f1e", OSFamily: "debian_12",
		Sign: func(_ context.Context, r *http.Request, body []byte) error {
			r.Header.Set("X-Signed", string(body))
			return nil
		},
	})
	defer c.Close()
	out, err := c.DiscoverPollEndpoint(t.Context(), &ecs.DiscoverPollEndpointRequest{ContainerInstance: "arn", Cluster: "blue"})
	if err != nil || out.Endpoint != "https://a/" || out.TelemetryEndpoint != "https://t/" {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		status       int
		header, body string
		typ          string
		attempts     int
		transient    bool
		text         string
	}{
		{400, "InvalidParameterException:http://x/", `{"message":"bad"}`, ecs.ErrTypeInvalidParameter, 1, false, "InvalidParameterException: bad"},
		{400, "", `{"__type":"com.amazonaws.ecs#ClientException","Message":"Cluster not found."}`, ecs.ErrTypeClient, 1, false, "ClientException: Cluster not found."},
		{400, "", `{"__type":"ClusterNotFoundException","message":"gone"}`, ecs.ErrTypeClusterNotFound, 1, false, "ClusterNotFoundException: gone"},
		{400, "", `{"__type":"AccessDeniedException","message":"no"}`, ecs.ErrTypeAccessDenied, 1, false, "AccessDeniedException: no"},
		{400, "", `{"__type":"ThrottlingException","message":"slow"}`, ecs.ErrTypeThrottling, 3, true, "ThrottlingException: slow"},
		{500, "", `{"__type":"ServerException","message":"ouch"}`, ecs.ErrTypeServer, 3, true, "ServerException: ouch"},
		{400, "", `{"__type":"LimitExceededException","message":"many"}`, ecs.ErrTypeLimitExceeded, 1, true, "LimitExceededException: many"},
		{503, "", `<html>`, "", 3, true, "status 503: <html>"},
		{404, "", `nothing`, "", 1, false, "status 404: nothing"},
	} {
		calls := 0
		url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			if tc.header != "" {
				w.Header().Set("X-Amzn-ErrorType", tc.header)
			}
			w.WriteHeader(tc.status)
			_, _ = w.Write([]byte(tc.body))
		}))
		c := quick(New(Config{Endpoint: url}))
		err := c.SubmitTaskStateChange(t.Context(), &ecs.SubmitTaskStateChangeRequest{Status: "RUNNING"})
		if err == nil || err.Error() != "cannot call SubmitTaskStateChange: "+tc.text {
			t.Errorf("%s: got %v", tc.text, err)
		}
		if tc.typ != "" && !errors.Is(err, &ecs.Error{Type: tc.typ}) {
			t.Errorf("%s is not of type %s", tc.text, tc.typ)
		}
		var own interface{ Transient() bool }
		if errors.Is(err, ErrTransient) != tc.transient || (errors.As(err, &own) && own.Transient()) != tc.transient {
			t.Errorf("%s: transient is not %v", tc.text, tc.transient)
		}
		if calls != tc.attempts {
			t.Errorf("%s: %d attempts, want %d", tc.text, calls, tc.attempts)
		}
		c.Close()
	}
}

// quick makes a client's pauses short.
func quick(c *Client) *Client {
	c.pause = time.Millisecond
	return c
}

// TestPauses: three attempts, a second and two apart, on a network that is down.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Endpoint: "http://ecs.example"})
		down := errors.New("no route to host")
		c.http.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, down }}
		start := time.Now()
		_, err := c.CreateCluster(t.Context(), &ecs.CreateClusterRequest{})
		if d := time.Since(start); !errors.Is(err, down) || errors.Is(err, ErrTransient) || d < 3*time.Second || d > 3600*time.Millisecond {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

// TestBudget: when everything fails, calls are not tried again for ever.
func TestBudget(t *testing.T) {
	calls := 0
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls > 150 {
			_, _ = w.Write([]byte("{}"))
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	c := quick(New(Config{Endpoint: url}))
	defer c.Close()
	for range 50 {
		_ = c.SubmitTaskStateChange(t.Context(), &ecs.SubmitTaskStateChangeRequest{})
	}
	err := c.SubmitTaskStateChange(t.Context(), &ecs.SubmitTaskStateChangeRequest{})
	if calls != 151 || err != nil {
		t.Errorf("%d round trips, %v", calls, err)
	}
	calls = 0
	err = c.SubmitTaskStateChange(t.Context(), &ecs.SubmitTaskStateChangeRequest{})
	if calls != 2 || !errors.Is(err, ErrTransient) || !strings.Contains(err.Error(), "too many retries") {
		t.Errorf("with a budget for one retry: %d round trips, %v", calls, err)
	}
}

// TestEveryCall reaches the operation of its name.
func TestEveryCall(t *testing.T) {
	var got []string
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, strings.TrimPrefix(r.Header.Get("X-Amz-Target"), ecs.Target))
		var members map[string]any
		if err := json.NewDecoder(r.Body).Decode(&members); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("{}"))
	}))
	c := New(Config{Endpoint: url})
	defer c.Close()
	ctx := t.Context()
	_, err1 := c.RegisterContainerInstance(ctx, &ecs.RegisterContainerInstanceRequest{})
	_, err2 := c.CreateCluster(ctx, &ecs.CreateClusterRequest{})
	_, err3 := c.UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateRequest{})
	_, err4 := c.ListTagsForResource(ctx, &ecs.ListTagsForResourceRequest{})
	err5 := c.SubmitAttachmentStateChanges(ctx, &ecs.SubmitAttachmentStateChangesRequest{})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Error(err)
	}
	want := "RegisterContainerInstance CreateCluster UpdateContainerInstancesState ListTagsForResource SubmitAttachmentStateChanges"
	if strings.Join(got, " ") != want {
		t.Errorf("called %s", got)
	}
}

// TestAsAndFor: another's signature, another name, and the request's id of a
// refusal.
func TestAsAndFor(t *testing.T) {
	var got []string
	url := wstest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent := r.Header.Get("User-Agent")
		got = append(got, r.Header.Get("X-Signed")+"-"+agent[strings.LastIndex(agent, "berth"):])
		w.Header().Set("X-Amzn-RequestId", "request-1")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"AccessDeniedException","message":"no"}`))
	}))
	sign := func(who string) func(context.Context, *http.Request, []byte) error {
		return func(_ context.Context, r *http.Request, _ []byte) error {
			r.Header.Set("X-Signed", who)
			return nil
		}
	}
	c := New(Config{Endpoint: url, Sign: sign("host")})
	defer c.Close()
	_, err := c.As(sign("role")).GetTaskProtection(t.Context(), &ecs.GetTaskProtectionRequest{})
	_, _ = c.As(sign("role")).UpdateTaskProtection(t.Context(), &ecs.UpdateTaskProtectionRequest{})
	_, _ = c.For("container/web").ListTagsForResource(t.Context(), &ecs.ListTagsForResourceRequest{})
	_, _ = c.ListTagsForResource(t.Context(), &ecs.ListTagsForResourceRequest{})
	if want := "role-berth|role-berth|host-berth container/web|host-berth"; strings.Join(got, "|") != want {
		t.Errorf("called as %s", strings.Join(got, "|"))
	}
	var answer interface {
		StatusCode() int
		RequestID() string
	}
	if !errors.As(err, &answer) || answer.StatusCode() != http.StatusBadRequest || answer.RequestID() != "request-1" {
		t.Errorf("got %v", err)
	}
}

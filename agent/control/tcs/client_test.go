package tcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/agent/health"
	wire "github.com/berthd/berth/agent/wire/tcs"
	"github.com/berthd/berth/metrics"
)

// usage is a Metrics that answers the same each time.
type usage struct {
	samples []Sample
	tracked int
}

func (u *usage) Collect() ([]Sample, int) { return u.samples, u.tracked }

// sample is of container c of the n-th task.
func sample(n int, c string) Sample {
	var r metrics.Report
	r.CPUPercent.Add(2)
	r.CPUPercent.Add(4)
	r.MemoryMiB.Add(60)
	r.ReadBytes.Add(4096)
	r.WriteBytes.Add(0)
	return Sample{
		Container: metrics.Container{ID: c, Name: c, TaskARN: fmt.Sprintf("arn:task/%03d", n), Family: "f", Revision: "1"},
		Report:    r,
	}
}

func client(cfg Config) *Client {
	cfg.Cluster, cfg.ContainerInstanceARN = "blue", "arn:instance"
	return New(cfg)
}

func TestMetricsMessage(t *testing.T) {
	s := sample(1, "web")
	s.RestartPolicy = true
	s.Report.Restarts = 2
	n := &metrics.NetworkReport{}
	n.RxBytes.Add(10)
	n.RxBytesPerSecond.Add(1.5)
	s.Report.Network = n
	half := sample(1, "half")
	half.Report.MemoryMiB = metrics.Stats{}
	volumes := func(arn string) []VolumeUsage {
		if arn != "arn:task/002" {
			return nil
		}
		return []VolumeUsage{{ID: "vol-1", Name: "data", Used: 1024, Size: 4096}}
	}
	got := client(Config{Metrics: &usage{[]Sample{s, half, sample(2, "b")}, 3}, Volumes: volumes}).metrics(time.UnixMilli(1740830400123))
	if len(got) != 1 || got[0].Metadata.MessageID == "" {
		t.Fatalf("got %+v", got)
	}
	got[0].Metadata.MessageID = "id"
	b, err := wire.Encode(got[0])
	if err != nil {
		t.Fatal(err)
	}
	const stats = `"cpuStatsSet":{"max":4,"min":2,"sampleCount":2,"sum":6},"memoryStatsSet":{"max":60,"min":60,"sampleCount":1,"sum":60},` +
		`"storageStatsSet":{"readSizeBytes":{"max":4096,"min":4096,"overflowMax":0,"overflowMin":0,"overflowSum":0,"sampleCount":1,"sum":4096},` +
		`"writeSizeBytes":{"max":0,"min":0,"overflowMax":0,"overflowMin":0,"overflowSum":0,"sampleCount":1,"sum":0}}`
	const want = `{"type":"PublishMetricsRequest","message":{"metadata":{"cluster":"blue","containerInstance":"arn:instance","fin":true,"idle":false,"messageId":"id"},` +
		`"taskMetrics":[{"taskArn":"arn:task/001","taskDefinitionFamily":"f","taskDefinitionVersion":"1","containerMetrics":[{"containerName":"web",` + stats +
		`,"networkStatsSet":{"rxBytes":{"max":10,"min":10,"overflowMax":0,"overflowMin":0,"overflowSum":0,"sampleCount":1,"sum":10},"rxBytesPerSecond":{"max":1.5,"min":1.5,"sampleCount":1,"sum":1.5}},"restartStatsSet":{"restartCount":2}}]},` +
		`{"taskArn":"arn:task/002","taskDefinitionFamily":"f","taskDefinitionVersion":"1","containerMetrics":[{"containerName":"b",` + stats + `}],` +
		`"volumeMetrics":[{"volumeId":"vol-1","volumeName":"data","utilized":{"max":1024,"min":1024,"sampleCount":1,"sum":1024},"size":{"max":4096,"min":4096,"sampleCount":1,"sum":4096}}]}],"timestamp":1740830400.123}}`
	if string(b) != want {
		t.Errorf("got\n     %s\nwant %s", b, want)
	}
}

func TestMetricsBatches(t *testing.T) {
	now := time.Now()
	idle := func(u Metrics) {
		t.Helper()
		got := client(Config{Metrics: u}).metrics(now)
		if len(got) != 1 || !got[0].Metadata.Idle || !got[0].Metadata.Fin || got[0].TaskMetrics != nil {
			t.Errorf("an idle host says %+v", got)
		}
	}
	idle(nil)
	idle(&usage{})
	young := sample(1, "a")
	young.Report.CPUPercent = metrics.Stats{}
	if got := client(Config{Metrics: &usage{[]Sample{young}, 1}}).metrics(now); got != nil {
		t.Errorf("a container without a CPU reading gives %+v", got)
	}
	if got := client(Config{Metrics: &usage{nil, 3}}).metrics(now); got != nil {
		t.Errorf("containers that are too young give %+v", got)
	}

	var samples []Sample
	for i := range 25 {
		samples = append(samples, sample(i, "a"), sample(i, "b"))
	}
	got := client(Config{Metrics: &usage{samples, 50}}).metrics(now)
	var sizes, fins []string
	for _, m := range got {
		sizes = append(sizes, fmt.Sprint(len(m.TaskMetrics)))
		fins = append(fins, fmt.Sprint(m.Metadata.Fin))
		if m.Metadata.MessageID != got[0].Metadata.MessageID || m.Metadata.Idle {
			t.Errorf("messages of one cycle differ: %+v", m.Metadata)
		}
	}
	if s := strings.Join(sizes, " ") + " " + strings.Join(fins, " "); s != "10 10 5 false false true" {
		t.Errorf("25 tasks are sent as %s", s)
	}

	// Tasks with many containers of long names, so that ten would be too much.
	samples = nil
	for i := range 10 {
		for j := range 500 {
			samples = append(samples, sample(i, fmt.Sprintf("%0240d", j)))
		}
	}
	tasks := 0
	got = client(Config{Metrics: &usage{samples, 5000}}).metrics(now)
	for _, m := range got {
		b, err := json.Marshal(m)
		if err != nil || len(b) > wire.MaxMessage {
			t.Errorf("a message has %d bytes (%v)", len(b), err)
		}
		tasks += len(m.TaskMetrics)
	}
	if len(got) < 2 || tasks != 10 {
		t.Errorf("%d tasks in %d messages", tasks, len(got))
	}
}

func TestHealthMessages(t *testing.T) {
	now := time.UnixMilli(5000)
	var tasks []TaskHealth
	for i := range 11 {
		tasks = append(tasks, TaskHealth{ARN: fmt.Sprint(i), Family: "f", Version: "1", Containers: []ContainerHealth{{Name: "c", Status: "UNKNOWN"}}})
	}
	tasks[0].Containers[0] = ContainerHealth{Name: "c", Status: "HEALTHY", Since: time.UnixMilli(1500)}
	tasks = append(tasks, TaskHealth{ARN: "no check"})
	got := client(Config{Health: func() []TaskHealth { return tasks }}).health(now)
	if len(got) != 2 || len(got[0].Tasks) != 10 || len(got[1].Tasks) != 1 || got[0].Metadata.Fin || !got[1].Metadata.Fin {
		t.Fatalf("11 tasks are sent as %+v", got)
	}
	since := func(i int) int64 { return got[0].Tasks[i].Containers[0].StatusSince.UnixMilli() }
	if since(0) != 1500 || since(1) != 5000 {
		t.Errorf("health is since %d and %d", since(0), since(1))
	}
	if got := client(Config{Health: func() []TaskHealth { return tasks[11:] }}).health(now); got != nil {
		t.Errorf("a host without health checks says %+v", got)
	}
}

func TestStatusFollowsHeartbeats(t *testing.T) {
	board := health.NewBoard()
	board.Declare("acs", health.Agent, 0, time.UnixMilli(1000))
	board.Declare("containerd", health.ContainerRuntime, 0, time.UnixMilli(1000))
	c := client(Config{Status: board.Instance})
	first, ok := c.status(time.UnixMilli(2000)).(*wire.PublishInstanceStatusRequest)
	want := []wire.InstanceStatus{{
		Type: "ContainerRuntime", Status: "INITIALIZING",
		LastUpdated: wire.At(time.UnixMilli(1000)), LastStatusChange: wire.At(time.UnixMilli(1000)),
	}}
	if !ok || cmp.Diff(want, first.Statuses) != "" || first.Metadata.RequestID == "" {
		t.Errorf("first status is %+v", first)
	}
	if c.status(time.UnixMilli(3000)) != nil {
		t.Error("status was told a second time without a heartbeat")
	}
	c.Heartbeat()
	if c.status(time.UnixMilli(4000)) == nil {
		t.Error("status was not told after a heartbeat")
	}
}

// TestSession: frames are signed one by one, with the URL of the connection.
func TestSession(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var target string
	said := make(chan string, 10)
	log := zaptest.NewLogger(t, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Message != "session is up" {
			said <- e.Message
		}
		return nil
	})))
	url := wstest.Serve(t, func(_ int, c *wstest.Conn) {
		defer cancel(nil)
		const query = "agentHash=0f1e&agentVersion=1.105.1&cluster=blue&containerInstance=arn%3Ainstance"
		if c.Request.URL.Path != "/ws" || c.Request.URL.RawQuery != query || c.Request.Header.Get("Authorization") != "upgrade" {
			t.Errorf("connected to %s as %s", c.Request.URL, c.Request.Header.Get("Authorization"))
		}
		header, body, err := wire.DecodeFrame([]byte(c.Receive()))
		if err != nil || header.Get("Authorization") != "frame" || header.Get("Host") != "here" {
			t.Errorf("frame has the header %v (%v)", header, err)
		}
		m, err := wire.Decode(body)
		if p, ok := m.(*wire.PublishMetricsRequest); !ok || !p.Metadata.Idle {
			t.Errorf("received %+v (%v)", m, err)
		}
		c.Send(`{"type":"AckPublishMetric","message":{"message":"ok"}}`)
		c.Send(`{"type":"ServerException","message":{"message":"ouch"}}`)
		c.Send(`{"type":"Future"}`)
		c.Send(`{"type":"StopTelemetrySessionMessage","message":{"message":"bye"}}`)
		for _, want := range []string{"TCS reports an exception", "TCS message cannot be read", "TCS is going to stop the session"} {
			if got := <-said; got != want {
				t.Errorf("the agent said %q, want %q", got, want)
			}
		}
	})
	err := client(Config{
		AgentVersion: "1.105.1", AgentHash: "0f1e",
		Service: ws.Service{
			Log:      log,
			Endpoint: func(context.Context) (string, error) { return url + "/", nil },
			Sign: func(_ context.Context, u string) (http.Header, error) {
				target = u
				return http.Header{"Authorization": {"upgrade"}}, nil
			},
		},
		SignFrame: func(_ context.Context, u string, body []byte) (http.Header, error) {
			if u != target || !strings.HasPrefix(string(body), `{"type":"PublishMetricsRequest"`) {
				t.Errorf("signed %s for %s", body, u)
			}
			return http.Header{"Authorization": {"frame"}, "Host": {"here"}}, nil
		},
	}).Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("client ended with %v", err)
	}
}

// TestUnsent: what could not be sent over one session goes out over the next.
func TestUnsent(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	url := wstest.Serve(t, func(n int, c *wstest.Conn) {
		if n == 0 {
			c.Closed() // The agent cannot sign, and cuts the session.
			return
		}
		if !strings.Contains(c.Receive(), "PublishMetricsRequest") {
			t.Error("the message was lost")
		}
		cancel(nil)
	})
	signed := 0
	_ = client(Config{
		Service: ws.Service{Endpoint: func(context.Context) (string, error) { return url, nil }},
		SignFrame: func(context.Context, string, []byte) (http.Header, error) {
			if signed++; signed == 1 {
				return nil, errors.New("no keys")
			}
			return http.Header{}, nil
		},
	}).Run(ctx)
}

// TestDrop ends a session, and another one follows.
func TestDrop(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var c *Client
	url := wstest.Serve(t, func(n int, conn *wstest.Conn) {
		if n == 1 {
			cancel(nil)
			return
		}
		conn.Receive()
		c.Drop()
		if code, _ := conn.Closed(); code != 1000 {
			t.Errorf("session was closed with %d", code)
		}
	})
	c = client(Config{Service: ws.Service{Endpoint: func(context.Context) (string, error) { return url, nil }}})
	c.Drop() // There is no session: it is about none that follows.
	_ = c.Run(ctx)
}

// TestQueue: fifteen messages wait, and the sixteenth is dropped after a second.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		c := client(Config{Service: ws.Service{Log: zap.New(core)}})
		start := time.Now()
		for range queueLen {
			c.enqueue(t.Context(), &wire.HeartbeatMessage{})
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("filling the queue took %v", d)
		}
		c.enqueue(t.Context(), &wire.HeartbeatMessage{Healthy: true})
		if d := time.Since(start); d != time.Second || len(c.queue) != queueLen {
			t.Errorf("the message too many was dropped after %v, %d wait", d, len(c.queue))
		}
		for range 3 {
			c.enqueue(t.Context(), &wire.HeartbeatMessage{})
		}
		if logs.Len() != 1 {
			t.Errorf("four dropped messages made %d lines", logs.Len())
		}
		<-c.queue
		c.enqueue(t.Context(), &wire.HeartbeatMessage{})
		c.enqueue(t.Context(), &wire.HeartbeatMessage{})
		if logs.Len() != 2 {
			t.Errorf("after the service took one and none again there are %d lines", logs.Len())
		}
	})
}

// TestPace: at once, and every twenty seconds; connections that fail are tried
// again after 1 s to 1 min.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		collected := 0
		last, want, calls := time.Now(), time.Second, 0
		start := time.Now()
		go func() {
			timer := time.NewTimer(5*time.Minute + time.Second)
			defer timer.Stop()
			<-timer.C
			cancel(nil)
		}()
		_ = client(Config{
			Metrics: counting{&collected},
			Service: ws.Service{Endpoint: func(context.Context) (string, error) {
				if calls++; calls > 1 {
					if d := time.Since(last); d < want || d > want+want/5 {
						t.Errorf("attempt %d came after %v, want %v", calls, d, want)
					}
					want = min(2*want, time.Minute)
				}
				last = time.Now()
				return "", errors.New("no route to host")
			}},
		}).Run(ctx)
		if collected != 16 || calls < 9 {
			t.Errorf("in %v: %d collections, %d attempts", time.Since(start), collected, calls)
		}
	})
}

type counting struct{ n *int }

func (c counting) Collect() ([]Sample, int) {
	*c.n++
	return nil, 1
}

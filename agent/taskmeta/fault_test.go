package taskmeta

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/fault"
)

// badNetwork has the faults that it was asked for, or fails, or hangs.
type badNetwork struct {
	running map[string]fault.Fault
	err     error
	hang    bool
}

func (n *badNetwork) answer(ctx context.Context) error {
	if n.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return n.err
}

func (n *badNetwork) Start(ctx context.Context, d *task.Definition, f fault.Fault) error {
	if _, there := n.running[d.ID+f.Kind]; there && f.Kind != fault.BlackholePort {
		return &fault.RunningError{Kind: f.Kind}
	}
	err := n.answer(ctx)
	if err == nil {
		n.running[d.ID+f.Kind] = f
	}
	return err
}

func (n *badNetwork) Stop(ctx context.Context, d *task.Definition, f fault.Fault) error {
	delete(n.running, d.ID+f.Kind)
	return n.answer(ctx)
}

func (n *badNetwork) Running(ctx context.Context, d *task.Definition, f fault.Fault) (bool, error) {
	_, there := n.running[d.ID+f.Kind]
	return there, n.answer(ctx)
}

// faulty is a world in which the awsvpc task may ask for faults.
func faulty(t *testing.T, n *badNetwork) *world {
	t.Helper()
	n.running = map[string]fault.Fault{}
	return newWorld(t, func(c *Config) {
		vpc := vpcTask()
		vpc.State.Definition.FaultInjection = true
		c.Index.Put(vpc)
		c.Faults = n
	})
}

const (
	hole    = `{"Port":80,"Protocol":"tcp","TrafficType":"egress","SourcesToFilter":["10.0.0.1","fd00::/8"]}`
	latency = `{"DelayMilliseconds":100,"JitterMilliseconds":0,"Sources":["10.0.0.7/8","::1"],"FlowsPercent":7}`
	lossy   = `{"LossPercent":6,"Sources":["10.0.0.1"],"SourcesToFilter":["10.0.0.0/8"]}`
)

// TestFaultLife: each fault is started, is running, cannot be started again but
// for a black hole, is stopped, and is not running.
func TestFaultLife(t *testing.T) {
	for kind, body := range map[string]string{fault.BlackholePort: hole, fault.Latency: latency, fault.PacketLoss: lossy} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &badNetwork{}
				w := faulty(t, n)
				again, conflict := 200, `{"Status":"running"}`
				switch kind {
				case fault.Latency:
					again, conflict = 409, `{"Error":"There is already one network latency fault running"}`
				case fault.PacketLoss:
					again, conflict = 409, `{"Error":"There is already one network packet loss fault running"}`
				}
				later := "" // Not needed, and not looked at.
				if kind == fault.BlackholePort {
					later = body
				}
				for _, step := range []struct {
					action, body string
					status       int
					want         string
				}{
					{"status", later, 200, `{"Status":"not-running"}`},
					{"stop", later, 200, `{"Status":"stopped"}`},
					{"start", body, 200, `{"Status":"running"}`},
					{"status", later, 200, `{"Status":"running"}`},
					{"start", body, again, conflict},
					{"stop", later, 200, `{"Status":"stopped"}`},
					{"status", later, 200, `{"Status":"not-running"}`},
				} {
					a := w.ask(t, fromVPC, "POST", "/api/vpc-id/fault/v1/"+kind+"/"+step.action, step.body)
					if a.status != step.status || a.body != step.want || a.header.Get("Content-Type") != "application/json" {
						t.Errorf("%s: %d %s", step.action, a.status, a.body)
					}
					time.Sleep(5 * time.Second) // The bubble's clock: the limit allows one in five seconds.
				}
			})
		})
	}
}

// TestFaultRead: what the network is asked for.
func TestFaultRead(t *testing.T) {
	prefix := netip.MustParsePrefix
	for body, want := range map[string]fault.Fault{
		hole: {
			Kind: fault.BlackholePort, Port: 80, Protocol: "tcp", Direction: "egress",
			SourcesToFilter: []netip.Prefix{prefix("10.0.0.1/32"), prefix("fd00::/8")},
		},
		latency: {
			Kind: fault.Latency, DelayMilliseconds: 100, FlowsPercent: 7, Sources: []netip.Prefix{prefix("10.0.0.0/8"), prefix("::1/128")},
		},
		lossy: {
			Kind: fault.PacketLoss, LossPercent: 6, FlowsPercent: 100,
			Sources: []netip.Prefix{prefix("10.0.0.1/32")}, SourcesToFilter: []netip.Prefix{prefix("10.0.0.0/8")},
		},
		`{"LossPercent":100,"Sources":["::ffff:10.0.0.1"],"FlowsPercent":null,"Other":1}`: {
			Kind: fault.PacketLoss, LossPercent: 100, FlowsPercent: 100, Sources: []netip.Prefix{prefix("10.0.0.1/32")},
		},
	} {
		got, err := readFault(want.Kind, "start", strings.NewReader(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("%s: %s", body, d)
		}
	}
}

// TestFaultBodies: every text of spec/host.md §1.17 about a body.
func TestFaultBodies(t *testing.T) {
	for _, tc := range []struct{ kind, body, want string }{
		{fault.BlackholePort, ``, "required request body is missing"},
		{fault.Latency, ` `, "required request body is missing"},
		{fault.PacketLoss, `{`, "cannot decode request body: unexpected end of JSON input"},
		{fault.PacketLoss, `{} {}`, "cannot decode request body: invalid character '{' after top-level value"},
		{fault.BlackholePort, `{}`, "required parameter Port is missing"},
		{fault.BlackholePort, `{"Port":null}`, "required parameter Port is missing"},
		{fault.BlackholePort, `{"Port":1}`, "required parameter Protocol is missing"},
		{fault.BlackholePort, `{"Port":1,"Protocol":""}`, "required parameter Protocol is missing"},
		{fault.BlackholePort, `{"Port":1,"Protocol":"tcp"}`, "required parameter TrafficType is missing"},
		{fault.BlackholePort, `{"Port":65536,"Protocol":"tcp"}`, "invalid value 65536 for parameter Port"},
		{fault.BlackholePort, `{"Port":"80","Protocol":"tcp"}`, `invalid value "80" for parameter Port`},
		{fault.BlackholePort, `{"Port":1,"Protocol":"icmp","TrafficType":"egress"}`, "invalid value icmp for parameter Protocol"},
		{fault.BlackholePort, `{"Port":1,"Protocol":6,"TrafficType":"egress"}`, "invalid value 6 for parameter Protocol"},
		{fault.BlackholePort, `{"Port":1,"Protocol":"udp","TrafficType":"both"}`, "invalid value both for parameter TrafficType"},
		{fault.BlackholePort, `{"Port":1,"Protocol":"udp","TrafficType":"egress","SourcesToFilter":["x"]}`, "invalid value x for parameter SourcesToFilter"},
		{fault.Latency, `{"JitterMilliseconds":1}`, "required parameter DelayMilliseconds is missing"},
		{fault.Latency, `{"DelayMilliseconds":1}`, "required parameter JitterMilliseconds is missing"},
		{fault.Latency, `{"DelayMilliseconds":1,"JitterMilliseconds":1}`, "required parameter Sources is missing"},
		{fault.Latency, `{"DelayMilliseconds":1,"JitterMilliseconds":1,"Sources":[]}`, "required parameter Sources is missing"},
		{fault.Latency, `{"DelayMilliseconds":-1,"JitterMilliseconds":1}`, "invalid value -1 for parameter DelayMilliseconds"},
		{fault.Latency, `{"DelayMilliseconds":0,"JitterMilliseconds":0,"Sources":["1.1.1.1"]}`, "required either DelayMilliseconds or JitterMilliseconds to be non-zero"},
		{fault.Latency, `{"DelayMilliseconds":1,"JitterMilliseconds":0,"Sources":["1.1.1.1"],"FlowsPercent":0}`, "invalid value 0 for parameter flowsPercent"},
		{fault.Latency, `{"DelayMilliseconds":1,"JitterMilliseconds":0,"Sources":["1.1.1.1"],"FlowsPercent":101}`, "invalid value 101 for parameter flowsPercent"},
		{fault.PacketLoss, `{}`, "required parameter LossPercent is missing"},
		{fault.PacketLoss, `{"LossPercent":0}`, "invalid value 0 for parameter LossPercent"},
		{fault.PacketLoss, `{"LossPercent":101}`, "invalid value 101 for parameter LossPercent"},
		{fault.PacketLoss, `{"LossPercent":1}`, "required parameter Sources is missing"},
		{fault.PacketLoss, `{"LossPercent":1,"Sources":"1.1.1.1"}`, `invalid value "1.1.1.1" for parameter Sources`},
		{fault.PacketLoss, `{"LossPercent":1,"Sources":["1.1.1.1/33"]}`, "invalid value 1.1.1.1/33 for parameter Sources"},
		{fault.PacketLoss, `{"LossPercent":1,"Sources":["fe80::1%eth0"]}`, "invalid value fe80::1%eth0 for parameter Sources"},
		{fault.PacketLoss, `{"LossPercent":1,"Sources":["1.1.1.1"],"SourcesToFilter":[null]}`, "invalid value  for parameter SourcesToFilter"},
	} {
		if _, err := readFault(tc.kind, "start", strings.NewReader(tc.body)); err == nil || err.Error() != tc.want {
			t.Errorf("%s %s: %v", tc.kind, tc.body, err)
		}
	}
}

// TestFaultRefused: preconditions in their order, and every failure.
func TestFaultRefused(t *testing.T) {
	const start, stop, status = "/fault/v1/network-latency/start", "/fault/v1/network-latency/stop", "/fault/v1/network-latency/status"
	for _, tc := range []struct {
		name, from, method, path, body string
		network                        badNetwork
		status                         int
		want                           string
	}{
		{"another method", fromVPC, "GET", "/api/vpc-id" + start, latency, badNetwork{}, 405, ""},
		{"another fault", fromVPC, "POST", "/api/vpc-id/fault/v1/network-rain/start", latency, badNetwork{}, 404, "404 page not found\n"},
		{"another action", fromVPC, "POST", "/api/vpc-id/fault/v1/network-latency/pause", latency, badNetwork{}, 404, "404 page not found\n"},
		{"the body before the id", fromVPC, "POST", "/api/none" + start, "", badNetwork{}, 400, `{"Error":"required request body is missing"}`},
		{"unknown id", fromVPC, "POST", "/api/none" + start, latency, badNetwork{}, 404, `{"Error":"unable to lookup container: none"}`},
		{"a neighbour", fromWeb, "POST", "/api/vpc-id" + start, latency, badNetwork{}, 404, `{"Error":"unable to lookup container: vpc-id"}`},
		{"somebody on the host", fromHost, "POST", "/api/wait-id" + start, latency, badNetwork{}, 404, `{"Error":"unable to lookup container: wait-id"}`},
		{"bridge", fromWeb, "POST", "/api/web-id" + start, latency, badNetwork{}, 400, `{"Error":"bridge mode is not supported. Please use either host or awsvpc mode."}`},
		{"no link", fromVPC, "POST", "/api/vpc-id" + start, latency, badNetwork{err: fault.ErrNoLink}, 500, `{"Error":"failed to resolve default host network interface"}`},
		{"no network", fromVPC, "POST", "/api/vpc-id" + stop, "", badNetwork{err: fault.ErrNoNamespace}, 500, `{"Error":"failed to get task metadata due to internal server error for container: vpc-id"}`},
		{"the kernel", fromVPC, "POST", "/api/vpc-id" + status, "", badNetwork{err: errors.New("no netem")}, 500, `{"Error":"internal error"}`},
		{"slow start", fromVPC, "POST", "/api/vpc-id" + start, latency, badNetwork{hang: true}, 500, `{"Error":"start network-latency: request timed out"}`},
		{"slow stop", fromVPC, "POST", "/api/vpc-id" + stop, "", badNetwork{hang: true}, 500, `{"Error":"stop network-latency: request timed out"}`},
		{"slow status", fromVPC, "POST", "/api/vpc-id" + status, "", badNetwork{hang: true}, 500, `{"Error":"check status network-latency: request timed out"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := faulty(t, &tc.network)
				began := time.Now()
				a := w.ask(t, tc.from, tc.method, tc.path, tc.body)
				if a.status != tc.status || a.body != tc.want {
					t.Errorf("%d %s", a.status, a.body)
				}
				if took := time.Since(began); took >= writeTimeout {
					t.Errorf("the answer came after %v, when nobody could have been told", took)
				}
			})
		})
	}
	t.Run("off", func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Faults = &badNetwork{} })
		a := w.ask(t, fromVPC, "POST", "/api/vpc-id"+start, latency)
		if want := `{"Error":"enableFaultInjection is not enabled for task: ` + arn("vpc") + `"}`; a.status != 400 || a.body != want {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// TestFaultLimit: one in five seconds for each caller and path; who asks for
// containers that are not there fills no memory.
func TestFaultLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := faulty(t, &badNetwork{})
		post := func(path string) answer { return w.ask(t, fromVPC, http.MethodPost, path, hole) }
		const start, stop = "/api/vpc-id/fault/v1/network-blackhole-port/start", "/api/vpc-id/fault/v1/network-blackhole-port/stop"
		if a := post(start); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := post(start); a.status != 429 || a.body != "You have reached maximum request limit" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := post(stop); a.status != 200 {
			t.Errorf("another path: %d %s", a.status, a.body)
		}
		time.Sleep(5 * time.Second)
		if a := post(start); a.status != 200 {
			t.Errorf("later: %d %s", a.status, a.body)
		}
		for i := range 40 {
			post("/api/" + strings.Repeat("x", i+1) + "/fault/v1/network-latency/start")
		}
		if n := len(w.faultLimiter.buckets); n != 3 {
			t.Errorf("%d buckets", n)
		}
	})
}

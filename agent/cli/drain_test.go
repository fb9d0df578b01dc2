package cli

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

// drainable is a host whose order ECS accepts when it is asked for the status once more, unless it has trouble.
type drainable struct {
	*hostapitest.Host

	trouble string

	mu    sync.Mutex // guards what follows
	order *hostapi.DrainView
	asked []hostapi.DrainRequest
}

func (d *drainable) Drain(_ context.Context, r hostapi.DrainRequest) (*hostapi.DrainView, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r)
	d.order = &hostapi.DrainView{Status: "DRAINING", By: "person", Reason: r.Reason, Since: hostapitest.Start(), Trouble: d.trouble}
	if r.Cancel {
		d.order.Status = "ACTIVE"
	}
	if r.StopAfter != nil {
		at := hostapitest.Start().Add(time.Duration(*r.StopAfter) * time.Second)
		d.order.StopAt = &at
	}
	out := *d.order
	return &out, nil
}

func (d *drainable) Status() hostapi.StatusView {
	v := d.Host.Status()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order != nil {
		d.order.Accepted = d.trouble == ""
		order := *d.order
		v.Drain = &order
	}
	return v
}

func TestDrain(t *testing.T) {
	tests := []struct {
		name string
		args []string
		code int
		says string // on either stream
		stop float64
	}{
		{"drain", []string{"drain"}, ExitOK, "the container instance is DRAINING", -1},
		{"in a while", []string{"drain", "--timeout", "90s"}, ExitOK, "what still runs is stopped at ", 90},
		{"at once", []string{"drain", "--timeout", "0s"}, ExitOK, "DRAINING", 0},
		{"cancel", []string{"drain", "--cancel"}, ExitOK, "the container instance is ACTIVE", -1},
		{"no task of a service", []string{"drain", "--wait"}, ExitOK, "no task of a service is left\n2 tasks that no service started run on", -1},
		{"JSON", []string{"drain", "--wait", "--json"}, ExitOK, `"tasksThatRunOn": [`, -1},
		{"cancel and wait", []string{"drain", "--cancel", "--wait"}, ExitUsage, "goes with none", -1},
		{"all without wait", []string{"drain", "--all"}, ExitUsage, "what --wait waits for", -1},
		{"in the past", []string{"drain", "--timeout", "-1s"}, ExitUsage, "in the past", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &drainable{Host: hostapitest.New()}
			p := d.Providers()
			p.Instance, p.Drainer = d, d
			r := runWith(t, hostapitest.Serve(t, p), "", tt.args...)
			if r.code != tt.code || !strings.Contains(r.out+r.err, tt.says) {
				t.Errorf("code %d, %q, %q", r.code, r.out, r.err)
			}
			if tt.code == ExitUsage {
				if len(d.asked) > 0 {
					t.Errorf("a wrong command line asked for %+v", d.asked)
				}
				return
			}
			if got := d.asked[0].StopAfter; (got == nil) != (tt.stop < 0) || got != nil && *got != tt.stop {
				t.Errorf("asked to stop after %v, want %v", got, tt.stop)
			}
		})
	}
}

func TestDrainText(t *testing.T) {
	at := hostapitest.Start()
	got := drainText(&hostapi.DrainView{Status: "DRAINING", By: "spot interruption", Reason: "EC2 says so", Since: at, Trouble: "away", StopAt: &at}, at.Add(time.Minute))
	const want = "DRAINING for 1m, ordered by spot interruption: EC2 says so; ECS has not accepted it yet (away); what still runs is stopped at 2026-01-02T15:04:05Z"
	if got != want {
		t.Errorf("got %q", got)
	}
}

func TestWaitingFor(t *testing.T) {
	service := []hostapi.TaskView{{ID: "0123456789abcdef", Service: "shop"}}
	others := []hostapi.TaskView{{ID: "fedcba9876543210", Family: "job"}}
	for _, tt := range []struct {
		all  bool
		want string
	}{
		{false, "tasks left: 1 of services: 0123456789ab (shop)"},
		{true, "tasks left: 1 of services and 1 others: 0123456789ab (shop), fedcba987654 (job)"},
	} {
		if got := waitingFor(service, others, tt.all); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
)

// inVPC gives a task a network interface of its own.
func inVPC(d *task.Definition) {
	d.Network, d.Containers[0].Ports = task.NetworkAWSVPC, nil
	d.ENI = &task.ENI{
		AttachmentARN: "arn:eni", MAC: "0a:11:22:33:44:55", IPv4: []netip.Prefix{netip.MustParsePrefix("10.0.4.17/24")},
		GatewayIPv4: netip.MustParseAddr("10.0.4.1"), NameServers: []string{"10.0.0.2"}, Search: []string{"internal"},
		PrivateDNSName: "ip-10-0-4-17.internal",
	}
}

// attached and named are the endpoints and name files there are.
func (w *world) attached() map[string]ipam.Endpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.endpoints)
}

func (w *world) named() map[string]Files {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.files)
}

func TestContainersShareTheInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		e, stop := w.start(t, nil)
		d := web("a1", 0)
		inVPC(&d)
		d.Containers = append(d.Containers, d.Containers[0])
		d.Containers[1].Name = "side"
		begin(t, e, d)
		id := EndpointID(&d, "web")
		if id != EndpointID(&d, "side") {
			t.Error("the containers have an endpoint each")
		}
		want := map[string]ipam.Endpoint{id: {
			ID: id, Addresses: ipam.Addresses{IPv4: netip.MustParseAddr("169.254.172.2"), MAC: ipam.MAC{0x0a, 0xbe, 169, 254, 172, 2}},
			ENI: &ipam.ENI{MAC: ipam.MAC{0x0a, 0x11, 0x22, 0x33, 0x44, 0x55}, IPv4: d.ENI.IPv4, GatewayIPv4: d.ENI.GatewayIPv4},
		}}
		equalAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		equalPrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
		if diff := cmp.Diff(want, w.attached(), equalAddr, equalPrefix); diff != "" {
			t.Error(diff)
		}
		wantFiles := map[string]Files{id: {
			ID: id, Hostname: "ip-10-0-4-17.internal", Shared: true,
			Hosts: []task.Host{{Name: "ip-10-0-4-17.internal", Address: "10.0.4.17"}},
			DNS:   task.DNS{Servers: []string{"10.0.0.2"}, Search: []string{"internal"}},
		}}
		if diff := cmp.Diff(wantFiles, w.named(), equalAddr); diff != "" {
			t.Error(diff)
		}
		for i := range d.Containers {
			view := e.Tasks()[0]
			if endpoint, ok := view.Endpoint(d.Containers[i].Name); !ok || endpoint.ID != id {
				t.Errorf("%s has endpoint %q", d.Containers[i].Name, endpoint.ID)
			}
		}

		// The lease outlives the agent.
		stop()
		w.revive()
		e, stop = w.start(t, nil)
		defer stop()
		other := web("a2", 0)
		inVPC(&other)
		other.ENI.MAC = "0a:11:22:33:44:66"
		begin(t, e, other)
		if got := w.attached()[EndpointID(&other, "web")].IPv4.String(); got != "169.254.172.3" {
			t.Errorf("the second task has %s", got)
		}
	})
}

// TestInterfaceThatDoesNotCome: such a task fails with the words that ECS users
// know, and one that is to stop does not wait for it.
func TestInterfaceThatDoesNotCome(t *testing.T) {
	for name, tc := range map[string]struct {
		stop bool
		want string
	}{
		"waited for in vain": {false, `STOPPED "ContainerNetworkingError: container resource provisioning: it did not come"`},
		"stopped meanwhile":  {true, "STOPPED"},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, forever, func(c *Config) { c.Network = absent{c.Network} }, func(t *testing.T, w *world, e *Engine) {
				d := web("a1", 0)
				inVPC(&d)
				begun := time.Now()
				begin(t, e, d)
				patience := 2 * time.Minute
				if tc.stop {
					if err := e.Stop(t.Context(), d.ARN); err != nil {
						t.Fatal(err)
					}
					patience = 5 * time.Second
				}
				time.Sleep(patience - time.Since(begun))
				got := w.reports(d.ARN)
				if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], tc.want) || tc.want == "STOPPED" && strings.Contains(got[len(got)-1], "Error") {
					t.Errorf("reports: %q, want the last to be %s", got, tc.want)
				}
			})
		})
	}
}

// absent is a Network that the interface does not come to for a minute.
type absent struct{ Network }

func (absent) Attach(ctx context.Context, _ ipam.Endpoint) error {
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-timer.C:
		return container.Errorf(container.KindNetwork, "container resource provisioning: %w", errors.New("it did not come"))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestInterfaceOf(t *testing.T) {
	d := web("a1", 0)
	inVPC(&d)
	d.ENI.VLAN, d.ENI.TrunkMAC = 7, "0a:00:00:00:00:07"
	d.Proxy = &task.Proxy{
		Container: "web", IgnoredUID: "1337", IngressPort: 15000, EgressPort: 15001, AppPorts: []uint16{80},
		EgressIgnoredIPs: []string{"169.254.170.2", "10.1.2.3/8", "fd00:ec2::254"}, EgressIgnoredPorts: []uint16{22},
	}
	got, err := interfaceOf(&d)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	const want = `{"mac":"0a:11:22:33:44:55","ipv4":["10.0.4.17/24"],"gatewayIpv4":"10.0.4.1","vlan":7,"trunk":"0a:00:00:00:00:07",` +
		`"proxy":{"ignoredUid":1337,"ingressPort":15000,"egressPort":15001,"appPorts":[80],` +
		`"egressIgnoredIps":["169.254.170.2/32","10.0.0.0/8","fd00:ec2::254/128"],"egressIgnoredPorts":[22]}}`
	if err != nil || string(text) != want {
		t.Errorf("%v\n got %s\nwant %s", err, text, want)
	}
	for name, edit := range map[string]func(*task.Definition){
		"no interface": func(d *task.Definition) { d.ENI = nil },
		"address":      func(d *task.Definition) { d.ENI.MAC = "x" },
		"trunk":        func(d *task.Definition) { d.ENI.TrunkMAC = "x" },
		"user":         func(d *task.Definition) { d.Proxy = &task.Proxy{IgnoredUID: "root"} },
		"ignored":      func(d *task.Definition) { d.Proxy = &task.Proxy{EgressIgnoredIPs: []string{"10.1"}} },
	} {
		d := web("a1", 0)
		inVPC(&d)
		edit(&d)
		if _, err := interfaceOf(&d); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

func TestTaskHostname(t *testing.T) {
	d := web("a1", 0)
	inVPC(&d)
	long := "ip-10-0-4-17." + strings.Repeat("x", 60)
	for name, want := range map[string]string{
		"ip-10-0-4-17.internal":  "ip-10-0-4-17.internal",
		"":                       RuntimeID(d.ARN, "")[:12],
		long:                     "ip-10-0-4-17",
		strings.Repeat("y", 100): strings.Repeat("y", 64),
	} {
		d.ENI.PrivateDNSName = name
		if got := taskHostname(&d); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	// An interface with IPv6 alone is known by that.
	d.ENI.PrivateDNSName, d.ENI.IPv4, d.ENI.IPv6 = "host.internal", nil, []netip.Prefix{netip.MustParsePrefix("fd00::1/64")}
	if got := taskFiles(&d).Hosts; !slices.Equal(got, []task.Host{{Name: "host.internal", Address: "fd00::1"}}) {
		t.Errorf("hosts %v", got)
	}
}

package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/runtime/network"
)

// labelled is a host whose addresses lead to servers of the test, or nowhere, for each mode.
type labelled struct {
	leads    map[network.Way]map[string]string // address to server
	problems []network.Problem
}

func (l *labelled) probe(_ context.Context, way network.Way, ask func(network.Dial) error) error {
	return ask(func(ctx context.Context, proto, address string) (net.Conn, error) {
		to, ok := l.leads[way][address]
		if !ok {
			return nil, errors.New("dropped")
		}
		return (&net.Dialer{}).DialContext(ctx, proto, to)
	})
}

func (l *labelled) lead(way network.Way, address, to string) {
	if l.leads[way] == nil {
		l.leads[way] = map[string]string{}
	}
	l.leads[way][address] = to
}

func serveStatus(t *testing.T, get, put int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(put)
			return
		}
		w.WriteHeader(get)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestSelfTest(t *testing.T) {
	agent := serveStatus(t, http.StatusNotFound, http.StatusNotFound)
	strict := serveStatus(t, http.StatusUnauthorized, http.StatusOK)
	lax := serveStatus(t, http.StatusOK, http.StatusOK)
	const ec2 = "169.254.169.254:80"
	input := network.Problem{What: "Chain INPUT drops.", Hint: "Accept them.", Harm: network.Probable}
	all := func(l *labelled) {
		for _, way := range []network.Way{network.FromHost, network.FromBridge, network.FromAWSVPC} {
			l.lead(way, metadataEndpoint, agent)
		}
	}
	for _, tt := range []struct {
		name  string
		world func(l *labelled, s *selfTest)
		want  []string // status, check: words of why → words of mend
	}{
		{"all is well, and there is no instance metadata", func(l *labelled, _ *selfTest) { all(l) }, []string{
			"OK metadata, host mode: containers reach", "OK metadata, bridge mode: containers reach", "OK metadata, awsvpc mode: containers reach",
			"OK instance metadata: there is none",
		}},
		{"a firewall drops what comes from containers", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, metadataEndpoint, agent)
			l.problems = []network.Problem{input}
			s.ways = s.ways[:2]
		}, []string{"OK metadata, host mode:", "FAIL metadata, bridge mode: dropped → Chain INPUT drops. Accept them.", "OK instance metadata:"}},
		{"a firewall that lets them through", func(l *labelled, s *selfTest) {
			all(l)
			l.problems = []network.Problem{input}
			s.ways = s.ways[:2]
		}, []string{"OK metadata, host mode:", "OK metadata, bridge mode:", "OK instance metadata:"}},
		{"nobody knows why", func(_ *labelled, s *selfTest) { s.ways = s.ways[1:2] }, []string{
			"FAIL metadata, bridge mode: dropped → look for a firewall", "OK instance metadata:",
		}},
		{"an agent beside another has an address of its own for host mode", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, "127.0.0.1:40000", agent)
			s.ways, s.hostAddress = s.ways[:1], "127.0.0.1:40000"
		}, []string{"OK metadata, host mode: 127.0.0.1:40000", "OK instance metadata:"}},
		{"other problems", func(l *labelled, s *selfTest) {
			l.problems = []network.Problem{{What: "The bridge is gone.", Hint: "See the log."}, {What: "FORWARD drops.", Hint: "Accept.", Harm: network.Possible}}
			s.ways = nil
		}, []string{"FAIL network: The bridge is gone → See the log.", "WARN network: FORWARD drops → Accept.", "OK instance metadata:"}},
		{"hop limit 1", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, ec2, strict)
			s.ways, s.instance = nil, func(context.Context) (bool, string) { return true, "" }
		}, []string{"OK instance metadata: a token is required (IMDSv2); containers in bridge mode do not reach it"}},
		{"hop limit 2, and no token needed", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, ec2, lax)
			l.lead(network.FromBridge, ec2, lax)
			s.ways, s.instance = nil, func(context.Context) (bool, string) { return true, "" }
		}, []string{"WARN instance metadata: IMDSv1 … containers in bridge mode reach it, and the host's role → --http-tokens required"}},
		{"closed by a setting", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, ec2, strict)
			s.ways, s.blocked, s.instance = nil, "BERTH_BLOCK_IMDS", func(context.Context) (bool, string) { return true, "" }
		}, []string{"OK instance metadata: closed to containers (BERTH_BLOCK_IMDS)"}},
		{"elsewhere", func(l *labelled, s *selfTest) {
			l.lead(network.FromHost, "127.0.0.1:81", strict)
			s.ways, s.instance = nil, func(context.Context) (bool, string) { return true, "http://127.0.0.1:81" }
		}, []string{"OK instance metadata: not where containers look"}},
		{"it has gone away", func(_ *labelled, s *selfTest) {
			s.ways, s.instance = nil, func(context.Context) (bool, string) { return true, "" }
		}, []string{"WARN instance metadata: does not answer → without it the host has no role"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // Who does not answer is waited for.
			l := &labelled{leads: make(map[network.Way]map[string]string)}
			s := &selfTest{
				probe: l.probe, problems: func(context.Context) ([]network.Problem, error) { return l.problems, nil },
				ways: []network.Way{network.FromHost, network.FromBridge, network.FromAWSVPC}, hostAddress: metadataEndpoint,
				instance: func(context.Context) (bool, string) { return false, "" },
			}
			tt.world(l, s)
			got := s.look(t.Context())
			if len(got) != len(tt.want) {
				t.Fatalf("%d findings, want %d: %+v", len(got), len(tt.want), got)
			}
			for i, v := range got {
				compareCheck(t, &v, tt.want[i])
			}
		})
	}
}

func compareCheck(t *testing.T, v *hostapi.CheckView, want string) {
	t.Helper()
	head, why, _ := strings.Cut(want, ":")
	why, mend, _ := strings.Cut(why, "→")
	if v.Status+" "+v.Check != head {
		t.Errorf("%s %s, want %s", v.Status, v.Check, head)
	}
	for part := range strings.SplitSeq(strings.TrimSpace(why), " … ") {
		if !strings.Contains(v.Why, part) {
			t.Errorf("%s: %q, want %q", v.Check, v.Why, part)
		}
	}
	if !strings.Contains(v.Mend, strings.TrimSpace(mend)) || (mend == "") != (v.Mend == "") {
		t.Errorf("%s: mend with %q, want %q", v.Check, v.Mend, mend)
	}
}

package network

import (
	"strings"
	"testing"

	"github.com/berthd/berth/ipam"
)

// Somebody flushes all rules of the host under containers that serve.
func TestMendAfterFlush(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	web := l.attached(t, "web", ipam.Publish{Protocol: ipam.TCP, HostPort: 8080, ContainerPort: 80})
	serve(t, l.inside(t, "web"), "web", 80)
	asked := 0
	plan := func() ipam.Plan { asked++; return ipam.Plan{web} }
	if mended, err := l.net.Mend(t.Context(), plan); mended || err != nil || asked != 0 {
		t.Fatalf("with nothing to mend: %v, %v, asked %d times for the plan", mended, err, asked)
	}
	command(t, l.host, "nft", "flush", "ruleset")
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err == nil {
		t.Fatalf("answered %q without rules: the test could not fail", got)
	}
	if mended, err := l.net.Mend(t.Context(), plan); !mended || err != nil {
		t.Fatalf("mended %v, %v", mended, err)
	}
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil || !strings.HasPrefix(got, "web from") {
		t.Errorf("the published port answers %q, %v", got, err)
	}
	// The guard of source addresses alone is missed, too.
	command(t, l.host, "nft", "delete", "table", "bridge", "berth")
	if mended, err := l.net.Mend(t.Context(), plan); !mended || err != nil {
		t.Fatalf("mended %v, %v", mended, err)
	}
	if got, err := ask(t.Context(), l.client, "tcp", at(host4, 8080)); err != nil || !strings.HasPrefix(got, "web from") {
		t.Errorf("the published port answers %q, %v", got, err)
	}
	// The next container can be attached.
	l.attached(t, "next", ipam.Publish{Protocol: ipam.TCP, HostPort: 8081, ContainerPort: 80})
}

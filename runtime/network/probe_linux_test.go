package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/ipam"
)

// The metadata endpoint is asked from where containers of each network mode are. A firewall of the host that drops what
// it does not know is in the way of two of them, and Check says what helps.
func TestProbe(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TMDS = netip.MustParseAddrPort("127.0.0.1:51679") })
	l.ensure(t)
	serve(t, l.host, "agent", 51679)
	side, err := ipam.New(ipam.DefaultLinkLocal())
	if err != nil {
		t.Fatal(err)
	}
	probe := func(way Way, patient time.Duration) error {
		t.Helper()
		leases := l.leases
		if way == FromAWSVPC {
			leases = side
		}
		id := "probe-" + string(way)
		addresses, err := leases.Lease(id)
		if err != nil {
			t.Fatal(err)
		}
		defer leases.Release(id)
		err = l.net.Probe(t.Context(), way, ipam.Endpoint{ID: id, Addresses: addresses}, func(dial Dial) error {
			// The first packet is lost where the link has just been made, and sent again after a second.
			for deadline := time.Now().Add(patient); ; {
				ctx, cancel := context.WithTimeoutCause(t.Context(), silence, errors.New("no answer"))
				conn, err := dial(ctx, "tcp", "169.254.170.2:80")
				cancel()
				if err == nil {
					return conn.Close()
				}
				if time.Now().After(deadline) {
					return err
				}
			}
		})
		if entries, readErr := os.ReadDir(l.net.cfg.NetNSDir); len(entries) > 0 || readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
			t.Errorf("from %s: left: %v, %v", way, entries, readErr)
		}
		return err
	}
	for _, way := range []Way{FromHost, FromBridge, FromAWSVPC} {
		if err := probe(way, patience); err != nil {
			t.Errorf("from %s: %v", way, err)
		}
	}
	if links := command(t, l.host, "ip", "-o", "link", "show", "type", "veth"); strings.Contains(links, "probe-") {
		t.Errorf("links are left:\n%s", links)
	}

	command(t, l.host, "nft", "add table inet theirs")
	command(t, l.host, "nft", "add chain inet theirs in { type filter hook input priority 10; policy drop; }")
	command(t, l.host, "nft", "add rule inet theirs in iifname lo accept")
	for way, reached := range map[Way]bool{FromHost: true, FromBridge: false, FromAWSVPC: false} {
		if err := probe(way, 2*silence); (err == nil) != reached {
			t.Errorf("behind a firewall, from %s: %v", way, err)
		}
	}
	problems, err := l.net.Check(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].What, "Chain in of table inet theirs drops what comes to the host") {
		t.Fatalf("%q, %v", problems, err)
	}
	hint, ok := strings.CutPrefix(problems[0].Hint, "Accept them: ")
	if !ok {
		t.Fatalf("the hint is %q", problems[0].Hint)
	}
	for line := range strings.SplitSeq(hint, "; ") {
		command(t, l.host, "nft", strings.TrimPrefix(line, "nft "))
	}
	for _, way := range []Way{FromHost, FromBridge, FromAWSVPC} {
		if err := probe(way, patience); err != nil {
			t.Errorf("with the rules of the hint, from %s: %v", way, err)
		}
	}
}

// A Sync in the middle takes the probe's link for a stray: it is made once more.
func TestProbeOutlivesSync(t *testing.T) {
	l := newLab(t, nil)
	l.ensure(t)
	addresses, err := l.leases.Lease("probe")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	err = l.net.Probe(t.Context(), FromBridge, ipam.Endpoint{ID: "probe", Addresses: addresses}, func(Dial) error {
		if asked++; asked > 1 {
			return nil
		}
		if _, err := l.net.Sync(t.Context(), nil); err != nil {
			t.Error(err)
		}
		return errors.New("no answer")
	})
	if err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

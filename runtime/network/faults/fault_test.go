package faults

import (
	"net/netip"
	"slices"
	"testing"
)

func TestDisjoint(t *testing.T) {
	in := prefixes("10.1.2.3/32", "10.0.0.0/8", "fd00::/8", "10.255.0.0/16", "11.0.0.0/8", "192.0.2.9/24", "192.0.2.0/24", "fd01::1/128")
	if got, want := disjoint(in, true), prefixes("10.0.0.0/8", "11.0.0.0/8", "192.0.2.0/24"); !slices.Equal(got, want) {
		t.Errorf("IPv4: %v", got)
	}
	if got, want := disjoint(in, false), prefixes("fd00::/8"); !slices.Equal(got, want) {
		t.Errorf("IPv6: %v", got)
	}
}

func TestAfter(t *testing.T) {
	for p, want := range map[string]string{
		"10.0.0.0/8": "11.0.0.0", "10.0.0.128/25": "10.0.1.0", "192.0.2.7/32": "192.0.2.8", "10.32.0.0/11": "10.64.0.0",
		"0.0.0.0/0": "", "255.255.255.255/32": "", "::/0": "", "fd00::/12": "fd10::", "fd00::1/128": "fd00::2",
	} {
		got := after(netip.MustParsePrefix(p))
		if want == "" && got.IsValid() || want != "" && got != netip.MustParseAddr(want) {
			t.Errorf("after %s comes %v", p, got)
		}
	}
}

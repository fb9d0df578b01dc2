package ipam

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// withENI is an endpoint that can be.
func withENI() Endpoint {
	return Endpoint{
		ID:        "task",
		Addresses: Addresses{IPv4: netip.MustParseAddr("169.254.172.2"), MAC: MAC{0x0a, 0xbe, 169, 254, 172, 2}},
		ENI: &ENI{
			MAC:  MAC{0x0a, 0x11},
			IPv4: []netip.Prefix{netip.MustParsePrefix("10.0.4.17/24")}, GatewayIPv4: netip.MustParseAddr("10.0.4.1"),
			IPv6: []netip.Prefix{netip.MustParsePrefix("fd00::17/64")},
		},
	}
}

func TestENIValidate(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("fd00::1/8")
	for _, tc := range []struct {
		want string // "" is none
		edit func(*Endpoint)
	}{
		{"", func(*Endpoint) {}},
		{"", func(e *Endpoint) { e.ENI.IPv4, e.ENI.GatewayIPv4 = nil, netip.Addr{} }},
		{"", func(e *Endpoint) { e.ENI.VLAN, e.ENI.Trunk = 4094, MAC{1} }},
		{"", func(e *Endpoint) { e.ENI.Proxy = &Proxy{EgressPort: 1} }},
		{"no address to reach the agent from", func(e *Endpoint) { e.IPv4 = netip.Addr{} }},
		{"publishes ports", func(e *Endpoint) { e.Ports = []Publish{{Protocol: TCP, HostPort: 1, ContainerPort: 1}} }},
		{"no hardware address", func(e *Endpoint) { e.ENI.MAC = MAC{} }},
		{"has no address", func(e *Endpoint) { e.ENI.IPv4, e.ENI.IPv6 = nil, nil }},
		{"is no IPv4 address", func(e *Endpoint) { e.ENI.IPv4 = []netip.Prefix{v6} }},
		{"is no IPv6 address", func(e *Endpoint) { e.ENI.IPv6 = []netip.Prefix{v4} }},
		{"other family's place", func(e *Endpoint) { e.ENI.GatewayIPv4 = v6.Addr() }},
		{"other family's place", func(e *Endpoint) { e.ENI.GatewayIPv6 = v4.Addr() }},
		{"VLAN 4095", func(e *Endpoint) { e.ENI.VLAN, e.ENI.Trunk = 4095, MAC{1} }},
		{"no trunk", func(e *Endpoint) { e.ENI.VLAN = 7 }},
		{"no egress port", func(e *Endpoint) { e.ENI.Proxy = &Proxy{} }},
		{"no ingress port", func(e *Endpoint) { e.ENI.Proxy = &Proxy{EgressPort: 1, AppPorts: []uint16{80}} }},
	} {
		e := withENI()
		tc.edit(&e)
		err := e.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%+v: %v", e.ENI, err)
		case tc.want != "" && (!errors.Is(err, ErrBadPlan) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v: %v, want %q", e.ENI, err, tc.want)
		}
	}
	other := withENI()
	other.ID, other.IPv4 = "other", netip.MustParseAddr("169.254.172.3")
	if err := (Plan{withENI(), other}).Validate(); !errors.Is(err, ErrBadPlan) || !strings.Contains(err.Error(), "task and other") {
		t.Errorf("one interface for two: %v", err)
	}
}

// An endpoint that was written down is the same when it is read.
func TestENIInJSON(t *testing.T) {
	want := withENI()
	uid := uint32(0)
	want.ENI.Proxy = &Proxy{IgnoredUID: &uid, EgressPort: 15001, EgressIgnoredIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Endpoint
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v\n%s", err, got, want, text)
	}
}

func TestDefaultLinkLocal(t *testing.T) {
	pool := DefaultLinkLocal()
	gateway, _ := pool.Gateway()
	if err := pool.Validate(); err != nil || gateway.String() != "169.254.172.1" || pool.Capacity() != 1021 {
		t.Errorf("%v: gateway %v, capacity %d, %v", pool, gateway, pool.Capacity(), err)
	}
}

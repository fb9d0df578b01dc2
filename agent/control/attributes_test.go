package control

import (
	"slices"
	"testing"

	"github.com/berthd/berth/agent/wire/ecs"
)

// TestFaultInjectionAttribute: where the kernel can, but not in ECS Anywhere
// (spec/control-plane.md §2.2).
func TestFaultInjectionAttribute(t *testing.T) {
	for _, tc := range []struct {
		features Features
		want     bool
	}{
		{Features{}, false},
		{Features{FaultInjection: true}, true},
		{Features{FaultInjection: true, External: true}, false},
	} {
		h := Host{Features: tc.features}
		got := slices.ContainsFunc(h.attributes(true), func(a ecs.Attribute) bool { return a.Name == "ecs.capability.fault-injection" })
		if got != tc.want {
			t.Errorf("%+v: advertised %v", tc.features, got)
		}
	}
}

package hostapi_test

import (
	"context"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

// orders keeps what it is asked for.
type orders struct{ got []hostapi.DrainRequest }

func (o *orders) Drain(_ context.Context, r hostapi.DrainRequest) (*hostapi.DrainView, error) {
	o.got = append(o.got, r)
	return &hostapi.DrainView{Status: "DRAINING", Reason: r.Reason}, nil
}

func TestDrain(t *testing.T) {
	o := &orders{}
	c := hostapi.NewClient(hostapitest.Serve(t, hostapi.Providers{Drainer: o}))
	after := 1.5
	v, err := c.Drain(t.Context(), hostapi.DrainRequest{Reason: "new kernel", StopAfter: &after})
	if err != nil || v.Status != "DRAINING" || v.Reason != "new kernel" {
		t.Errorf("got %+v, %v", v, err)
	}
	if len(o.got) != 1 || *o.got[0].StopAfter != 1.5 {
		t.Errorf("ordered %+v", o.got)
	}
	if _, err := c.Drain(t.Context(), hostapi.DrainRequest{Cancel: true, StopAfter: &after}); err == nil || !strings.Contains(err.Error(), "stopAfter") {
		t.Errorf("a cancel that stops tasks: %v", err)
	}
	if len(o.got) != 1 {
		t.Errorf("ordered %+v", o.got)
	}
}

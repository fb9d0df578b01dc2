package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/berthd/berth/agent/hostapi"
)

func TestWhatIsWrongWithALog(t *testing.T) {
	since := time.Unix(1, 0)
	for _, tc := range []struct {
		log         *hostapi.LogView
		state, told string
	}{
		{nil, "", ""},
		{&hostapi.LogView{Driver: "json-file"}, "", ""},
		{
			&hostapi.LogView{Driver: "awslogs", WaitingBytes: 7, StuckSince: &since, Reason: "no such group"}, ", log waits",
			"berth: log of web (awslogs): 7 bytes wait for the log service: no such group\n",
		},
		{
			&hostapi.LogView{Driver: "syslog", DroppedLines: 3, RejectedLines: 2}, ", 5 lines lost",
			"berth: log of web (syslog): 3 lines were dropped for want of room\n" +
				"berth: log of web (syslog): 2 lines were rejected by the log service\n",
		},
	} {
		var told bytes.Buffer
		a := &app{}
		a.Err = &told
		if err := a.tellLog(hostapi.ContainerView{Name: "web", Log: tc.log}); err != nil {
			t.Error(err)
		}
		if got := logState(tc.log); got != tc.state || told.String() != tc.told {
			t.Errorf("%+v: %q, %q", tc.log, got, told.String())
		}
	}
}

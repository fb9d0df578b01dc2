package localcluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/wire/tcs"
)

// TestTelemetryIsBounded: a cluster that runs for months remembers the latest of
// what it saw, and no more.
func TestTelemetryIsBounded(t *testing.T) {
	seen := newTelemetry()
	for i := range 3 * maxMeasured {
		seen.publish("i", &tcs.PublishMetricsRequest{TaskMetrics: []tcs.TaskMetric{{TaskARN: fmt.Sprint(i)}, {TaskARN: "first"}}})
		seen.frame(Frame{Text: fmt.Sprint(i)})
	}
	last := fmt.Sprint(3*maxMeasured - 1)
	if _, ok := seen.seen.Tasks[last]; !ok || len(seen.seen.Tasks) > maxMeasured {
		t.Errorf("metrics of %d tasks are kept, of the last one: %v", len(seen.seen.Tasks), ok)
	}
	if n := len(seen.frames); n != maxFrames || seen.frames[n-1].Text != last {
		t.Errorf("%d frames are kept, the last is %q", n, seen.frames[n-1].Text)
	}
	for range 5 {
		seen.frame(Frame{Text: strings.Repeat("x", maxFrameBytes/3)})
	}
	if n := len(seen.frames); n != 3 || seen.bytes > maxFrameBytes {
		t.Errorf("%d frames of %d bytes are kept", n, seen.bytes)
	}
}

package tcs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/wire/tcs"
)

func frames(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "frames.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// TestExamples reads every example of the spec and writes it again, unchanged.
func TestExamples(t *testing.T) {
	for _, frame := range frames(t) {
		m, err := tcs.Decode(frame)
		if err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		again, err := tcs.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(frame, &want), json.Unmarshal(again, &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", m.MessageType(), diff)
		}
	}
}

func TestInbound(t *testing.T) {
	for frame, want := range map[string]tcs.Message{
		`{"type":"HeartbeatMessage","message":{"healthy":true}}`:              &tcs.HeartbeatMessage{Healthy: true},
		`{"type":"AckPublishMetric","message":{"message":"ok","more":1}}`:     &tcs.Ack{Kind: tcs.TypeAckMetric, Message: "ok"},
		`{"type":"AckPublishHealth"}`:                                         &tcs.Ack{Kind: tcs.TypeAckHealth},
		`{"type":"AckPublishInstanceStatus","message":null}`:                  &tcs.Ack{Kind: tcs.TypeAckInstanceStatus},
		`{"type":"StopTelemetrySessionMessage","message":{"message":"bye"}}`:  &tcs.StopTelemetrySessionMessage{Message: "bye"},
		`{"type":"ResourceValidationException","message":{"message":"what"}}`: &tcs.Exception{Kind: tcs.ResourceValidationException, Message: "what"},
	} {
		got, err := tcs.Decode([]byte(frame))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", frame, diff)
		}
	}
	_, err := tcs.Decode([]byte(`{"type":"X"}`))
	if u, ok := errors.AsType[*tcs.UnknownTypeError](err); !ok || u.Type != "X" {
		t.Errorf("unknown type gave %v", err)
	}
}

func TestFrame(t *testing.T) {
	header := http.Header{"X-Amz-Date": {"20250301T120000Z"}, "Host": {"h"}, "Authorization": {"AWS4 a=b, c"}}
	frame := tcs.EncodeFrame(header, []byte(`{"type":"X"}`))
	want := "Authorization: AWS4 a=b, c\r\nHost: h\r\nX-Amz-Date: 20250301T120000Z\r\n\r\n{\"type\":\"X\"}"
	if string(frame) != want {
		t.Errorf("got  %q\nwant %q", frame, want)
	}
	for _, f := range [][]byte{frame, bytes.ReplaceAll(frame, []byte("\r\n"), []byte("\n"))} {
		h, body, err := tcs.DecodeFrame(f)
		if err != nil || string(body) != `{"type":"X"}` || cmp.Diff(header, h) != "" {
			t.Errorf("%q was read as %v %q %v", f, h, body, err)
		}
	}
	if h, body, err := tcs.DecodeFrame([]byte(`{"a":"\n\n"}`)); err != nil || len(h) != 0 || string(body) != `{"a":"\n\n"}` {
		t.Errorf("unsigned frame was read as %v %q %v", h, body, err)
	}
	for _, bad := range []string{"", "Host: h", "Host: h\r\n", "no colon\n\n{}"} {
		if _, _, err := tcs.DecodeFrame([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestTimestamp(t *testing.T) {
	for ms, want := range map[int64]string{
		1740830400123: "1740830400.123", 1740830400500: "1740830400.5", 1740830400000: "1740830400",
		1740830400005: "1740830400.005", -1500: "-1.5", 0: "0",
	} {
		b, err := json.Marshal(tcs.At(time.UnixMilli(ms)))
		if err != nil || string(b) != want {
			t.Errorf("%d is written as %s (%v), want %s", ms, b, err, want)
		}
		var back tcs.Timestamp
		if err := json.Unmarshal(b, &back); err != nil || back.UnixMilli() != ms {
			t.Errorf("%s is read as %d (%v)", b, back.UnixMilli(), err)
		}
	}
	var ts tcs.Timestamp
	if json.Unmarshal([]byte(`"soon"`), &ts) == nil || json.Unmarshal([]byte(`1e300`), &ts) == nil {
		t.Error("nonsense was read as a time")
	}
}

func TestOverflow(t *testing.T) {
	got := tcs.NewCounters(0, math.MaxInt64+6, math.MaxUint64, 3)
	want := &tcs.Counters{Max: math.MaxInt64, OverflowMax: 6, Sum: math.MaxInt64, OverflowSum: 1, SampleCount: 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(tcs.EncodeFrame(http.Header{"Host": {"h"}}, frame))
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		_, body, err := tcs.DecodeFrame(frame)
		if err != nil {
			return
		}
		m, err := tcs.Decode(body)
		if err != nil {
			return
		}
		once, err := tcs.Encode(m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		m2, err := tcs.Decode(once)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, once)
		}
		if twice, err := tcs.Encode(m2); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, once, twice)
		}
	})
}

// TestCountersSplit: the rule of control-plane §5.5 for what no signed integer
// holds.
func TestCountersSplit(t *testing.T) {
	const top = math.MaxInt64
	for _, tt := range []struct {
		value          uint64
		base, overflow int64
	}{
		{0, 0, 0},
		{top - 1, top - 1, 0},
		{top, top, 0},
		{top + 1, top, 1},
		{top + 1000, top, 1000},
		{2*top - 1, top, top - 1},
		{2 * top, top, 0}, // the rule is a remainder, whatever one thinks of it
		{math.MaxUint64, top, 1},
	} {
		if c := tcs.NewCounters(0, tt.value, 0, 1); c.Max != tt.base || c.OverflowMax != tt.overflow {
			t.Errorf("%d is sent as %d and %d; want %d and %d", tt.value, c.Max, c.OverflowMax, tt.base, tt.overflow)
		}
	}
}

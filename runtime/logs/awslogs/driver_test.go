package awslogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/logs"
)

// service is CloudWatch Logs, as far as one container needs it.
type service struct {
	*httptest.Server

	mu      sync.Mutex // guards what follows
	groups  map[string]bool
	streams map[string][]event
	calls   []string // operation, and the access key that signed
	formats []string // x-amzn-logs-format of each PutLogEvents
	answers []string // what to say instead, one after the other: JSON; "" is what is right
	hates   string   // a message that makes a call invalid
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{groups: map[string]bool{}, streams: map[string][]event{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z]+)/\d{8}/eu-west-1/logs/aws4_request, SignedHeaders=[a-z0-9;-]*host;[a-z0-9;-]*x-amz-date;`)

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct {
		Group  string  `json:"logGroupName"`
		Stream string  `json:"logStreamName"`
		Events []event `json:"logEvents"`
	}
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "Logs_20140328.")
	m := signed.FindStringSubmatch(r.Header.Get("Authorization"))
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || m == nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		http.Error(w, fmt.Sprint(err, r.Header), http.StatusTeapot)
		return
	}
	s.calls = append(s.calls, operation+" "+m[1])
	if len(s.answers) > 0 {
		answer := s.answers[0]
		s.answers = s.answers[1:]
		if strings.Contains(answer, "__type") {
			w.WriteHeader(http.StatusBadRequest)
		}
		if answer != "" {
			_, _ = w.Write([]byte(answer))
			return
		}
	}
	refuse := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws.logs#` + code + `","message":"no"}`))
	}
	id := in.Group + ":" + in.Stream
	_, exists := s.streams[id]
	switch {
	case operation == "CreateLogGroup":
		s.groups[in.Group] = true
	case !s.groups[in.Group]:
		refuse("ResourceNotFoundException")
	case operation == "CreateLogStream" && exists:
		refuse("ResourceAlreadyExistsException")
	case operation == "CreateLogStream":
		s.streams[id] = nil
	case !exists:
		refuse("ResourceNotFoundException")
	default:
		size := 0
		for i, e := range in.Events {
			size += len(e.Message) + eventCost
			if e.Message == "" || e.Message == s.hates || len(e.Message) > maxEvent || i > 0 && e.Timestamp < in.Events[i-1].Timestamp ||
				e.Timestamp-in.Events[0].Timestamp >= maxSpan.Milliseconds() {
				refuse("InvalidParameterException")
				return
			}
		}
		if len(in.Events) == 0 || len(in.Events) > maxEvents || size > maxBytes {
			refuse("InvalidParameterException")
			return
		}
		s.formats = append(s.formats, r.Header.Get("X-Amzn-Logs-Format"))
		s.streams[id] = append(s.streams[id], in.Events...)
		_, _ = w.Write([]byte(`{"nextSequenceToken":"x"}`))
	}
}

// keys are fixed ones.
type keys string

func (k keys) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: string(k), SecretAccessKey: "s"}, nil
}

// container is one with these options beside group and region.
func containerWith(options map[string]string) logs.Container {
	all := map[string]string{optGroup: "/shop", optRegion: "eu-west-1", optStream: "web/web/9ab0"}
	maps.Copy(all, options)
	return logs.Container{ID: "0123456789abcdef", Task: "9ab0", Name: "web", Driver: Name, Options: all}
}

// open opens a driver at the service; rejected counts what it rejects.
func (s *service) open(t *testing.T, options map[string]string) (_ logs.Driver, rejected *int) {
	t.Helper()
	rejected = new(int)
	factory := New(Config{Host: keys("HOST"), Endpoint: s.URL})
	c := containerWith(options)
	if err := factory.Check(c); err != nil {
		t.Fatal(err)
	}
	d, err := factory.Open(t.Context(), logs.DriverConfig{
		Container: c, Log: zap.NewNop(), Rejected: func(n int, _ error) { *rejected += n },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d, rejected
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// entries are lines a millisecond apart.
func entries(texts ...string) (out []logs.Entry) {
	for i, text := range texts {
		out = append(out, logs.Entry{Time: noon.Add(time.Duration(i) * time.Millisecond), Stream: logs.Stdout, Line: []byte(text)})
	}
	return out
}

// writeAll writes as the shipper does: again while nothing is taken with an error.
func writeAll(t *testing.T, d logs.Driver, all []logs.Entry) (failures int) {
	t.Helper()
	for len(all) > 0 {
		n, err := d.Write(t.Context(), all)
		all = all[n:]
		if err != nil {
			if failures++; failures > 20 {
				t.Fatal(err)
			}
		} else if n == 0 {
			t.Fatal("nothing was taken, without an error")
		}
	}
	return failures
}

func (s *service) texts() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.streams["/shop:web/web/9ab0"] {
		out = append(out, e.Message)
	}
	return out
}

func TestWrite(t *testing.T) {
	s := newService(t)
	s.groups["/shop"] = true
	d, rejected := s.open(t, nil)
	long := strings.Repeat("ü", maxEvent/2) + "ü!" // the cut falls between two letters
	all := entries("one\n", "\n", "caf\xe9\n", long+"\n", "never ended")
	all[0].Time = noon.Add(time.Hour) // out of order
	if failures := writeAll(t, d, all); failures > 0 {
		t.Errorf("%d failures", failures)
	}
	want := []string{"caf\ufffd", strings.Repeat("ü", maxEvent/2), "ü!", "never ended", "one"}
	if got := s.texts(); !slices.Equal(got, want) {
		t.Errorf("%.40q", got)
	}
	if want := []string{"CreateLogStream HOST", "PutLogEvents HOST"}; !slices.Equal(s.calls, want) || *rejected != 0 {
		t.Errorf("%v, %d rejected", s.calls, *rejected)
	}
	if e := s.streams["/shop:web/web/9ab0"][0]; e.Timestamp != noon.UnixMilli()+2 {
		t.Errorf("the time is %d", e.Timestamp)
	}
	// Nothing but what the service has no use for is no call.
	if n, err := d.Write(t.Context(), entries("\n", "\n")); n != 2 || err != nil || len(s.calls) != 2 {
		t.Error(n, err, s.calls)
	}
}

// What does not go into one call goes into the next.
func TestLimits(t *testing.T) {
	big := strings.Repeat("x", 200<<10)
	var many []string
	for i := range maxEvents + 10 {
		many = append(many, fmt.Sprint(i))
	}
	days := entries("a", "b", "c", "d")
	days[1].Time = noon.Add(23 * time.Hour)
	days[2].Time = noon.Add(24 * time.Hour)
	days[3].Time = noon.Add(12 * time.Hour)
	for name, tc := range map[string]struct {
		all  []logs.Entry
		puts int
	}{
		"bytes":  {entries(big, big, big, big, big, big, big), 2},
		"events": {entries(many...), 2},
		"a day":  {days, 2},
	} {
		s := newService(t)
		s.groups["/shop"] = true
		d, rejected := s.open(t, nil)
		failures := writeAll(t, d, tc.all)
		if got := len(s.calls) - 1; failures != 0 || got != tc.puts || len(s.texts()) != len(tc.all) || *rejected != 0 {
			t.Errorf("%s: %d calls, %d failures, %d events", name, got, failures, len(s.texts()))
		}
	}
}

func TestGroupsAndStreams(t *testing.T) {
	s := newService(t)
	d, _ := s.open(t, nil)
	_, err := d.Write(t.Context(), entries("x"))
	const want = "cannot create log stream web/web/9ab0 in log group /shop: ResourceNotFoundException: no"
	if err == nil || err.Error() != want {
		t.Errorf("without a group: %v", err)
	}
	d, _ = s.open(t, map[string]string{optCreateGroup: "true"})
	if failures := writeAll(t, d, entries("one")); failures != 0 {
		t.Error("the group was not created")
	}
	// Somebody deletes the stream, and then group and all.
	delete(s.streams, "/shop:web/web/9ab0")
	if failures := writeAll(t, d, entries("two")); failures != 1 || len(s.texts()) != 1 {
		t.Errorf("%d failures, %q", failures, s.texts())
	}
	clear(s.streams)
	clear(s.groups)
	if failures := writeAll(t, d, entries("three")); failures != 1 || len(s.texts()) != 1 {
		t.Errorf("%d failures, %q", failures, s.texts())
	}
	// It exists already, and nobody is to create it.
	s.calls = nil
	d, _ = s.open(t, map[string]string{optCreateStream: "false", optFormat: formatEMF})
	if failures := writeAll(t, d, entries("four")); failures != 0 || !slices.Equal(s.calls, []string{"PutLogEvents HOST"}) {
		t.Errorf("%v", s.calls)
	}
	if last := s.formats[len(s.formats)-1]; last != formatEMF {
		t.Errorf("the format is %q", last)
	}
}

func TestRefusals(t *testing.T) {
	s := newService(t)
	s.groups["/shop"] = true
	d, rejected := s.open(t, nil)
	writeAll(t, d, entries("x"))
	for _, tc := range []struct {
		name, answer       string
		failures, rejected int
	}{
		{"throttled", `{"__type":"ThrottlingException","message":"Rate exceeded"}`, 1, 0},
		{"denied", `{"__type":"AccessDeniedException","Message":"not authorized"}`, 1, 0},
		{"had it", `{"__type":"DataAlreadyAcceptedException","message":"x"}`, 0, 0},
		{"too old", `{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":2}}`, 0, 2},
		{"expired", `{"rejectedLogEventsInfo":{"expiredLogEventEndIndex":1,"tooNewLogEventStartIndex":2}}`, 0, 2},
		{"no answer", `{"`, 1, 0},
	} {
		*rejected = 0
		s.answers = []string{tc.answer}
		if failures := writeAll(t, d, entries("a", "b", "c")); failures != tc.failures || *rejected != tc.rejected {
			t.Errorf("%s: %d failures, %d rejected", tc.name, failures, *rejected)
		}
	}
	// One line that the service will not have does not stand in the way of others.
	*rejected, s.hates = 0, "poison"
	clear(s.streams["/shop:web/web/9ab0"])
	s.streams["/shop:web/web/9ab0"] = nil
	var want, all []string
	for i := range 50 {
		text := fmt.Sprint(i)
		if i == 31 {
			text = s.hates
		} else {
			want = append(want, text)
		}
		all = append(all, text)
	}
	writeAll(t, d, entries(all...))
	if got := s.texts(); !slices.Equal(got, want) || *rejected != 1 {
		t.Errorf("%q, %d rejected", got, *rejected)
	}
	s.CloseClientConnections()
	s.Close()
	if n, err := d.Write(t.Context(), entries("x")); n != 0 || err == nil || strings.Contains(err.Error(), "HOST") {
		t.Error(n, err)
	}
}

// The shipper is told how to batch by the options.
func TestBatch(t *testing.T) {
	factory := New(Config{Host: keys("HOST"), Region: "eu-west-1"})
	b := factory.Batch(containerWith(nil))
	if b.Linger != 5*time.Second || b.MaxLine != 262118 || b.Lines != 4096 || b.Begins != nil {
		t.Errorf("%+v", b)
	}
	b = factory.Batch(containerWith(map[string]string{optFlushInterval: "2", optMaxBuffered: "20000", optMultiline: `^\[`}))
	if b.Linger != 2*time.Second || b.Lines != maxEvents || !b.Begins([]byte("[x")) || b.Begins([]byte("x [")) {
		t.Errorf("%+v", b)
	}
	// The lines of an event keep their newlines, as with Docker.
	s := newService(t)
	s.groups["/shop"] = true
	d, _ := s.open(t, map[string]string{optMultiline: `^\[`})
	writeAll(t, d, entries("[one\n two\n"))
	if got := s.texts(); !slices.Equal(got, []string{"[one\n two\n"}) {
		t.Errorf("%q", got)
	}
	if errors.Is(d.Sync(t.Context()), logs.ErrOptions) || d.Mark() != (logs.Mark{}) {
		t.Error("a remote driver has no position")
	}
}
